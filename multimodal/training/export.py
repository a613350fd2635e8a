"""What a run gives: a directory of safetensors that other runs, users and programs read."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from language.training import Training

EXPORT = "export"
"""Directory of the exported model, under the run's."""


class Export(Callback):
    """Calls ``module.export(directory)`` after every validation and at the end of the run."""

    def __init__(self, *, after_validation: bool = True) -> None:
        """When to export.

        Args:
            after_validation: also after each validation, not at the end alone.
        """
        self.after_validation = after_validation
        self.is_complete = False
        """Whether what the run ended with is exported."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export what was just validated."""
        if (
            self.after_validation
            and trainer.state.fn == TrainerFn.FITTING
            and not trainer.sanity_checking
        ):
            self._export(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export what the run ended with."""
        self._export(trainer, pl_module)
        self.is_complete = True

    def _export(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Training)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        directory = Path(trainer.default_root_dir, EXPORT)
        if (together := getattr(trainer.strategy, "export", None)) is not None:
            together(pl_module, directory)  # no process has the whole model
        elif trainer.is_global_zero:
            pl_module.export(directory)
