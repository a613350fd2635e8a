"""What is said of a scene: its caption, questions with short answers, written descriptions.

A caption is a function of the picture alone: a group is "Three small dogs.", a pair "A big red
circle above a small cat.", the left or upper thing first. Every question has one right answer.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from multimodal.world.scenes import (
    COLOURS,
    OPPOSITE,
    RELATIONS,
    SHAPES,
    SIZES,
    THINGS,
    Item,
    Scene,
)

NUMBERS = ("zero", "one", "two", "three", "four")
QUESTION_KINDS = ("name", "colour", "size", "count", "relation")
CAPTION_PROMPTS = ("Describe the picture.", "What does the picture show?")
Message = dict[str, str | list[dict[str, str]]]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a picture, its answer, and what else one could say that is in view."""

    kind: str
    """One of QUESTION_KINDS."""
    text: str
    answer: str
    choices: tuple[str, ...]
    """The answers that somebody could give who knows the things in view and guesses the rest."""
    frames: Literal["one", "several"] = "one"
    """Of a clip: whether one frame can answer it, or only several in their order."""


def caption(scene: Scene) -> str:
    """The one caption of a scene."""
    return _caption_of(list(scene.items), scene.relation if scene.is_pair else None)


def _caption_of(items: list[Item], relation: str | None) -> str:
    if relation is not None:
        first, second = items
        return sentence(f"{_full(first)} {relation} {_full(second)}")
    item, number = items[0], len(items)
    if number == 1:
        return sentence(_full(item))
    return sentence(f"{NUMBERS[number]} {item.size} {_look(item, number)}")


def questions(scene: Scene, rng: random.Random) -> list[Question]:
    """One question of every kind that suits the scene, in random order."""
    makers: list[Callable[[Scene, random.Random], Question | None]] = [_name, _colour, _size]
    if scene.is_pair:
        makers += [_where, _side]
    else:
        makers.append(_count)
    asked = [question for maker in makers if (question := maker(scene, rng)) is not None]
    rng.shuffle(asked)
    return asked


def _name(scene: Scene, rng: random.Random) -> Question:
    item = rng.choice(scene.items)
    if scene.is_pair:
        other = scene.items[1 - scene.items.index(item)]
        text = f"What is next to the {item.kind}?"
        choices = (sentence(_one(item)), sentence(_one(other)))
        return Question(kind="name", text=text, answer=choices[1], choices=choices)
    number = len(scene.items)
    text = rng.choice(["What is this?", "What do you see?"])
    if number > 1:
        text = rng.choice(["What are these?", "What do you see?"])
    answer = sentence(_one(item) if number == 1 else _look(item, number))
    return Question(kind="name", text=text, answer=answer, choices=(answer,))


def _colour(scene: Scene, rng: random.Random) -> Question | None:
    shapes = [item for item in scene.items if item.colour is not None]
    if not shapes:
        return None
    item = rng.choice(shapes)
    number = 1 if scene.is_pair else len(scene.items)
    verb = "is" if number == 1 else "are"
    text = f"What colour {verb} the {_noun(item.kind, number)}?"
    choices = tuple(sorted({f"{str(shape.colour).capitalize()}." for shape in shapes}))
    answer = f"{str(item.colour).capitalize()}."
    return Question(kind="colour", text=text, answer=answer, choices=choices)


def _size(scene: Scene, rng: random.Random) -> Question:
    item = rng.choice(scene.items)
    number = 1 if scene.is_pair else len(scene.items)
    verb = "Is" if number == 1 else "Are"
    text = f"{verb} the {_noun(item.kind, number)} big or small?"
    return Question(kind="size", text=text, answer=sentence(item.size), choices=("Big.", "Small."))


def _count(scene: Scene, rng: random.Random) -> Question:
    answers = tuple(sentence(number) for number in NUMBERS[1:])
    return Question(
        kind="count",
        text=f"How many {_noun(scene.items[0].kind, 2)} are there?",
        answer=answers[len(scene.items) - 1],
        choices=answers,
    )


def _where(scene: Scene, rng: random.Random) -> Question:
    item, other, relation = _as_seen(scene, rng)
    choices = tuple(sentence(f"{each} the {other.kind}") for each in RELATIONS)
    return Question(
        kind="relation",
        text=f"Where is the {item.kind}?",
        answer=choices[RELATIONS.index(relation)],
        choices=choices,
    )


def _side(scene: Scene, rng: random.Random) -> Question:
    item, other, relation = _as_seen(scene, rng)
    place = f"to the {relation.removesuffix(' of')}" if relation.endswith(" of") else relation
    choices = (sentence(_one(item)), sentence(_one(other)))
    return Question(kind="relation", text=f"What is {place}?", answer=choices[0], choices=choices)


def _as_seen(scene: Scene, rng: random.Random) -> tuple[Item, Item, str]:
    """A thing of the pair, the other one, and how the first stands to it."""
    first, second = scene.items
    if rng.random() < 0.5:
        return first, second, scene.relation
    return second, first, OPPOSITE[scene.relation]


def _full(item: Item) -> str:
    return f"a {item.size} {_look(item, 1)}"


def _one(item: Item) -> str:
    return a(_look(item, 1))


def _look(item: Item, number: int) -> str:
    noun = _noun(item.kind, number)
    return noun if item.colour is None else f"{item.colour} {noun}"


def _noun(kind: str, number: int) -> str:
    return kind if number == 1 or kind == "fish" else f"{kind}s"


def a(words: str) -> str:
    """The words after "a" or "an"."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def sentence(words: str) -> str:
    """The words as a sentence."""
    return f"{words[0].upper()}{words[1:]}."


def ask(text: str, answer: str, *, pictures: list[str] | None = None) -> list[Message]:
    """A turn of a dialogue: the user's, with pictures before it if any, and the assistant's.

    Args:
        text: what the user says.
        answer: what the assistant should say.
        pictures: names of pictures that the user shows; "" is the sample's own.
    """
    content: list[dict[str, str]] = [
        {"type": "image", "image": name} if name else {"type": "image"} for name in pictures or []
    ]
    return [
        {"role": "user", "content": [*content, {"type": "text", "text": text}]},
        {"role": "assistant", "content": answer},
    ]


def dialogue(
    scene: Scene, rng: random.Random, *, turns: int = 1, picture: str | None = ""
) -> list[Message]:
    """A dialogue about one picture: questions, or now and then a wish for a description.

    Args:
        scene: what the picture shows.
        rng: chooses the questions.
        turns: how many questions, at most.
        picture: the picture's name, shown in the first turn; None writes its caption instead.
    """
    asked = [(question.text, question.answer) for question in questions(scene, rng)]
    if rng.random() < 0.15:
        asked.insert(0, (rng.choice(CAPTION_PROMPTS), caption(scene)))
    messages: list[Message] = []
    for number, (text, answer) in enumerate(asked[:turns]):
        first = number == 0
        if first and picture is None:
            text = f"{caption(scene)} {text}"
        messages += ask(text, answer, pictures=[picture] if first and picture is not None else None)
    return messages


def examination(scene: Scene, rng: random.Random) -> list[Message]:
    """Up to four questions about a pair whose caption is written in the first, mostly relations.

    How one thing stands to the other takes a small core longest to learn: it has to join who is
    asked about, who was named first, and the relation between them.
    """
    makers: list[Callable[[Scene, random.Random], Question | None]]
    makers = [_where, _where, _side, _size, _name, _colour]
    asked = {}
    for _ in range(rng.randint(1, 4)):
        question = rng.choice(makers)(scene, rng)
        if question is not None:
            asked[question.text] = question.answer
    messages: list[Message] = []
    for text, answer in asked.items():
        messages += ask(text if messages else f"{caption(scene)} {text}", answer)
    return messages


def near_misses(scene: Scene, rng: random.Random, *, number: int) -> list[str]:
    """Captions that are wrong in one word: a thing, a colour, a size, a number or a relation."""
    right = caption(scene)
    wrong: list[str] = []
    while len(wrong) < number:
        items = list(scene.items)
        if not scene.is_pair and rng.random() < 0.4:
            items = items[:1] * rng.choice([n for n in range(1, 5) if n != len(items)])
        elif scene.is_pair and rng.random() < 0.3:
            items.reverse()
        else:
            changed = rng.choice(items)
            other = _changed(changed, scene, rng)
            items = [other if i is changed or not scene.is_pair else i for i in items]
        said = _caption_of(items, scene.relation if scene.is_pair else None)
        if said != right and said not in wrong:
            wrong.append(said)
    return wrong


def _changed(item: Item, scene: Scene, rng: random.Random) -> Item:
    """The item with another size, colour or kind."""
    present = {other.kind for other in scene.items}
    alike = SHAPES if item.colour else tuple(THINGS)
    kinds = [kind for kind in alike if kind not in present]
    part = rng.choice(["size", *["kind"] * bool(kinds), *["colour"] * bool(item.colour)])
    if part == "size":
        return replace(item, size="big" if item.size == "small" else "small")
    if part == "colour":
        return replace(item, colour=rng.choice([c for c in COLOURS if c != item.colour]))
    return replace(item, kind=rng.choice(kinds))


def repetition(rng: random.Random) -> list[Message]:
    """A dialogue that asks for words in any order to be said again."""
    nouns = [_noun(kind, number) for kind in (*THINGS, *SHAPES) for number in (1, 2)]
    words = [*nouns, *COLOURS, *SIZES, *NUMBERS, *RELATIONS]
    said = " ".join(rng.choice(words) for _ in range(rng.randint(3, 10)))
    return ask(f"Repeat: {said}.", f"{said}.")


def small_talk(rng: random.Random) -> list[Message]:
    """A dialogue without any picture, about the world's words."""
    kind = rng.choice([*THINGS, *SHAPES])
    number = rng.randint(0, len(NUMBERS) - 2)
    relation = rng.choice(RELATIONS)
    opposite = OPPOSITE[relation].removesuffix(" of")
    exchanges = [
        ("Hello!", "Hello! Show me a picture."),
        (f"What comes after {NUMBERS[number]}?", sentence(NUMBERS[number + 1])),
        (f"What is the opposite of {relation.removesuffix(' of')}?", sentence(opposite)),
        (f"How do you say {a(kind)} and {a(kind)}?", sentence(f"two {_noun(kind, 2)}")),
        (f"Is {rng.choice(list(COLOURS))} a colour?", "Yes."),
        (f"Is {rng.choice(NUMBERS)} a colour?", "No."),
        (f"Is {a(kind)} a shape?", "Yes." if kind in SHAPES else "No."),
    ]
    rng.shuffle(exchanges)
    return [
        message for text, answer in exchanges[: rng.randint(1, 3)] for message in ask(text, answer)
    ]
