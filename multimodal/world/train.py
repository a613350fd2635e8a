"""Make the tiny model again from one seed: the data, then every stage by the configs of `fit`.

`python -m multimodal.world.train` (`make train-tiny`) goes on where it was stopped: data that is
whole is kept, and a stage resumes from its last state. Two chains run side by side, a processor
each: first the core, and the encoders of pictures and of speech; then, beside the frozen core, the
adapters of either, which know nothing of each other. The last two image stages are averaged and
joined with the speech parts. Last come the video parts, beside the joined model of which nothing
moves any more.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from language.errors import InputError
from multimodal.checkpoint import save_model
from multimodal.locations import load_weights
from multimodal.training.soup import averaged
from multimodal.world.__main__ import write_tokenizer
from multimodal.world.clip_shards import write_clips
from multimodal.world.scenes import Split
from multimodal.world.shards import CONTENTS, Content, write
from multimodal.world.utterances import UtteranceSplit, write_utterances

DATA = Path("data/tiny")
RUNS = Path("runs")
CORE = ("language/pretrain-tiny",)
ENCODERS = ("speech/pretrain-tiny", "image/contrastive-tiny", "image/grounding-tiny")
IMAGE = ("image/pretrain-tiny", "image/anneal-tiny", "image/finetune-tiny")
SPEECH = ("speech/warm-up-tiny", "speech/finetune-tiny", "speech/anneal-tiny")
AVERAGED = RUNS / "image/averaged"
"""Where the average of the last two image stages goes."""
VIDEO = ("video/pretrain-tiny", "video/finetune-tiny")
JOINED = RUNS / "tiny-joined"
"""Where the model that sees and hears goes."""
MODEL = RUNS / "tiny"
"""Where the whole model goes."""
_NUMBERS: dict[Content, int] = {
    "language": 300_000,
    "hearing": 300_000,
    "captions": 200_000,
    "dialogues": 200_000,
    "strangers": 60_000,
}
_NUM_UTTERANCES = 24_000
_NUM_CLIPS = {False: 8_000, True: 8_000}
"""Of clips in which nobody speaks, and in which somebody does."""
_NUM_VALIDATION = 500


def make_data(*, seed: int) -> None:
    """Write whatever of the data is not there yet.

    Raises:
        InputError: what is there was made from another seed.
    """
    DATA.mkdir(parents=True, exist_ok=True)
    record = DATA / "seed"
    if record.exists() and record.read_text().strip() != str(seed):
        raise InputError(DATA, f"made from seed {record.read_text().strip()}: remove it and {RUNS}")
    record.write_text(f"{seed}\n")
    if not (done := DATA / ".tokenizer").exists():
        write_tokenizer(DATA / "tokenizer", seed=seed)
        done.touch()
    splits: tuple[Split, ...] = ("train", "validation")
    for content in CONTENTS:
        for split in splits:
            done = DATA / f".{content}-{split}"
            if done.exists():
                continue
            number = _NUMBERS[content] if split == "train" else _NUM_VALIDATION
            print(f"writing {number:,} samples: {content}, {split}", flush=True)
            write(content, DATA, split=split, number=number, seed=seed)
            done.touch()
    recordings: dict[UtteranceSplit, int] = {
        "train": _NUM_UTTERANCES,
        "validation": _NUM_VALIDATION,
    }
    for spoken, number in recordings.items():
        if not (done := DATA / f".speech-{spoken}").exists():
            print(f"writing {number:,} recordings, {spoken}", flush=True)
            write_utterances(DATA, split=spoken, number=number, seed=seed)
            done.touch()
    for clips, speaks in (("clips", False), ("spoken-clips", True)):
        for split in splits:
            if (done := DATA / f".{clips}-{split}").exists():
                continue
            number = _NUM_CLIPS[speaks] if split == "train" else _NUM_VALIDATION
            print(f"writing {number:,} {clips}, {split}", flush=True)
            write_clips(DATA, split=split, number=number, seed=seed, spoken=speaks)
            done.touch()


def run(stages: Sequence[str]) -> None:
    """Run stages one after the other, each from its last state if it has one, on one thread.

    Raises:
        SystemExit: one failed.
    """
    fit = [sys.executable, "-m", "multimodal.cli", "fit", "--resume"]
    fit += ["--data.init_args.num_workers", "1", "--trainer.devices", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    for stage in stages:
        done = RUNS / stage / ".done"
        if done.exists():
            continue
        if status := subprocess.call([*fit, "--config", f"{stage}.yaml"], env=environment):
            raise SystemExit(status)
        done.touch()


def average(target: Path) -> None:
    """Average the annealed and the fine-tuned image parts, beside the core that both have."""
    core = RUNS / CORE[-1] / "export"
    whole = RUNS / IMAGE[-1] / "export"
    models = [load_weights(RUNS / IMAGE[-2] / "export", core=core), load_weights(whole)]
    save_model(averaged(models), target, companions=whole)


def join(parts: Path, whole: Path, target: Path) -> None:
    """Put parts that were trained beside a model's frozen core next to that model's own.

    Weights are written as float16, which halves what every clone of the repository carries.
    """
    model = load_weights(parts, core=whole, dtype="float16")
    save_model(model, target, companions=whole)


def main() -> None:
    """Read the command line and do everything that is not done yet."""
    parser = argparse.ArgumentParser(prog="python -m multimodal.world.train", description=__doc__)
    parser.add_argument("--out", type=Path, help="directory to copy the model to")
    parser.add_argument("--seed", type=int, default=0, help="of the data")
    options = parser.parse_args()
    try:
        make_data(seed=options.seed)
    except InputError as error:
        parser.error(str(error))
    with ThreadPoolExecutor() as side_by_side:
        list(side_by_side.map(run, (CORE, ENCODERS)))  # waits, and raises what failed
        list(side_by_side.map(run, (IMAGE, SPEECH)))
    average(AVERAGED)
    join(RUNS / SPEECH[-1] / "export", AVERAGED, JOINED)
    run(VIDEO)
    join(RUNS / VIDEO[-1] / "export", JOINED, MODEL)
    if options.out is not None:
        shutil.copytree(MODEL, options.out, dirs_exist_ok=True)
    for figures in ("evaluation", "speech_evaluation", "video_evaluation"):
        print(f"python -m multimodal.world.{figures} --model {options.out or MODEL}")


if __name__ == "__main__":
    main()
