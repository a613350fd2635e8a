"""Training state to go on from, saved at regular steps and at the end.

States are pickled, as Lightning's are, read without running code (``weights_only``), and meant for
one's own resuming alone; what others may read is written by :mod:`multimodal.training.export`. How
they lie on the disk: :mod:`multimodal.training.states`.
"""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint

from language.training import Training
from multimodal.training.announce import announce
from multimodal.training.states import (
    FOLDER,
    check_state,
    newest_state,
    prune_states,
    write_state,
)
from multimodal.training.steps import StepCallback

FILE = "state.ckpt"
"""What a state of one process holds."""


class WholeStates(TorchCheckpointIO):
    """Saves a state as a folder that appears once it is complete on the disk."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint`` as the state ``path``.

        Raises:
            InputError: the disk is full or refuses.
        """
        write_state(Path(path), {FILE: lambda file: torch.save(checkpoint, file)})

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read the state ``path``.

        Raises:
            InputError: it is not whole.
        """
        check_state(Path(path))
        return super().load_checkpoint(Path(path) / FILE, map_location, weights_only=True)


class Checkpoints(StepCallback, Checkpoint):
    """Saves the state of the run."""

    def __init__(
        self, *, every_n_steps: int = 1000, keep: int = 2, keep_every_n_steps: int = 0
    ) -> None:
        """When to save.

        Args:
            every_n_steps: optimizer steps between states.
            keep: newest states that stay: with two, one is left if a disk damages the other.
            keep_every_n_steps: states of multiples of so many steps are kept for good; 0 keeps
                none.

        Raises:
            ValueError: no state would stay.
        """
        super().__init__()
        if keep < 1:
            raise ValueError("checkpoints.keep must be 1 or more")
        self.every_n_steps, self.keep = every_n_steps, keep
        self.keep_every_n_steps = keep_every_n_steps

    def on_step(self, trainer: Trainer, training: Training) -> None:
        """Save if it is time, or the step was the last."""
        step = trainer.global_step
        due = step % self.every_n_steps == 0 or step == trainer.max_steps
        if trainer.fast_dev_run or not (due or self._stays(step)):  # type: ignore[attr-defined]
            return
        training.check_finite()
        folder = Path(trainer.default_root_dir) / FOLDER
        trainer.save_checkpoint(folder / f"step-{step}")  # returns when all ranks are done
        if trainer.is_global_zero:
            prune_states(folder, keep=self.keep, for_good=self._stays)

    def _stays(self, step: int) -> bool:
        return bool(self.keep_every_n_steps) and step % self.keep_every_n_steps == 0


def latest(run: str | Path) -> Path | None:
    """The newest good state of a run, None if there is none; says which later ones are not good."""
    return newest_state(Path(run), skipped=lambda error: announce(f"passed over: {error}"))
