"""WordNet (Miller 1995), read from a folder: base forms of words, and how alike two words are.

The folder holds the dictionary's own files, as Debian's package `wordnet-base` puts them into
/usr/share/wordnet and as NLTK's corpora/wordnet has them. Results are those of NLTK, which itself
reads no folder but its own, and wants files that Debian's package lacks.
"""

from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from language.errors import InputError

PARTS = ("noun", "verb", "adj", "adv")
"""Parts of speech, as files are named, in the order in which a word's meanings are looked up."""

_ENDINGS = {
    "noun": "s: ses:s ves:f xes:x zes:z ches:ch shes:sh men:man ies:y",
    "verb": "s: ies:y es:e es: ed:e ed: ing:e ing:",
    "adj": "er: est: er:e est:e",
    "adv": "",
}
"""Endings of inflected forms, and those of their base forms: the rules of WordNet's morphy."""


class Synset(NamedTuple):
    """A meaning that several words share; nouns and verbs have wider meanings above them."""

    part: str
    """One of ``PARTS``."""
    offset: int
    """Of its line in the part's data file, in bytes."""


_ROOT = Synset("", -1)
"""Put above everything where verbs are compared, since these have no common top."""


class WordNet:
    """A dictionary folder; its files are read when they are first needed.

    Args:
        folder: where the files are.

    Raises:
        InputError: the folder or a file of it is missing. Later, as files are read: one is broken.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        files = [f"{kind}.{part}" for kind in ("index", "data") for part in PARTS]
        missing = [file for file in files if not (self.folder / file).is_file()]
        if missing:
            raise InputError(
                folder,
                f"no WordNet dictionary, since {missing[0]} is missing; it is what Debian's "
                "wordnet-base has in /usr/share/wordnet, or NLTK's corpora/wordnet",
            )
        # caches that end with the object
        self._hypernyms = cache(self._read_hypernyms)
        self._depths = cache(self._measure_depths)

    def base_forms(self, word: str, *, part: str) -> list[str]:
        """The words of a part of speech of which this may be a form, itself first if it is one.

        Args:
            word: in lower case.
            part: one of ``PARTS``.
        """
        endings = [ending.split(":") for ending in _ENDINGS[part].split()]
        forms = self._exceptions[part].get(word) or [
            word.removesuffix(inflected) + base
            for inflected, base in endings
            if word.endswith(inflected)
        ]
        return [form for form in dict.fromkeys([word, *forms]) if form in self._index[part]]

    def is_irregular(self, word: str, *, part: str) -> bool:
        """Whether a word is in a part's list of irregular forms."""
        return word in self._exceptions[part]

    def synset(self, word: str) -> Synset | None:
        """The first meaning of a word in any form: of nouns, else verbs, adjectives, adverbs."""
        word = word.lower()
        for part in PARTS:
            for form in self.base_forms(word, part=part):
                return Synset(part, self._index[part][form][0])
        return None

    def similarity(self, first: Synset, second: Synset) -> float:
        """How alike two meanings are by Wu and Palmer (1994), 0 to 1; 0 if nothing is above both.

        Twice the depth of what is above both, over the sum of their depths by way of it. What is
        above both is, as in NLTK, the one with the longest of shortest ways to the top; its depth
        is the longest way. Not symmetrical: if the first is above the second it is taken itself.
        """
        rooted = first.part != "noun" or second.part != "noun"
        above_first, above_second = self._above(first, rooted), self._above(second, rooted)
        common = above_first.keys() & above_second.keys()
        if not common:
            return 0.0
        lowest = max(self._depths(synset)[0] for synset in common)
        nearest = [synset for synset in common if self._depths(synset)[0] == lowest]
        shared = first if first in nearest else min(nearest, key=self._name)
        depth, above_shared = self._depths(shared)[1] + 1, self._above(shared, rooted)
        steps = _distance(above_first, above_shared) + _distance(above_second, above_shared)
        return 2 * depth / (steps + 2 * depth)

    def _above(self, synset: Synset, rooted: bool) -> dict[Synset, int]:
        """What is above a meaning, itself included, and how many steps it is away at least."""
        steps, reached = {synset: 0}, [synset]
        for below in reached:  # which grows: what is nearer comes earlier
            for above in self._hypernyms(below):
                if above not in steps:
                    steps[above] = steps[below] + 1
                    reached.append(above)
        if rooted and synset != _ROOT:
            steps[_ROOT] = max(steps.values()) + 1
        return steps

    def _measure_depths(self, synset: Synset) -> tuple[int, int]:
        """Length of the shortest and of the longest way to a top."""
        ways = [self._depths(above) for above in self._hypernyms(synset)]
        return (
            1 + min((shortest for shortest, _ in ways), default=-1),
            1 + max((longest for _, longest in ways), default=-1),
        )

    def _read_hypernyms(self, synset: Synset) -> tuple[Synset, ...]:
        """What is directly above a meaning, of which it is a kind or an instance."""
        if synset == _ROOT:
            return ()
        fields = self._fields(synset)
        pointers = fields[5 + 2 * int(fields[3], 16) :]  # after a word and a number for each word
        pairs = zip(pointers[::4], pointers[1::4], strict=False)  # kind of pointer, and where to
        return tuple(Synset(synset.part, int(to)) for kind, to in pairs if kind in ("@", "@i"))

    def _name(self, synset: Synset) -> str:
        """NLTK's name of a meaning, by which it decides between equals; the root's is first."""
        if synset == _ROOT:
            return ""
        word = self._fields(synset)[4].lower()
        number = self._index[synset.part][word].index(synset.offset) + 1
        return f"{word}.{synset.part[0]}.{number:02}"

    def _fields(self, synset: Synset) -> list[str]:
        data, start = self._data[synset.part], synset.offset
        fields = data[start : data.find(b"\n", start)].partition(b"|")[0].decode().split()
        if not fields or fields[0] != f"{start:08}":
            raise InputError(
                self.folder / f"data.{synset.part}",
                f"has no entry at byte {start}; are all files of the folder of one version?",
            )
        return fields

    @cached_property
    def _data(self) -> dict[str, bytes]:
        return {part: (self.folder / f"data.{part}").read_bytes() for part in PARTS}

    @cached_property
    def _index(self) -> dict[str, dict[str, list[int]]]:
        """Offsets of each word's meanings, the most frequent one first, by part of speech."""
        return {part: self._read_index(part) for part in PARTS}

    def _read_index(self, part: str) -> dict[str, list[int]]:
        """A word, its part, how many meanings, a number of pointers, these, two numbers, offsets.

        Lines that begin with a space are the licence.
        """
        file = self.folder / f"index.{part}"
        try:
            lines = [line.split() for line in file.read_text().splitlines() if line[:1] != " "]
            return {line[0]: [int(n) for n in line[-int(line[2]) :]] for line in lines}
        except (ValueError, IndexError):
            raise InputError(file, "is no index of WordNet") from None

    @cached_property
    def _exceptions(self) -> dict[str, dict[str, list[str]]]:
        """Irregular forms and their base forms, by part of speech; a part may have no such file."""
        files = {part: self.folder / f"{part}.exc" for part in PARTS}
        return {
            part: {
                line.split()[0]: line.split()[1:]
                for line in (file.read_text().splitlines() if file.is_file() else ())
            }
            for part, file in files.items()
        }


def _distance(above_one: dict[Synset, int], above_other: dict[Synset, int]) -> int:
    """Steps from one meaning to another, up and down, by the shortest way.

    Even to a meaning above it, the way may lead further up and down again.
    """
    return min(above_one[synset] + above_other[synset] for synset in above_one.keys() & above_other)
