"""Small dictionaries in WordNet's own format, written by hand: what tests read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

Meanings = Mapping[str, tuple[Sequence[str], Sequence[str]]]
"""By name: the words of a meaning, and the names of the meanings directly above it."""

LICENCE = "  1 A dictionary in the format of WordNet 3.0 Copyright by nobody.  \n"


def write_dictionary(
    folder: Path,
    *,
    nouns: Meanings,
    verbs: Meanings | None = None,
    adjectives: Meanings | None = None,
    adverbs: Meanings | None = None,
    exceptions: Mapping[str, str] | None = None,
) -> Path:
    """Write all files of a dictionary; earlier meanings of a word are its more frequent ones.

    Args:
        folder: where to.
        nouns: and so on: the meanings; names that end in `!` are instances of what is above.
        exceptions: contents of `noun.exc` and the like, by part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"noun": nouns, "verb": verbs, "adj": adjectives, "adv": adverbs}
    for part, meanings in parts.items():
        _write_part(folder, part, meanings or {})
        (folder / f"{part}.exc").write_text((exceptions or {}).get(part, ""))
    # wanted by NLTK alone
    (folder / "lexnames").write_text("00\tall\t1\n")
    (folder / "cntlist.rev").write_text("")
    (folder / "index.sense").write_text("")
    return folder


def _write_part(folder: Path, part: str, meanings: Meanings) -> None:
    letter = "r" if part == "adv" else part[0]

    def line(name: str, offsets: Mapping[str, int]) -> str:
        words, above = meanings[name]
        pointer = "@i" if name.endswith("!") else "@"
        pointers = [f"{pointer} {offsets[to]:08} {letter} 0000" for to in above]
        pointers += [
            f"~ {offsets[to]:08} {letter} 0000" for to in meanings if name in meanings[to][1]
        ]
        listed = " ".join(f"{word} 0" for word in words)
        frames = " 01 + 02 00" if part == "verb" else ""
        start = f"{offsets[name]:08} 00 {letter} {len(words):02x} {listed} {len(pointers):03}"
        return " ".join([start, *pointers]) + f"{frames} | a meaning @ 00000000 n 0000  \n"

    unknown = dict.fromkeys(meanings, 0)
    offsets, place = {}, len(LICENCE)
    for name in meanings:
        offsets[name] = place
        place += len(line(name, unknown))
    data = LICENCE + "".join(line(name, offsets) for name in meanings)
    (folder / f"data.{part}").write_text(data)

    senses: dict[str, list[int]] = {}
    for name, (words, _) in meanings.items():
        for word in words:
            senses.setdefault(word.lower(), []).append(offsets[name])
    index = LICENCE
    for word, places in sorted(senses.items()):
        numbers = " ".join(f"{number:08}" for number in places)
        index += f"{word} {letter} {len(places)} 2 @ ~ {len(places)} 0 {numbers}  \n"
    (folder / f"index.{part}").write_text(index)


ANIMALS: Meanings = {
    "thing": (["thing", "entity"], []),
    "living": (["living_thing"], ["thing"]),
    "animal": (["animal", "beast"], ["living"]),
    "dog": (["dog", "hound"], ["animal"]),
    "cat": (["cat"], ["animal"]),
    "poodle": (["poodle"], ["dog"]),
    "rex": (["Rex"], ["dog"]),
    "frump": (["frump", "dog"], ["living"]),
    "man": (["man"], ["living"]),
    "glass": (["glass"], ["thing"]),
    "left": (["left"], ["thing"]),
    "box": (["box"], ["thing"]),
    "walk": (["walk"], ["thing"]),
    "bed": (["bed"], ["thing"]),
    "camera": (["camera"], ["thing"]),
    "doe": (["doe"], ["animal"]),
    "ate": (["Ate"], ["thing"]),
}
VERBS: Meanings = {
    "move": (["move"], []),
    "walk": (["walk"], ["move"]),
    "run": (["run"], ["move"]),
    "leave": (["leave"], ["move"]),
    "play": (["play"], []),
    "be": (["be"], []),
    "bed": (["bed"], ["move"]),
    "eat": (["eat"], []),
    "own": (["own"], []),
}
EXCEPTIONS = {
    "noun": "men man\n",
    "verb": "ran run\nleft leave\nwas be\nate eat\n",
    "adj": "better good\n",
}


def write_animals(folder: Path) -> Path:
    """Write the dictionary above, with a few adjectives."""
    adjectives: Meanings = {
        "big": (["big", "large"], []),
        "good": (["good"], []),
        "left": (["left"], []),
    }
    return write_dictionary(
        folder,
        nouns=ANIMALS,
        verbs=VERBS,
        adjectives=adjectives,
        adverbs={"toward": (["toward"], [])},
        exceptions=EXCEPTIONS,
    )
