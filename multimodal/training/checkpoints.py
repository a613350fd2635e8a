"""Training state to go on from: written whole or not at all, at regular steps and at the end.

A state is one file, ``checkpoints/last.ckpt`` under the run's directory. It is written beside its
place, flushed to the disk and renamed over the previous one: a crash at any moment leaves a whole
file there. It is pickled, as Lightning's are, and meant for one's own resuming alone; what others
may read is written by :mod:`multimodal.training.export`.
"""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint

from language.training import Training
from multimodal.training.steps import StepCallback

LAST = Path("checkpoints", "last.ckpt")
"""Latest state, under the run's directory."""


class WholeFiles(TorchCheckpointIO):
    """Saves a file by renaming it into place once it is complete on the disk."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint`` to ``path``."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        with open(partial, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class Checkpoints(StepCallback, Checkpoint):
    """Saves the state of the run."""

    def __init__(self, *, every_n_steps: int = 1000, keep_every_n_steps: int = 0) -> None:
        """When to save.

        Args:
            every_n_steps: optimizer steps between states; each replaces the one before.
            keep_every_n_steps: steps between states that are kept for good, as ``step-N.ckpt``;
                0 keeps none.
        """
        super().__init__()
        self.every_n_steps, self.keep_every_n_steps = every_n_steps, keep_every_n_steps

    def on_step(self, trainer: Trainer, training: Training) -> None:
        """Save if it is time, or the step was the last."""
        step = trainer.global_step
        directory = Path(trainer.default_root_dir) / LAST.parent
        kept = self.keep_every_n_steps and step % self.keep_every_n_steps == 0
        due = step % self.every_n_steps == 0 or step == trainer.max_steps
        if trainer.fast_dev_run or not (kept or due):  # type: ignore[attr-defined]
            return
        training.check_finite()
        if kept:
            trainer.save_checkpoint(directory / f"step-{step}.ckpt")
        if due:
            trainer.save_checkpoint(directory / LAST.name)
