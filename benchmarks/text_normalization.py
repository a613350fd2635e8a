"""NeMo's grammar on the test sentences of text normalization.

The grammar has an environment of its own (it pins much): write the sentences with ours, read them
with its interpreter.

    python -m benchmarks.text_normalization --write lines.tsv
    OTHER/bin/python benchmarks/text_normalization.py --read lines.tsv

A sentence counts when all words are those wanted, without case and punctuation; two more columns
forgive ways of saying that differ by taste alone ("and" in numbers; "of" and "the" in dates).
"""

import argparse
import re
from pathlib import Path

TASTE = {"and", "the", "of"}


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def write(file: Path, number: int) -> None:
    from multimodal.world.speaking import write_test_lines

    write_test_lines(file, number=number, seed=1)


def read(file: Path) -> None:
    from nemo_text_processing.text_normalization.normalize import Normalizer

    normalizer = Normalizer(input_case="cased", lang="en")
    lines = [line.split("\t") for line in file.read_text().splitlines()]
    right = forgiven = 0
    for written, wanted in lines:
        said = words(normalizer.normalize(written, verbose=False))
        expected = words(wanted)
        right += said == expected
        plain = [[w for w in each if w not in TASTE] for each in (said, expected)]
        forgiven += plain[0] == plain[1]
    print(f"NeMo's grammar: {100 * right / len(lines):.1f} % of {len(lines)} sentences")
    print(f"  differences of taste forgiven: {100 * forgiven / len(lines):.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--read", type=Path)
    parser.add_argument("--number", type=int, default=600)
    options = parser.parse_args()
    if options.write is not None:
        write(options.write, options.number)
    if options.read is not None:
        read(options.read)


if __name__ == "__main__":
    main()
