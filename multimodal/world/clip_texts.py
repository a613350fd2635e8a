"""What is said of a clip: its caption, and questions that one frame answers or only several.

A caption is a function of what happens alone. Every question has one right answer. All that is to
be answered is worded as pictures are (`multimodal.world.texts`): the frozen core says what it has
learned to say, and hardly tells apart the tokens that it never had to. Where somebody speaks in a
clip, it may be watched and heard at once: what is asked is what is seen, or what is said.
"""

import random
from typing import Any

from multimodal.prompts import SpeechPrompts
from multimodal.world.clips import DIRECTIONS, MOST_TIMES, ClipScene, Track
from multimodal.world.sentences import LANGUAGES
from multimodal.world.texts import NUMBERS, Message, Question, a, sentence

CLIP_PROMPTS = ("Describe the clip.", "What happens?")
CLIP_QUESTION_KINDS = ("name", "colour", "size", "move", "order", "recolour", "resize", "times",
                       "pass")  # fmt: skip
_OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
_ENDS = {"left": "left", "right": "right", "up": "above", "down": "below"}
"""Where a thing ends that goes a way."""


def clip_caption(clip: ClipScene) -> str:
    """The one caption of a clip."""
    first, *rest = clip.tracks
    one = _one(first)
    if clip.event == "move":
        beside = f" and {_one(rest[0])}" if rest else ""
        return sentence(f"{one} {_towards(clip.alternative)}{beside}")
    if clip.event == "order":
        return sentence(f"{one} and then {_one(rest[0])}")
    if clip.event == "recolour":
        return sentence(" and then ".join(a(f"{colour} {first.kind}") for colour in first.colours))
    if clip.event == "resize":
        sizes = ("small", "big") if clip.alternative == "grows" else ("big", "small")
        look = one.partition(" ")[2]
        return sentence(" and then ".join(f"a {size} {look}" for size in sizes))
    if clip.event == "times":
        return sentence(" and then ".join([one] * int(clip.alternative)))
    ways = ("right", "left") if clip.alternative == "across" else ("down", "up")
    return sentence(f"{one} {_towards(ways[0])} and {_one(rest[0])} {_towards(ways[1])}")


def clip_questions(clip: ClipScene, rng: random.Random) -> list[Question]:
    """All kinds of questions that suit a clip, in random order."""
    asked = [*_about_order(clip, rng), *_about_one_frame(clip, rng)]
    rng.shuffle(asked)
    return asked


def clip_dialogues(
    clip: ClipScene, rng: random.Random, *, most: int = 4, spoken: dict[str, Any] | None = None
) -> list[list[Message]]:
    """Separate dialogues about one clip: questions, and the wish for a description.

    Args:
        clip: what they are about.
        rng: chooses questions and wording.
        most: dialogues about what is seen.
        spoken: what is said in it, if anything: then two dialogues at most are about what is
            seen, one of them with the sound, and one more asks for the transcript or a translation.
    """
    asked = [(question.text, question.answer) for question in clip_questions(clip, rng)]
    asked = asked[: most - 1]
    asked.append((rng.choice(CLIP_PROMPTS), clip_caption(clip)))
    if spoken is None:
        return [ask_about_clip(text, answer) for text, answer in asked]
    drawn = rng.sample(asked, min(2, len(asked)))  # recordings make rows long
    seen = [ask_about_clip(*words, sound=index == 0) for index, words in enumerate(drawn)]
    return [*seen, _about_speech(spoken, rng)]


def ask_about_clip(text: str, answer: str, *, sound: bool = False) -> list[Message]:
    """The sample's clip, a question about it, and what should be answered.

    Args:
        text: the question.
        answer: what should be answered.
        sound: whether the clip is heard, too.
    """
    content = [_shown(sound=sound), {"type": "text", "text": text}]
    return [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]


def _about_speech(spoken: dict[str, Any], rng: random.Random) -> list[Message]:
    """The transcript of what is said in a clip that is seen and heard, or a translation."""
    prompts, answer = SpeechPrompts(), spoken["text"]
    prompt = prompts.transcribe.format(language=LANGUAGES[spoken["lang"]])
    if rng.random() < 0.4:
        language, answer = rng.choice(list(spoken["translations"].items()))
        prompt = prompts.translate.format(language=language)
    return [
        {"role": "system", "content": prompt},
        {"role": "user", "content": [_shown(sound=True)]},
        {"role": "assistant", "content": answer},
    ]


def _shown(*, sound: bool) -> dict[str, Any]:
    return {"type": "video", "sound": True} if sound else {"type": "video"}


def _about_order(clip: ClipScene, rng: random.Random) -> list[Question]:
    """What only several frames in their order can tell."""
    first, *rest = clip.tracks
    if clip.event == "move":
        return _about_move(clip)
    if clip.event == "order":
        other = rest[0]
        both = (_named(first), _named(other))
        ones = [
            _several("order", "What comes first?", _named(first), both),
            _several("order", "What comes last?", _named(other), both),
        ]
        text, answer = f"Does the {first.kind} come before the {other.kind}?", "Yes."
        if rng.random() < 0.5:
            text, answer = f"Does the {other.kind} come before the {first.kind}?", "No."
        return [rng.choice(ones), _several("order", text, answer, ("Yes.", "No."))]
    if clip.event == "recolour":
        start, end = (sentence(str(colour)) for colour in first.colours)
        which = rng.random() < 0.5
        when = "at first" if which else "at the end"
        text = f"What colour is the {first.kind} {when}?"
        return [_several("recolour", text, start if which else end, (start, end))]
    if clip.event == "resize":
        grows = clip.alternative == "grows"
        change, is_asked = rng.choice((("grow", grows), ("shrink", not grows)))
        when, is_big = rng.choice((("at first", not grows), ("at the end", grows)))
        text, answer = f"Does the {first.kind} {change}?", "Yes." if is_asked else "No."
        sizes = f"Is the {first.kind} big or small {when}?"
        return [
            _several("resize", text, answer, ("Yes.", "No.")),
            _several("resize", sizes, "Big." if is_big else "Small.", ("Big.", "Small.")),
        ]
    if clip.event == "times":
        numbers = tuple(sentence(number) for number in NUMBERS[1 : MOST_TIMES + 1])
        text = f"How many times does the {first.kind} appear?"
        return [_several("times", text, numbers[int(clip.alternative) - 1], numbers)]
    return _about_passing(clip, rng)


def _about_move(clip: ClipScene) -> list[Question]:
    mover, *rest = clip.tracks
    ways: tuple[str, ...] = tuple(sentence(_ENDS[way]) for way in DIRECTIONS)
    if rest:  # the other thing stands still: what moves is seen to move along its line
        line = (clip.alternative, _OPPOSITE[clip.alternative])
        ways = tuple(sentence(_ENDS[way]) for way in DIRECTIONS if way in line)
    text = f"Where does the {mover.kind} go?"
    return [_several("move", text, sentence(_ENDS[clip.alternative]), ways)]


def _about_passing(clip: ClipScene, rng: random.Random) -> list[Question]:
    first, second = clip.tracks
    choices = (_named(first), _named(second))
    near, far = "on the left", "on the right"
    if clip.alternative == "upright":
        near, far = "above", "below"
    place, at_first = rng.choice((near, far)), rng.random() < 0.5
    starts_there = place == near  # the first track starts left or on top
    text = f"What is {place} {'at first' if at_first else 'at the end'}?"
    answer = choices[0] if starts_there == at_first else choices[1]
    way = "right" if clip.alternative == "across" else "down"
    asked, direction = rng.choice(((first, way), (second, _OPPOSITE[way])))
    ways = tuple(sentence(_ENDS[each]) for each in sorted((way, _OPPOSITE[way])))
    text_of_way = f"Where does the {asked.kind} go?"
    return [
        _several("pass", text, answer, choices),
        _several("pass", text_of_way, sentence(_ENDS[direction]), ways),
    ]


def _about_one_frame(clip: ClipScene, rng: random.Random) -> list[Question]:
    """What any frame tells in which the thing is."""
    asked = []
    first = clip.tracks[0]
    named = tuple(map(_named, clip.tracks))
    if len(clip.tracks) == 1 and clip.event != "recolour":
        asked.append(_one_frame("name", "What do you see?", named[0], named))
    if len(clip.tracks) == 2 and clip.event in ("move", "pass"):
        asked_of = rng.randrange(2)
        text = f"What is next to the {clip.tracks[1 - asked_of].kind}?"
        asked.append(_one_frame("name", text, named[asked_of], named))
    shapes = [t for t in clip.tracks if len(t.colours) == 1 and t.colours[0] is not None]
    if shapes and clip.event != "order":
        shape = rng.choice(shapes)
        seen = tuple(sorted({sentence(str(each.colours[0])) for each in shapes}))
        text = f"What colour is the {shape.kind}?"
        asked.append(_one_frame("colour", text, sentence(str(shape.colours[0])), seen))
    if clip.event in ("move", "times") and len(clip.tracks) == 1:
        text = f"Is the {first.kind} big or small?"
        asked.append(_one_frame("size", text, sentence(first.size), ("Big.", "Small.")))
    return asked


def _several(kind: str, text: str, answer: str, choices: tuple[str, ...]) -> Question:
    return Question(kind=kind, text=text, answer=answer, choices=choices, frames="several")


def _one_frame(kind: str, text: str, answer: str, choices: tuple[str, ...]) -> Question:
    return Question(kind=kind, text=text, answer=answer, choices=choices)


def _towards(way: str) -> str:
    """How a thing goes, as a caption says it."""
    return f"to the {way}" if way in ("left", "right") else _ENDS[way]


def _one(track: Track) -> str:
    colour = track.colours[0]
    return a(track.kind if colour is None else f"{colour} {track.kind}")


def _named(track: Track) -> str:
    return sentence(_one(track))
