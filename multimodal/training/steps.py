"""Callbacks that act once a step of the optimizer, however many batches a step gathers."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from language.training import Training


class StepCallback(Callback):
    """Calls :meth:`on_step` after each optimizer step."""

    _step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the step that a resumed run stands at."""
        self._step = trainer.global_step
        assert isinstance(pl_module, Training)
        self.on_begin(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell batches that end a step from those that are only gathered."""
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            assert isinstance(pl_module, Training)
            self.on_step(trainer, pl_module)

    def on_begin(self, trainer: Trainer, training: Training) -> None:
        """Before the first step of this process."""

    def on_step(self, trainer: Trainer, training: Training) -> None:
        """After a step."""
        raise NotImplementedError
