"""Lowers the learning rate where the loss stagnates, as the paper did by hand (section 7.4)."""

from typing import Any

import torch
from lightning.pytorch import Trainer

from language.training import Training
from multimodal.training.announce import announce
from multimodal.training.steps import StepCallback


class DropOnStagnation(StepCallback):
    """Multiplies the whole schedule by a factor when the mean training loss stops falling.

    The loss is averaged over windows of steps. A window is better when its mean lies below the
    best one's by a margin; after ``patience`` windows without a better one the rate drops, and the
    count begins again. The course so far is part of saved states.
    """

    def __init__(
        self, *, factor: float = 0.3, window: int = 500, patience: int = 4, margin: float = 0.002
    ) -> None:
        """When and how far to drop.

        Args:
            factor: multiplies the learning rate at each drop.
            window: steps over which the loss is averaged.
            patience: windows without a better one before a drop.
            margin: share of the best mean by which a better one lies below it.
        """
        if not 0 < factor < 1 or window < 1 or patience < 1:
            raise ValueError(
                f"factor ({factor}) must lie between 0 and 1, window ({window}) and "
                f"patience ({patience}) be 1 or more"
            )
        self.factor, self.window, self.patience, self.margin = factor, window, patience, margin
        self._sum = torch.zeros(())
        self._state = {"num": 0, "best": float("inf"), "waited": 0, "rate_scale": 1.0}

    def on_begin(self, trainer: Trainer, training: Training) -> None:
        """Take up the rate of a resumed run."""
        training.scale_rates(self._state["rate_scale"])

    def on_step(self, trainer: Trainer, training: Training) -> None:
        """Add a step's loss; at the end of a window, decide."""
        state = self._state
        self._sum = self._sum.to(training.step_loss.device) + training.step_loss
        state["num"] += 1
        if state["num"] == self.window:
            mean = float(self._sum) / self.window
            self._sum = torch.zeros(())
            state["num"] = 0
            self._judge(mean, training)

    def _judge(self, mean: float, training: Training) -> None:
        state = self._state
        if mean < state["best"] * (1 - self.margin):
            state["best"], state["waited"] = mean, 0
            return
        state["waited"] += 1
        if state["waited"] == self.patience:
            state["waited"] = 0
            state["rate_scale"] *= self.factor
            training.scale_rates(state["rate_scale"])
            announce(
                f"step {training.global_step:,}: the loss stagnates at {mean:.4f}; "
                f"the learning rate is multiplied by {self.factor:g}"
            )

    def state_dict(self) -> dict[str, Any]:
        """Where the loss stands."""
        return {**self._state, "sum": float(self._sum)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        state = dict(state_dict)
        self._sum = torch.tensor(state.pop("sum"))
        self._state = state
