"""Data for the models that speak: what their core reads, what they learn to read aloud.

`python -m multimodal.world.speaking --content core --number 120000 --out DIR` writes the core's
tokenizer and reading matter; `--content written` sentences and how they are spoken as TSV
(:mod:`speech.normalization.data`).
"""

import argparse
import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from language.tokenizer import train_bpe
from multimodal.world import mentions, reading_matter, written_sentences
from multimodal.world.lexicon import WordSplit
from speech.normalization.data import spoken
from speech.normalization.rules import language

_SHARE_WRITTEN, _SHARE_MENTIONS = 0.25, 0.4
"""Of the core's reading matter that is text as training sentences have it, with all words; and in
which it matters what was spoken of before."""
_SHARE_TWO = 0.3
"""Of lines that hold two sentences."""
_TOKENIZER_TEXTS = 40000
_NUM_MERGED = 1700


def core_texts(*, seed: int) -> Iterator[str]:
    """One to three sentences at a time, without end."""
    rng = random.Random(f"core {seed}")
    told = reading_matter.sentences(seed=seed)
    written = written_sentences.sentences(split="train", seed=seed + 1, words="all")
    mentioned = mentions.sentences(seed=seed)
    shares = [_SHARE_WRITTEN, _SHARE_MENTIONS, 1 - _SHARE_WRITTEN - _SHARE_MENTIONS]
    while True:
        kinds = rng.choices(("written", "mentions", "told"), shares, k=rng.randint(1, 3))
        drawn = {
            "written": lambda: next(written).text,
            "mentions": lambda: next(mentioned),
            "told": lambda: next(told),
        }
        yield " ".join(drawn[kind]() for kind in kinds)


def write_core_data(directory: Path, *, number: int, seed: int) -> None:
    """Write ``tokenizer/``, ``core-train.jsonl`` and ``core-validation.jsonl``."""
    directory.mkdir(parents=True, exist_ok=True)
    texts = [*islice(core_texts(seed=seed), _TOKENIZER_TEXTS)]
    roles = ["user\n\nassistant\n\nsystem\n\n"] * len(texts)
    (directory / "tokenizer").mkdir(exist_ok=True)
    train_bpe([*texts, *roles], num_merged=_NUM_MERGED).save(directory / "tokenizer")
    for name, count, start in (("train", number, seed), ("validation", 500, seed + 1000)):
        with (directory / f"core-{name}.jsonl").open("w") as file:
            for text in islice(core_texts(seed=start), count):
                messages = [
                    {"role": "user", "content": ""},
                    {"role": "assistant", "content": text},
                ]
                file.write(json.dumps({"messages": messages}) + "\n")


def write_written(file: Path, *, split: WordSplit, number: int, seed: int) -> None:
    """Write sentences, how they are spoken and by which rules, one or two to a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    english, rng = language("en"), random.Random(f"lines {split} {seed}")
    drawn = written_sentences.sentences(split=split, seed=seed)
    with file.open("w") as lines:
        for _ in range(number):
            together = [next(drawn) for _ in range(1 + (rng.random() < _SHARE_TWO))]
            text = written_sentences.labelled(together)
            said = spoken(text, english)
            lines.write(f"{text.text}\t{said}\t{' '.join(text.labels)}\n")


def write_test_lines(file: Path, *, number: int, seed: int) -> None:
    """Write test sentences and how they are spoken, for other programs to be measured by."""
    english = language("en")
    drawn = islice(written_sentences.sentences(split="test", seed=seed), number)
    texts = [written_sentences.labelled([sentence]) for sentence in drawn]
    file.write_text("".join(f"{text.text}\t{spoken(text, english)}\n" for text in texts))


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(
        prog="python -m multimodal.world.speaking", description=__doc__
    )
    parser.add_argument(
        "--content", choices=("core", "written"), required=True, help="what to write"
    )
    parser.add_argument("--number", type=int, default=200_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.content == "core":
        write_core_data(options.out, number=options.number, seed=options.seed)
        return
    parts: dict[WordSplit, int] = {"train": options.number, "validation": 500, "test": 2000}
    for split, number in parts.items():
        file = options.out / f"written-{split}.tsv"
        write_written(file, split=split, number=number, seed=options.seed)


if __name__ == "__main__":
    main()
