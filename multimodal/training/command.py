"""`openherd fit | validate | test`: Lightning's command line over YAML configs.

What the command line says wins over the YAML, and the YAML over a checkpoint that is resumed:
configs never come out of checkpoints.
"""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from language.errors import InputError
from multimodal.training.checkpoints import LAST, Checkpoints, WholeFiles
from multimodal.training.config_files import expand
from multimodal.training.export import Export
from multimodal.training.metrics_file import MetricsFile
from multimodal.training.progress import DataWait, Progress

TRAINER_DEFAULTS = {
    "default_root_dir": "runs",
    "use_distributed_sampler": False,  # the order of samples belongs to the data module
    "enable_progress_bar": False,  # Progress prints a line at a time
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "max_epochs": -1,
}

QUIET = (
    ".*args parameter is intended to run from within Python.*",
    ".*LeafSpec.*is deprecated.*",
    ".*number of training batches .* is smaller than the logging interval.*",
    ".*module.*in eval mode at the start of training.*",  # what is frozen is meant to be
    ".*does not have many workers.*",
    ".*`training_step` returned.*",
    ".*Checkpoint directory .* exists and is not empty.*",
)


class _WholeConfig(SaveConfigCallback):
    """Writes the whole config of a training beside what the training gives."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it when a training begins."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)


class TrainingCLI(LightningCLI):
    """Lightning's command line with this project's loggers, states and exports."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The verbs, and those of their arguments that are no options."""
        known = LightningCLI.subcommands()
        return {verb: known[verb] for verb in ("fit", "validate", "test")}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Callbacks that are always there, configurable under keys of their own."""
        parser.add_lightning_class_args(Progress, "progress")
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.add_lightning_class_args(Export, "export")

    def _parse_ckpt_path(self) -> None:
        """A checkpoint brings weights and state, never settings."""

    def before_instantiate_classes(self) -> None:
        """Let ``--ckpt_path last`` mean the run's latest state, or the beginning without one."""
        config = self.config[self.config.subcommand]
        if config.ckpt_path == "last":
            last = Path(config.trainer.default_root_dir) / LAST
            config.ckpt_path = str(last) if last.is_file() else None
        elif config.ckpt_path is not None and not Path(config.ckpt_path).is_file():
            raise InputError(config.ckpt_path, "no such checkpoint")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Log to TensorBoard and CSV unless told otherwise; write states whole."""
        config = self._get(self.config_init, "trainer")
        if config.logger in (None, True):
            root = config.default_root_dir
            kwargs["logger"] = [TensorBoardLogger(root, name="", version=""), MetricsFile(root)]
        if config.profiler is None:
            kwargs["profiler"] = DataWait()
        plugins = config.plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        return super().instantiate_trainer(plugins=[*plugins, WholeFiles()], **kwargs)


def main(words: Sequence[str]) -> int:
    """Run ``fit``, ``validate`` or ``test`` and return the exit status.

    Args:
        words: the verb and what follows it.

    Raises:
        InputError: a config, a key or a value is wrong; said in one line.
    """
    verb, *rest = words
    words = [verb, *expand(rest)]
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    torch.set_float32_matmul_precision("high")
    with warnings.catch_warnings():
        for message in QUIET:
            warnings.filterwarnings("ignore", message)
        try:
            TrainingCLI(
                LightningModule,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=_WholeConfig,
                save_config_kwargs={"overwrite": True},
                trainer_defaults=TRAINER_DEFAULTS,
                seed_everything_default=1,
                parser_kwargs={
                    "exit_on_error": False,
                    **{key: {"exit_on_error": False} for key in TrainingCLI.subcommands()},
                },
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                args=words,
            )
        except ArgumentError as error:
            raise InputError(f"openherd {verb}", str(error)) from None
    return 0
