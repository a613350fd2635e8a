"""`openherd fit | validate | test`: Lightning's command line over YAML configs.

What the command line says wins over the YAML, and the YAML over a checkpoint that is resumed:
configs never come out of checkpoints.
"""

import logging
import re
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from language.errors import InputError
from multimodal.training.announce import announce
from multimodal.training.averaging import CheckpointAveraging
from multimodal.training.checkpoints import Checkpoints, WholeStates, latest
from multimodal.training.config_files import expand
from multimodal.training.export import Export
from multimodal.training.faulty_steps import FaultySteps
from multimodal.training.metrics_file import MetricsFile
from multimodal.training.parallel import MeshStrategy
from multimodal.training.progress import DataWait, Progress
from multimodal.training.run_record import RunRecord
from multimodal.training.states import check_state

STRATEGIES = (MeshStrategy,)
"""Known by their names alone, once they are imported: ``--trainer.strategy MeshStrategy``."""
TRAINER_DEFAULTS = {
    "default_root_dir": "runs",
    "use_distributed_sampler": False,  # the order of samples belongs to the data module
    "enable_progress_bar": False,  # Progress prints a line at a time
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "max_epochs": -1,
}

SHORT = {
    "--resume": ("--ckpt_path=last",),
    "--profile": (
        "--trainer.profiler=lightning.pytorch.profilers.PyTorchProfiler",
        "--trainer.profiler.filename=profile",
    ),
}
"""Words that stand for others."""

QUIET = (
    ".*args parameter is intended to run from within Python.*",
    ".*LeafSpec.*is deprecated.*",
    ".*number of training batches .* is smaller than the logging interval.*",
    ".*module.*in eval mode at the start of training.*",  # what is frozen is meant to be
    ".*does not have many workers.*",
    ".*`training_step` returned.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*It is recommended to use .*sync_dist=True.*",  # the values are those of all ranks already
)


TERMINATED = 128 + signal.SIGTERM
"""Exit status of a run that was told to stop."""


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
        parser.add_lightning_class_args(FaultySteps, "faulty_steps")
        parser.add_lightning_class_args(RunRecord, "record")

    def _parse_ckpt_path(self) -> None:
        """A checkpoint brings weights and state, never settings."""

    def before_instantiate_classes(self) -> None:
        """Let ``--ckpt_path last`` mean the run's newest good state, or the beginning without one.

        Raises:
            InputError: the state that is named is not whole.
        """
        config = self.config[self.config.subcommand]
        if config.ckpt_path == "last":
            state = latest(config.trainer.default_root_dir)
            config.ckpt_path = None if state is None else str(state)
            where = f"goes on from {state}" if state else "no state to go on from: begins anew"
            announce(where)
        elif config.ckpt_path is not None:
            check_state(Path(config.ckpt_path))

    def after_fit(self) -> None:
        """Export what a run ended with that was killed after its last state, if it did not."""
        every = self.trainer.callbacks  # type: ignore[attr-defined]
        callbacks = [c for c in every if isinstance(c, CheckpointAveraging | Export)]
        if not any(isinstance(c, Export) and c.is_complete for c in callbacks):
            for callback in sorted(callbacks, key=lambda c: isinstance(c, Export)):
                callback.on_train_end(self.trainer, self.model)

    def instantiate_classes(self) -> None:
        """Build what the config names.

        Raises:
            InputError: a value that a class refuses.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            if isinstance(cause, InputError):
                raise cause from None
            raise InputError(f"openherd {self.subcommand}", str(cause)) from None

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
        return super().instantiate_trainer(plugins=[*plugins, WholeStates()], **kwargs)


def main(words: Sequence[str]) -> int:
    """Run ``fit``, ``validate`` or ``test`` and return the exit status.

    Args:
        words: the verb and what follows it.

    Raises:
        InputError: a config, a key or a value is wrong; said in one line.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # on a CPU it would cost bits and gain nothing
    with warnings.catch_warnings():
        for message in QUIET:
            warnings.filterwarnings("ignore", message)
        try:
            run(words)
        except SIGTERMException:  # its own status would be 0, as if the work were done
            raise SystemExit(TERMINATED) from None
        except RuntimeError as error:
            # A signal to the whole group of processes reaches a worker of the data before us.
            if "killed by signal: Terminated" not in str(error):
                raise
            raise SystemExit(TERMINATED) from None
    return 0


def run(words: Sequence[str], *, cli: type[TrainingCLI] = TrainingCLI) -> TrainingCLI:
    """Parse the words and do what they say.

    Args:
        words: the verb and what follows it.
        cli: what parses and runs.

    Raises:
        InputError: a config, a key or a value is wrong; said in one line.
    """
    verb, *rest = words
    strict: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}
    try:
        return cli(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=_WholeConfig,
            save_config_kwargs={"overwrite": True},
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=1,
            parser_kwargs=strict | dict.fromkeys(cli.subcommands(), strict),
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=[verb, *expand([word for given in rest for word in SHORT.get(given, (given,))])],
        )
    except ArgumentError as error:
        raise InputError(f"openherd {verb}", plain(str(error))) from None


def plain(message: str) -> str:
    """What is wrong, of a parser's message that tells all that it tried and was given.

    Where several types were tried, their faults stand in a list; that a value is not None says
    nothing.
    """
    if "Union subtypes" not in message:
        return message
    tried = message.partition("Errors:")[2].partition("Given value")[0]
    faults = [fault for fault in re.split(r"\n\s*- ", tried) if fault and "NoneType" not in fault]
    key = message.split(":")[0].removeprefix("Parser key ").strip('"')
    return f"{key}: {'; '.join(faults)}" if faults else message
