"""Make the tiny speaker again from one seed: its data, its core, and the two models beside it.

`python -m multimodal.world.train_speaker` (`make train-speaker`) goes on where it was stopped: data
that is whole is kept, and a stage resumes from its last state. First comes the core that both see,
then, beside it and from data of their own, text normalization and prosody.
"""

import argparse
import shutil
from pathlib import Path

import torch

from language.checkpoint import load_llama, save_llama
from language.directories import written_whole
from multimodal.world import prosody_corpus
from multimodal.world.lexicon import WordSplit
from multimodal.world.speaking import write_core_data, write_written
from multimodal.world.train import RUNS, run
from speech.normalization.checkpoint import load_tagger, save_tagger
from speech.prosody.checkpoint import load_prosody, save_prosody
from speech.speaker import write_speaker_config

DATA = Path("data/speaking")
CORE, NORMALIZATION, PROSODY = (
    "speech/speaking-core-tiny",
    "speech/normalization-tiny",
    "speech/prosody-tiny",
)
SPEAKER = RUNS / "speaker"
"""Where the whole speaker goes."""
CORE_LAYER = 3
"""Of 4, after which embeddings are taken: the paper's is the 16th of 32."""
_CORE_TEXTS = 200_000
_RECORDINGS = 6_000
_WRITTEN: dict[WordSplit, int] = {"train": 55_000, "validation": 500}


def make_data(*, seed: int) -> None:
    """Write whatever of the data is not there yet."""
    DATA.mkdir(parents=True, exist_ok=True)
    if not (done := DATA / ".core").exists():
        write_core_data(DATA, number=_CORE_TEXTS, seed=seed)
        done.touch()
    for split, number in _WRITTEN.items():
        if not (done := DATA / f".written-{split}").exists():
            write_written(DATA / f"written-{split}.tsv", split=split, number=number, seed=seed)
            done.touch()
    if not (done := DATA / ".prosody").exists():
        words = ["--number", str(_RECORDINGS), "--out", str(DATA), "--seed", str(seed)]
        prosody_corpus.main(words)
        done.touch()


def join(target: Path, *, core: Path, normalization: Path, prosody: Path) -> None:
    """Put a speaker together; weights are written as float16, half of what they were."""
    with written_whole(target) as directory:
        save_llama(load_llama(core, dtype=torch.float16), directory / "core", companions=core)
        tagger, rules = load_tagger(normalization)
        save_tagger(tagger.half(), directory / "normalization", language_code=rules.code)
        save_prosody(load_prosody(prosody).half(), directory / "prosody")
        write_speaker_config(directory, core_layer=CORE_LAYER)


def main() -> None:
    """Read the command line and do everything that is not done yet."""
    parser = argparse.ArgumentParser(
        prog="python -m multimodal.world.train_speaker", description=__doc__
    )
    parser.add_argument("--out", type=Path, help="directory to copy the speaker to")
    parser.add_argument("--seed", type=int, default=0, help="of the data")
    options = parser.parse_args()
    make_data(seed=options.seed)
    run((CORE, NORMALIZATION, PROSODY))
    join(
        SPEAKER,
        core=RUNS / CORE / "export",
        normalization=RUNS / NORMALIZATION / "export",
        prosody=RUNS / PROSODY / "export",
    )
    if options.out is not None:
        shutil.copytree(SPEAKER, options.out, dirs_exist_ok=True)
    for figures in ("normalization_evaluation", "prosody_evaluation"):
        print(f"python -m multimodal.world.{figures}")


if __name__ == "__main__":
    main()
