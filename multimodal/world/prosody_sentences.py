"""Sentences whose prosody hangs on what their words mean, each word marked with how it is said.

- *contrast*: "Not the blue car, the red vehicle." What differs from its counterpart before is
  emphasised; what is the same, or the same thing by another name, was given already and is not.
- *given*: "The hound came home. The dog was tired." What was spoken of before is de-emphasised,
  something new is emphasised ("The hound came home. The teacher was tired.").
- *list*: all items but the last rise.
- *question*: the last word rises; in the same words as a *statement* it does not.
- *quote*: what is quoted is said higher, who said it lower and faster.

Phones do not tell a synonym from another word: whoever has never heard the pair can but guess, the
core has read of both. Test sentences have templates that no training sentence has, and things,
colours, adjectives, food and places that are in no training sentence.
"""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from multimodal.world.lexicon import CLASSES, NOUNS, WordSplit

SAID = {
    "focus": 'rate="75%" pitch="+30%" volume="loud"',
    "given": 'rate="120%" pitch="-15%" volume="soft"',
    "item": 'pitch="+15%"',
    "rise": 'pitch="+25%"',
    "quoted": 'pitch="+15%"',
    "told": 'rate="115%" pitch="-15%" volume="soft"',
}
"""What a mark tells espeak-ng, as attributes of SSML's prosody element."""
SHARES = {"contrast": 0.4, "given": 0.3, "list": 0.1, "question": 0.1, "quote": 0.1}
_TEMPLATES: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "contrast": (
            "Not the [X] [Y], the [x] [y].",
            "It was not the [X] [Y], it was the [x] [y].",
            "[G] did not want the [X] [Y] but the [x] [y].",
            "The [X] [Y] is not here, but the [x] [y] is.",
            "I asked for the [X] [Y], and you gave me the [x] [y].",
            "[G] never owned a [X] [Y], only a [x] [y].",
            "She wanted a [X] [Y], not a [x] [y].",
            "It looked like a [X] [Y], but it was a [x] [y].",
            "[G] sold the [X] [Y] and kept the [x] [y].",
            "Instead of a [X] [Y] they found a [x] [y].",
        ),
        "given": (
            "The [N] came home. The [n] was tired.",
            "[G] saw a [N] near the [P]. Then the [n] was gone.",
            "We have a [N]. Everybody likes the [n].",
            "I like the [N], and [G] likes the [n].",
            "A [N] was in the [P], and a [n] was there too.",
            "[G] waited for the [N] until the [n] came.",
            "Look at that [N]! The [n] is here.",
            "The [N] and the [n] were near the [P].",
            "Nobody wanted the [N], because the [n] was old.",
        ),
        "list": (
            "We bought [f], [f] and [f].",
            "[G] likes [f], [f], [f] and [f].",
            "The colours are [c], [c] and [c].",
        ),
        "question": ("Did [G] see the [N]?", "[G] saw the [N].", "Is the [P] near the [P]?"),
        "quote": (
            '"The [N] is in the [P]," said [G].',
            '"I like the [X] [Y]," said [G].',
        ),
    },
    "test": {
        "contrast": (
            "We never saw the [X] [Y], only the [x] [y].",
            "Forget the [X] [Y], take the [x] [y].",
            "There was no [X] [Y] in the [P], but there was a [x] [y].",
        ),
        "given": (
            "There was a [N] in the [P], so [G] looked at the [n].",
            "[G] talked about the [N]. Nobody knew the [n].",
            "They sold the [N]. It was a good day, and [G] forgot the [n].",
        ),
        "list": ("They have [f], [f] and [f] here.", "[G] saw a [N], a [N] and a [N]."),
        "question": ("Was the [N] in the [P]?", "The [N] was in the [P]."),
        "quote": ('"There is no [N] here," said [G].', '"We saw the [X] [Y]," said [G].'),
    },
}
_PART = re.compile(r"\[(\w)\]|([\w'’]+)|(\W+?)")
_KEPT = 0.7
"""Share of the things and of the words of a class that training draws from."""
_SHARE_NAMED = 0.6
"""Of the things that are spoken of first, those that have another name."""


@dataclass(frozen=True)
class MarkedWord:
    """A word, the characters that follow it, and how it is said."""

    text: str
    after: str = " "
    mark: str = ""
    """A key of SAID, or none."""
    reason: str = ""
    """Why it is emphasised or not: repeated, synonym, or new; none where no template asks."""


@dataclass(frozen=True)
class ProsodySentence:
    """A sentence, word by word."""

    before: str
    """What stands before the first word: a quotation mark, or nothing."""
    words: tuple[MarkedWord, ...]
    kind: str

    @property
    def text(self) -> str:
        """As it is written."""
        return self.before + "".join(word.text + word.after for word in self.words)

    def ssml(self) -> tuple[str, tuple[int, ...]]:
        """For espeak-ng, and where in it each word starts."""
        said, starts = f"<speak>{self.before}", []
        for word in self.words:
            opening = f"<prosody {SAID[word.mark]}>" if word.mark else ""
            starts.append(len(said) + len(opening))
            # A mark of its own behind an element is read out: "dot".
            closing = "</prosody>" if word.mark else ""
            gap = " " if word.after.endswith(" ") else ""
            said += opening + word.text + word.after.strip() + closing + gap
        return said + "</speak>", tuple(starts)


def sentences(*, split: WordSplit, seed: int) -> Iterator[ProsodySentence]:
    """Sentences of a split without end; validation has words and templates of training."""
    rng = random.Random(f"prosody {split} {seed}")
    part = "test" if split == "test" else "train"
    while True:
        kind = rng.choices([*SHARES], weights=[*SHARES.values()])[0]
        yield drawn(rng.choice(_TEMPLATES[part][kind]), rng, kind=kind, part=part)


def members(name: str, part: str) -> tuple[str, ...]:
    """The words of a class that the sentences of training, or those of the test, draw."""
    words = sorted(CLASSES[name])
    random.Random(f"prosody {name}").shuffle(words)
    number = round(_KEPT * len(words))
    return tuple(words[:number] if part == "train" else words[number:])


def things(part: str) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """What the sentences of training or test speak of: what has several names, and what has one."""
    kept = []
    for is_named in (True, False):
        names = sorted(each for each in NOUNS if (len(each) > 1) == is_named)
        random.Random("prosody things").shuffle(names)
        number = round(_KEPT * len(names))
        kept.append(tuple(names[:number] if part == "train" else names[number:]))
    return kept[0], kept[1]


def drawn(template: str, rng: random.Random, *, kind: str, part: str) -> ProsodySentence:
    """A template with its slots filled, and its words marked."""
    slots = _Slots(rng, part, besides=[text for _, text, _ in _PART.findall(template)])
    words: list[MarkedWord] = []
    before, is_quoted = "", False
    for slot, text, other in _PART.findall(template):
        if other:
            is_quoted ^= other == '"'
            if words:
                words[-1] = replace(words[-1], after=words[-1].after.strip() + other)
            else:
                before += other
            continue
        filled, reason = slots.fill(slot) if slot else (text, "")
        if words and words[-1].text in ("a", "A") and filled[0] in "aeiou":
            words[-1] = replace(words[-1], text=words[-1].text + "n")
        mark = {"new": "focus", "repeated": "given", "synonym": "given"}.get(reason, "")
        if kind == "quote":
            mark = "quoted" if is_quoted else "told"
        elif kind == "list" and slot in ("f", "c", "N"):
            mark = "item"
        words.append(MarkedWord(filled, " ", mark, reason))
    if words[-1].after == " ":
        words[-1] = replace(words[-1], after="")
    if kind == "list":  # the last item ends the list
        last = max(index for index, word in enumerate(words) if word.mark)
        words[last] = replace(words[last], mark="")
    if words[-1].after == "?":
        words[-1] = replace(words[-1], mark="rise")
    return ProsodySentence(before, tuple(words), kind)


class _Slots:
    """What the slots of one sentence hold, so that a later one can be the same as an earlier."""

    def __init__(self, rng: random.Random, part: str, *, besides: Iterable[str]) -> None:
        self._rng, self._part, self._things = rng, part, things(part)
        self._seen = set(besides)
        self._first: dict[str, str] = {}
        # Just one half of a pair differs: which one is contrasted is then beyond doubt.
        self._differs = rng.choice("xy")
        self._modifiers = rng.choice(("colour", "adjective"))

    def fill(self, slot: str) -> tuple[str, str]:
        """A word for a slot, and the reason why it is said as it is."""
        rng = self._rng
        if slot == "X":
            self._first["x"] = self._new(members(self._modifiers, self._part))
            return self._first["x"], ""
        if slot in "YN":
            named = self._unseen(self._things[rng.random() >= _SHARE_NAMED])
            self._first["y"] = self._first["n"] = self._new(named)
            return self._first["n"], ""
        if slot == "x":
            if self._differs == "x":
                return self._new(members(self._modifiers, self._part)), "new"
            return self._first["x"], "repeated"
        if slot in "yn":
            first = self._first[slot]
            every = [*self._things[0], *self._things[1]]
            own = next(named for named in every if first in named)
            is_new = self._differs == "y" if slot == "y" else rng.random() < 0.5
            if is_new:
                return self._new(self._unseen(every)), "new"
            if len(own) == 1 or rng.random() < 0.3:
                return first, "repeated"
            return rng.choice([word for word in own if word != first]), "synonym"
        name = {"G": "given", "P": "place", "f": "food", "c": "colour"}[slot]
        return self._new(members(name, self._part)), ""

    def _unseen(self, things: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
        """Something that the sentence has by no name."""
        return self._rng.choice([each for each in things if not self._seen.intersection(each)])

    def _new(self, words: tuple[str, ...]) -> str:
        """A word that the sentence has not."""
        word = self._rng.choice([word for word in words if word not in self._seen])
        self._seen.add(word)
        return word
