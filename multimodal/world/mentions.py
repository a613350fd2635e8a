"""Text in which it matters whether something was spoken of before.

In real text what follows hangs on what a word refers to: whoever finds the hound *again* had seen a
dog, whoever finds the teacher *instead* had not seen a teacher. A core that has read enough of it
knows at each word whether that is given or new. The speaking core learns it from such sentences, of
all nouns of :mod:`multimodal.world.lexicon` in frames of their own: nothing of them says how a word
is spoken, and no template of :mod:`multimodal.world.prosody_sentences` is among them.
"""

import random
import re
from collections.abc import Iterator

from multimodal.world.lexicon import CLASSES, NOUNS

FIRST = (
    "A # stood near the [place]",
    "[given] painted the #",
    "Nobody needed the #",
    "The # was heavy",
    "[given] dreamed of a #",
    "Yesterday a # was lost",
    "My friends showed us a #",
    "It began with the #",
    "Somebody pointed at the # by the [place]",
    "You can not buy the #",
    "This is not the #",
    "Instead of a # there was nothing in the [place]",
    "No # was there",
    "Nobody spoke of a #",
)
"""Something is spoken of."""
BETWEEN = (". Later ", ", and ", ", but ", ". Then ", ", so ", ". At night ", ", while ", ", then ")
ASIDE = (
    ". It rained all day",
    ". Everybody was glad",
    ". The [place] was closed",
    ". [given] and [given] were tired",
    ", and nobody was sad",
)
"""What may come in between."""
SECOND = (
    "[given] found the # ~",
    "the # ~ lay in the [place]",
    "they told us of the # ~",
    "we brought a # ~",
    "the # ~ made [given] laugh",
    "[given] looked for a # ~",
    "everyone loved the # ~",
    "here is the # ~",
    "the # ~ fell down",
    "up came a # ~",
    "only a # ~ was left",
    "never the # ~",
    "please bring the # ~",
)
"""Something is spoken of after it; what follows says whether it is the same."""
FOLLOWS = {
    (True, True): ("again", "once more", "as before"),
    (True, False): ("of another sort", "looking otherwise", "that was not alike"),
    (False, True): ("of the same sort", "looking alike", "to match"),
    (False, False): ("instead", "for a change", "as something new"),
}
"""What follows where the thing is the same or not, and where it is of the same kind or not."""
WALKS = (
    "On the way [given] saw %.",
    "What was in the [place]: %.",
    "They sold %.",
    "First came %.",
    "[given] and [given] counted %.",
)
"""Many things are met, some of them more than once."""
MET = {True: "again", False: "too"}
"""What follows a thing that was met before, and one that was not."""
ECHOES = (
    ("[given] said: ", ". And [given] said: "),
    ("Words: ", ". In other words: "),
    ("", ", or "),
)
"""Many things are named in the same order again."""
_WALKS, _ECHOES, _MOST_MET, _MOST_NAMED = 0.3, 0.4, 5, 10
"""Shares of the kinds of text, and the most things in one."""
_MODIFIED, _SAME, _ALIKE, _RENAMED, _ASIDE = 0.5, 0.5, 0.5, 0.6, 0.2
_SLOT = re.compile(r"\[(\w+)\]")


def sentences(*, seed: int) -> Iterator[str]:
    """Sentences without end."""
    rng = random.Random(f"mentions {seed}")
    while True:
        chance = rng.random()
        if chance < _WALKS:
            yield walk(rng)
        elif chance < _WALKS + _ECHOES:
            yield echo(rng)
        else:
            yield drawn(rng)


def echo(rng: random.Random) -> str:
    """Some things, and the same in the same order once more, each by any of its names."""
    things = rng.choices(NOUNS, k=rng.randint(3, _MOST_NAMED))
    before, between = rng.choice(ECHOES)
    first, second = (" ".join(rng.choice(names) for names in things) for _ in range(2))
    return _finished(f"{before}{first}{between}{second}.", rng)


def walk(rng: random.Random) -> str:
    """Some things, one after the other, by any of their names."""
    things = rng.sample(NOUNS, rng.randint(2, _MOST_MET))
    met: set[tuple[str, ...]] = set()
    parts = []
    for _ in range(2 * len(things)):
        names = rng.choice(things)
        parts.append(f"a {rng.choice(names)} {MET[names in met]}")
        met.add(names)
    return _finished(rng.choice(WALKS).replace("%", ", ".join(parts)), rng)


def drawn(rng: random.Random) -> str:
    """Something, and the same or something else after it."""
    names = rng.choice(NOUNS)
    first = rng.choice(names)
    is_same = rng.random() < _SAME
    second = first
    if not is_same:
        second = rng.choice(rng.choice([other for other in NOUNS if other != names]))
    elif len(names) > 1 and rng.random() < _RENAMED:
        second = rng.choice([name for name in names if name != first])
    is_alike = is_same  # a thing that nothing else is said of
    if rng.random() < _MODIFIED:
        is_alike = rng.random() < _ALIKE
        kinds = CLASSES[rng.choice(("colour", "adjective"))]
        kind, other = rng.sample(kinds, 2)
        first = f"{kind} {first}"
        second = f"{kind if is_alike else other} {second}"
    follows = rng.choice(FOLLOWS[is_same, is_alike])
    text = rng.choice(FIRST).replace("#", first)
    if rng.random() < _ASIDE:
        text += rng.choice(ASIDE)
    text += rng.choice(BETWEEN) + rng.choice(SECOND).replace("#", second).replace("~", follows)
    return _finished(text + ".", rng)


def _finished(text: str, rng: random.Random) -> str:
    text = _SLOT.sub(lambda slot: rng.choice(CLASSES[slot[1]]), text)
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return text[:1].upper() + text[1:]
