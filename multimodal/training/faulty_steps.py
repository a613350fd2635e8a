"""Steps that would do harm are left out: gradients that are no numbers, or far larger than usual.

The norm of the whole gradient is the same on all processes, so all leave out the same steps. What
the batch was made of is named, for whoever looks for the sample that caused it.
"""

import math
import statistics
from collections import deque
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from language.errors import InputError
from language.training import Training
from multimodal.data.module import SampleData
from multimodal.training.announce import announce
from multimodal.training.steps import StepCallback

REMEMBERED, LEAST = 100, 20
"""Latest norms whose median is the usual one, and how many it takes."""
NAMED = 16
"""Samples of a batch that are named; the log has all."""


class FaultySteps(StepCallback):
    """Leaves out steps whose gradient is no number or far from the usual, and stops a run of them.

    A step that is left out changes no weight and no moment; the learning rate goes on.
    """

    def __init__(self, *, most_in_a_row: int = 5, spike: float = 0.0) -> None:
        """What is too much.

        Args:
            most_in_a_row: steps left out one after another, beyond which the run stops.
            spike: a gradient of so many times the median norm of the latest 100 steps is left out;
                0 leaves out none for its size.

        Raises:
            ValueError: a number below 0, or a spike that the usual gradient would be.
        """
        super().__init__()
        if most_in_a_row < 0 or spike < 0 or 0 < spike <= 1:
            raise ValueError(
                f"faulty_steps: most_in_a_row ({most_in_a_row}) must be 0 or more, and spike "
                f"({spike}) above 1, or 0"
            )
        self.most_in_a_row, self.spike = most_in_a_row, spike
        self.in_a_row = self.total = 0
        self._norms: deque[float] = deque(maxlen=REMEMBERED)
        self._trainer: Trainer | None = None

    def on_begin(self, trainer: Trainer, training: Training) -> None:
        """Judge every step from now on."""
        self._trainer, training.judge = trainer, self.is_faulty

    def on_step(self, trainer: Trainer, training: Training) -> None:
        """Nothing after a step: it was judged before."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how many were left out."""
        if self.total:
            announce(f"{self.total} steps were left out for their gradients")

    def is_faulty(self, loss: Tensor, norm: Tensor) -> bool:
        """Whether a step is left out.

        Raises:
            InputError: too many one after another are.
        """
        size = float(norm)
        is_number = math.isfinite(size) and math.isfinite(float(loss))
        usual = statistics.median(self._norms) if len(self._norms) >= LEAST else math.inf
        if is_number and not (self.spike and size > self.spike * usual):
            self._norms.append(size)
            self.in_a_row = 0
            return False
        self.in_a_row += 1
        self.total += 1
        assert self._trainer is not None
        step = self._trainer.global_step
        names = samples_of(self._trainer)
        what = f"loss {float(loss):.4g}, gradient norm {size:.4g}"
        what += f", usually {usual:.4g}" if is_number else ""
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        announce(f"step {step} left out: {what}; it read {', '.join(names[:NAMED])}{more}")
        if self.in_a_row > self.most_in_a_row:
            raise InputError(
                f"step {step}",
                f"{self.in_a_row} steps one after another were left out, the last with {what}: "
                "lower the learning rate and go on with --resume",
            )
        return True

    def state_dict(self) -> dict[str, Any]:
        """The usual norms."""
        return {"norms": list(self._norms), "in_a_row": self.in_a_row, "total": self.total}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        self._norms.extend(state_dict["norms"])
        self.in_a_row, self.total = state_dict["in_a_row"], state_dict["total"]


def samples_of(trainer: Trainer) -> list[str]:
    """Names of what the step that is being taken read, over all data ranks."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, SampleData) or data.train_loader is None:
        return []
    last = trainer.fit_loop.total_batch_idx
    batches = range(last - trainer.accumulate_grad_batches + 1, last + 1)
    return [name for batch in batches for name in data.train_loader.samples(max(batch, 0))]
