"""Data for the models that speak: what their core reads, what they learn to read aloud.

`python -m multimodal.world.speaking --core --number 200000 --out DIR` writes the core's tokenizer
and reading matter; without `--core`, written and spoken sentences as TSV
(:mod:`speech.normalization.data`).
"""

import argparse
import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from language.tokenizer import train_bpe
from multimodal.world import reading_matter, written_sentences

_SHARE_WRITTEN = 0.4
"""Of the core's reading matter that is the text of training sentences, without their reading."""
_TOKENIZER_TEXTS = 40000
_NUM_MERGED = 1700


def core_texts(*, seed: int) -> Iterator[str]:
    """One to three sentences at a time, without end."""
    rng = random.Random(f"core {seed}")
    told = reading_matter.sentences(seed=seed)
    written = written_sentences.sentences(split="train", seed=seed + 1)
    while True:
        drawn = [
            next(written).text if rng.random() < _SHARE_WRITTEN else next(told)
            for _ in range(rng.randint(1, 3))
        ]
        yield " ".join(drawn)


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


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(
        prog="python -m multimodal.world.speaking", description=__doc__
    )
    parser.add_argument("--core", action="store_true", help="what the core reads")
    parser.add_argument("--number", type=int, default=200_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_core_data(options.out, number=options.number, seed=options.seed)


if __name__ == "__main__":
    main()
