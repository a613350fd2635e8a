"""Runs trainings over processes, several after one another, and gives what each came to.

As a program: ``python layouts.py FOLDER`` reads ``FOLDER/cases.json`` and writes for each case its
losses, gradient norms and final weights.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[4]
STEPS, ROWS = 3, 8


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training under a layout."""

    name: str
    kind: str = "pictures"
    processes: int = 1
    strategy: dict[str, Any] = field(default_factory=dict)
    train: tuple[str, ...] = ()
    """Patterns of what trains; by default the training's own."""
    precision: str = "32-true"
    checkpointing: bool = False
    """Whether blocks are recomputed in the backward pass."""
    save: bool = False
    """Whether a state is saved after every step."""
    resume: str = ""
    """Case whose state after its first step is gone on with."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the data: see `Data`."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a training came to."""

    losses: list[float]
    norms: list[float]
    measured: dict[str, float]
    """What validation found."""
    weights: dict[str, torch.Tensor]


def run(cases: list[Case], folder: Path, *, timeout: float = 100) -> dict[str, Outcome]:
    """Run all cases in a program of its own, which starts processes for each."""
    (folder / "cases.json").write_text(json.dumps([asdict(case) for case in cases]))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PL_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.multimodal.training.parallel.layouts", str(folder)],
        cwd=ROOT,
        env={**inherited, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {case.name: outcome(folder, case.name) for case in cases}


def outcome(folder: Path, name: str) -> Outcome:
    """What a case wrote."""
    numbers = json.loads((folder / f"{name}.json").read_text())
    return Outcome(**numbers, weights=load_file(folder / f"{name}.safetensors"))


def main(folder: Path) -> None:
    """Run the cases of a folder."""
    import tests.multimodal.training.parallel.cases as cases

    for written in json.loads((folder / "cases.json").read_text()):
        case = Case(**{**written, "train": tuple(written["train"])})
        cases.run_case(case, folder)


def write(folder: Path, name: str, *, numbers: dict[str, Any], weights: Any) -> None:
    """Write what a case came to."""
    (folder / f"{name}.json").write_text(json.dumps(numbers))
    save_file(
        {k: v.contiguous().clone() for k, v in weights.items()}, folder / f"{name}.safetensors"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
