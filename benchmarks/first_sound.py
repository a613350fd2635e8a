"""How long until something is heard, against reading the whole text before any of it is spoken.

The shipped speaker reads the same texts on both sides: as they come, word by word, up to the first
phrase that sounds; and whole. The real-time factor is that of the whole: seconds of work by seconds
of sound.
"""

import re
from dataclasses import replace

from benchmarks.paired import Ratio, compare
from multimodal.speaking import open_speaker

TEXTS = {
    "a sentence": "Dr. Lee lives at 12 Elm Dr. and his PIN is 1234.",
    "ten sentences": " ".join(
        f"In {1980 + number} the {thing}, which cost ${number}.50, was sold on 3/{number + 4}."
        for number, thing in enumerate(
            ("car", "boat", "house", "lamp", "coat", "clock", "chair", "box", "bag", "bike")
        )
    ),
}


def run() -> list[Ratio]:
    """One sentence, and a text of ten."""
    speaker = open_speaker()
    results = []
    for name, text in TEXTS.items():
        words = re.findall(r"\S+\s*", text)
        seconds = len(speaker.speak(text)) / speaker.synthesizer.rate
        result = compare(
            f"first sound of {name}",
            ours=lambda words=words: next(speaker.stream(words)),
            theirs=lambda text=text: speaker.speak(text),
            against="the whole text first",
            target=1.0,
        )
        factor = result.theirs_ms / 1000 / seconds
        results.append(replace(result, name=f"{result.name}; real-time factor {factor:.3f}"))
    return results
