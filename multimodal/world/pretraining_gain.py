"""What BEST-RQ pre-training is worth where few recordings have transcripts.

`python -m multimodal.world.pretraining_gain` fine-tunes the tiny speech parts by the warm-up's CTC
on a few labelled minutes, from the pre-trained encoder and from random weights, at equal updates
and from several seeds, and writes the course of the error on held-out sentences as a table and as
a picture. It wants `runs/language/pretrain-tiny` and the data, which `make train-tiny` leaves, and
pre-trains the encoder itself, for as long as `--pretraining` says.
"""

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from PIL import Image, ImageDraw

from multimodal.world.utterances import write_utterances

RUNS = Path("runs/speech/pretraining-gain")
STARTS = ("random", "BEST-RQ")
COLOURS = {"random": (190, 60, 50), "BEST-RQ": (40, 90, 190)}
METRIC = "val/token_errors"
_DATA_SEED = 1  # other sentences and voices than those of the pre-training
_WIDTH, _HEIGHT, _MARGIN = 720, 420, 56


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One run: its error on held-out sentences by step."""

    start: str
    seed: int
    steps: tuple[int, ...]
    errors: tuple[float, ...]


def fit(config: str, root: Path, settings: Mapping[str, object]) -> None:
    """Train by a config into ``root``, unless that is done; go on where it was stopped.

    Raises:
        SystemExit: the training failed.
    """
    if (done := root / ".done").exists():
        return
    settings = {
        "trainer.default_root_dir": root,
        "trainer.devices": 1,
        "data.init_args.num_workers": 1,
        **settings,
    }
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "multimodal.cli", "fit", "--resume", "--config", config]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    if status := subprocess.call([*command, *words], env=environment):
        raise SystemExit(status)
    done.touch()


def pretrained(steps: int) -> Path:
    """An encoder after so many steps of BEST-RQ."""
    root = RUNS / f"pretrained-{steps}"
    interval = max(1, steps // 4)
    settings = {
        "trainer.max_steps": steps,
        "trainer.val_check_interval": interval,
        "model.init_args.optimizer.orthogonal": '["encoder.*weight"]',  # learns faster
        "model.init_args.optimizer.learning_rate": 2e-3,
    }
    fit("speech/pretrain-tiny.yaml", root, settings)
    return root / "export"


def run(encoder: Path | None, seed: int, *, labelled: Path, steps: int, folder: Path) -> Curve:
    """Fine-tune once, from an encoder or from random weights."""
    start = STARTS[encoder is not None]
    root = folder / f"{start}-{seed}"
    settings = {
        "seed_everything": seed,
        "trainer.max_steps": steps,
        "trainer.val_check_interval": max(1, steps // 8),
        "model.init_args.parts.speech_encoder": encoder or "tiny",
        "model.init_args.compare_recordings": "false",
        "data.init_args.train": f'[{{"path": "{labelled}"}}]',
        "data.init_args.seed": seed,
    }
    fit("speech/warm-up-tiny.yaml", root, settings)
    with (root / "metrics.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get(METRIC)]
    return Curve(
        start=start,
        seed=seed,
        steps=tuple(int(row["step"]) for row in rows),
        errors=tuple(float(row[METRIC]) for row in rows),
    )


def table(curves: Sequence[Curve]) -> str:
    """Mean and standard deviation over seeds, as Markdown."""
    lines = ["| step | " + " | ".join(STARTS) + " |", "|---|" + "---|" * len(STARTS)]
    for index, step in enumerate(curves[0].steps):
        cells = []
        for start in STARTS:
            found = [curve.errors[index] for curve in curves if curve.start == start]
            spread = stdev(found) if len(found) > 1 else 0.0
            cells.append(f"{mean(found):.3f} ± {spread:.3f}")
        lines.append(f"| {step} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(curves: Sequence[Curve]) -> Image.Image:
    """Each run as a line, errors upwards, steps to the right."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    last = max(curve.steps[-1] for curve in curves)
    top = max(max(curve.errors) for curve in curves)

    def place(step: float, error: float) -> tuple[float, float]:
        across, down = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
        return _MARGIN + across * step / last, _HEIGHT - _MARGIN - down * error / top

    draw.line([place(0, top), place(0, 0), place(last, 0)], fill="black")
    for share in range(5):
        error, step = top * share / 4, last * share / 4
        draw.text((8, place(0, error)[1] - 6), f"{error:.2f}", fill="black")
        draw.text((place(step, 0)[0] - 8, _HEIGHT - _MARGIN + 8), f"{step:.0f}", fill="black")
    draw.text((_MARGIN, 8), "token errors of greedy CTC, held-out sentences", fill="black")
    draw.text((_WIDTH - 2 * _MARGIN, _HEIGHT - 24), "updates", fill="black")
    for curve in curves:
        points = [place(*point) for point in zip(curve.steps, curve.errors, strict=True)]
        draw.line(points, fill=COLOURS[curve.start], width=2)
    for line, (start, colour) in enumerate(COLOURS.items()):
        draw.text((_WIDTH - 3 * _MARGIN, 24 + 16 * line), start, fill=colour)
    return image


def main() -> None:
    """Read the command line, train what is missing, and write table and picture."""
    parser = argparse.ArgumentParser(
        prog="python -m multimodal.world.pretraining_gain", description=__doc__
    )
    parser.add_argument("--labelled", type=int, default=500, help="labelled recordings")
    parser.add_argument("--steps", type=int, default=320, help="updates of each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pretraining", type=int, default=3000, help="steps of BEST-RQ")
    options = parser.parse_args()
    folder = RUNS / f"{options.labelled}-labelled-{options.steps}-{options.pretraining}"
    data = Path("data/tiny/few") / str(options.labelled)
    if not data.exists():
        write_utterances(data, split="train", number=options.labelled, seed=_DATA_SEED)
    starts = (None, pretrained(options.pretraining))
    curves = [
        run(start, seed, labelled=data, steps=options.steps, folder=folder)
        for seed in range(options.seeds)
        for start in starts
    ]
    plot(curves).save(folder / "curves.png")
    (folder / "table.md").write_text(table(curves) + "\n", encoding="utf-8")
    print(table(curves))
    print(f"\n{folder / 'curves.png'}")


if __name__ == "__main__":
    main()
