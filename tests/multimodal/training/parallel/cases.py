"""The trainings that are run under layouts: pictures, clips, recordings, and a core on text."""

from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from language.next_token import NextTokenTraining
from language.optimization import AdamWConfig, ScheduleConfig
from language.pretraining import LanguagePretraining
from multimodal.batch import Batch
from multimodal.training.checkpoints import Checkpoints
from multimodal.training.faulty_steps import FaultySteps
from multimodal.training.parallel import MeshStrategy
from multimodal.training.parallel.gradients import local
from multimodal.training.parallel.micro_batches import split
from tests.multimodal.training.conftest import TOKENIZER
from tests.multimodal.training.fakes import (
    Recorder,
    Resumable,
    Rows,
    clip_batch,
    picture_batch,
    quiet_trainer,
    text_batch,
)
from tests.multimodal.training.parallel.layouts import ROWS, STEPS, Case, write
from tests.multimodal.training.test_ranks import spoken_batch, training

# With its usual eps AdamW divides the rounding errors of gradients near 0 by gradients near 0.
OPTIMIZER = AdamWConfig(learning_rate=1e-2, eps=1e-4)


class Data(LightningDataModule):
    """Each data rank has its part of every step's rows."""

    def __init__(
        self,
        kind: str,
        *,
        without_media: int = -1,
        poisoned: int = -1,
        lengths: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.kind, self.without_media, self.poisoned = kind, without_media, poisoned
        self.lengths = lengths or (12,) * STEPS

    def batch(self, step: int) -> Batch:
        """The rows of a step; the last one of pictures and clips shows nothing."""
        if self.kind == "recordings":
            return spoken_batch(first=ROWS * step, number=ROWS, media=step != self.without_media)
        rows = Rows(num_rows=ROWS * STEPS, length=self.lengths[step], seed=1)
        some = [rows[ROWS * step + row] for row in range(ROWS)]
        if self.kind == "text" or step == self.without_media:
            return text_batch(some)
        batch = {"pictures": picture_batch, "clips": clip_batch}[self.kind](some)
        if self.kind == "pictures":  # the placeholder of a picture, which the core's table lacks
            batch.tokens[:-1, 1] = TOKENIZER.vocab_size
        if step == self.poisoned:
            batch.images.tiles[0] = torch.nan  # of the first row: one data rank alone reads it
        return batch

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        place = self.trainer.distributed_sampler_kwargs or {"rank": 0, "num_replicas": 1}
        batches = [
            split(self.batch(step), place["num_replicas"])[place["rank"]] for step in range(STEPS)
        ]
        return Resumable(batches, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return self.train_dataloader()


class Whole(Recorder):
    """Notes losses and norms, and writes them with the final weights."""

    def __init__(self, case: Case, folder: Path) -> None:
        super().__init__()
        self.case, self.folder = case, folder

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        parameters = list(pl_module.model.named_parameters())
        self.frozen = {
            name: local(p.detach()).clone() for name, p in parameters if not p.requires_grad
        }
        trained = {name for name, p in parameters if p.requires_grad}
        assert trained == {placed.name for placed in trainer.strategy.placed}
        wanted = self.case.train or ("image_*", "extra_*", "video_*", "speech_*")
        if self.case.kind != "text":
            assert all(any(fnmatchcase(name, each) for each in wanted) for name in trained)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        now = dict(pl_module.model.named_parameters())
        for name, before in self.frozen.items():
            assert torch.equal(local(now[name]), before) and now[name].grad is None, name
        stepped = [p for group in trainer.optimizers[0].param_groups for p in group["params"]]
        assert all(parameter.requires_grad for parameter in stepped)
        assert isinstance(trainer.strategy, MeshStrategy)
        weights = trainer.strategy.whole_weights()
        if trainer.is_global_zero:
            measured = {name: float(value) for name, value in trainer.callback_metrics.items()}
            numbers = {"losses": self.losses, "norms": self.norms, "measured": measured}
            write(self.folder, self.case.name, numbers=numbers, weights=weights)


def module_of(case: Case, folder: Path) -> NextTokenTraining:
    """The training of a case."""
    if case.kind != "text":
        module = training(case.kind, folder)
        module.optimizer_config = OPTIMIZER
        if case.train:
            module.patterns = case.train
        module.parts = replace(module.parts, activation_checkpointing=case.checkpointing)
        return module
    from language.config import LlamaConfig

    torch.manual_seed(0)
    return LanguagePretraining(
        core=LlamaConfig(
            vocab_size=300, dim=32, num_layers=4, num_heads=4, num_kv_heads=2, ffn_dim=48,
            max_positions=64, tied_embeddings="tied" in case.name,
            activation_checkpointing=case.checkpointing,
        ),
        tokenizer=str(folder / "core"),
        optimizer=OPTIMIZER,
        schedule=ScheduleConfig(warmup_steps=2),
    )  # fmt: skip


def run_case(case: Case, folder: Path) -> None:
    """Train, and write what came of it."""
    states = [Checkpoints(every_n_steps=1, keep=9)] if case.save else []
    trainer = quiet_trainer(
        folder / case.name,
        callbacks=[Whole(case, folder), FaultySteps(), *states],
        max_steps=STEPS,
        val_check_interval=STEPS,
        limit_val_batches=1,
        devices=case.processes,
        precision=case.precision,
        strategy=MeshStrategy(process_group_backend="gloo", start_method="fork", **case.strategy),
    )
    state = folder / case.resume / "checkpoints" / "step-1" if case.resume else None
    trainer.fit(module_of(case, folder), Data(case.kind, **case.settings), ckpt_path=state)
