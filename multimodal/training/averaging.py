"""The average of a run's checkpoints, which the run ends with (paper section 3.4.3, annealing)."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from language.training import Training
from multimodal.training.steps import StepCallback


class CheckpointAveraging(StepCallback):
    """Averages what trains over the steps of the run and puts the average in place at its end.

    States that are saved on the way keep the weights as trained, and the average beside them.
    Validation measures the weights as trained; the export at the end holds the average.
    """

    def __init__(self, *, every_n_steps: int = 100, first_step: int = 0) -> None:
        """Which checkpoints are averaged.

        Args:
            every_n_steps: optimizer steps between them.
            first_step: earlier ones are left out.
        """
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be 1 or more, not {every_n_steps}")
        self.every_n_steps, self.first_step = every_n_steps, first_step
        self._count = 0
        self._means: dict[str, Tensor] = {}

    @torch.no_grad()
    def on_step(self, trainer: Trainer, training: Training) -> None:
        """Take a step's weights into the average, if they are due."""
        step = trainer.global_step
        if step < self.first_step or step % self.every_n_steps:
            return
        self._count += 1
        for name, parameter in training.trainable():
            if name not in self._means:
                self._means[name] = torch.zeros_like(parameter)
            mean = self._means[name] = self._means[name].to(parameter.device)
            mean.lerp_(parameter, 1 / self._count)

    @torch.no_grad()
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in place."""
        assert isinstance(pl_module, Training)
        for name, parameter in pl_module.trainable():
            if name in self._means:
                parameter.copy_(self._means[name])

    def state_dict(self) -> dict[str, Any]:
        """The average so far."""
        return {"count": self._count, "means": self._means}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self._count, self._means = state_dict["count"], state_dict["means"]
