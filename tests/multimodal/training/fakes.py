"""Data for tests of training: rows that count, which a small model learns in a few steps."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch.utils.data import DataLoader, Dataset

from multimodal.batch import IGNORED, Batch, Clips, Images
from multimodal.training.checkpoints import WholeStates

VOCABULARY = 48
TILE = 16


class Rows(Dataset):
    """Row ``i`` counts upwards from a number drawn by ``i``."""

    def __init__(self, *, num_rows: int, length: int, seed: int) -> None:
        self.num_rows, self.length, self.seed = num_rows, length, seed

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, index: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        start, step = torch.randint(1, VOCABULARY, (2,), generator=generator)
        return (start + (step % 3 + 1) * torch.arange(self.length + 1)) % VOCABULARY


def text_batch(rows: list[torch.Tensor]) -> Batch:
    """Rows with unequal numbers of targets."""
    tokens = torch.stack(rows)
    targets = tokens[:, 1:].clone()
    for row, first in zip(targets, tokens[:, 0], strict=True):
        row[: int(first) % 8] = IGNORED
    lengths = torch.full((len(rows),), targets.shape[1])
    return Batch(tokens=tokens[:, :-1], lengths=lengths, targets=targets)


def picture_batch(rows: list[torch.Tensor]) -> Batch:
    """Each row but the last shows a picture from its second token on, whose colour is its start."""
    batch = text_batch(rows)
    seeing = range(max(len(rows) - 1, 1))
    counts = [1 + row % 2 for row in seeing]
    colours = [float(rows[row][0]) / VOCABULARY for row in seeing]
    tiles = [
        torch.full((count, 3, TILE, TILE), colour)
        for count, colour in zip(counts, colours, strict=True)
    ]
    batch.visible = torch.zeros(*batch.tokens.shape, 1, dtype=torch.bool)
    batch.visible[: len(seeing), 1:] = True
    batch.images = Images(
        tiles=torch.cat(tiles),
        arrangements=torch.tensor([[1, count] for count in counts]),
        rows=torch.tensor(list(seeing)),
    )
    return batch


def clip_batch(rows: list[torch.Tensor]) -> Batch:
    """Each row but the last shows a clip from its second token on, that fades to its start."""
    batch = text_batch(rows)
    seeing = range(max(len(rows) - 1, 1))
    lengths = [3 + row % 2 for row in seeing]
    tiles = []
    for row, length in zip(seeing, lengths, strict=True):
        colours = torch.linspace(0.5, float(rows[row][0]) / VOCABULARY, length)
        tiles.append(colours.view(-1, 1, 1, 1).expand(length, 3, TILE, TILE))
    batch.visible_clips = torch.zeros(*batch.tokens.shape, 1, dtype=torch.bool)
    batch.visible_clips[: len(seeing), 1:] = True
    batch.clips = Clips(
        tiles=torch.cat(tiles),
        arrangements=torch.ones(len(seeing), 2, dtype=torch.long),
        lengths=torch.tensor(lengths),
        rows=torch.tensor(list(seeing)),
        keys=[f"{int(rows[row][0]):02d}{lengths[row]}{'0' * 61}" for row in seeing],
        times=[tuple(map(float, range(length))) for length in lengths],
    )
    return batch


class Resumable(DataLoader):
    """A loader that goes on where its state says, as the project's own do."""

    position = 0

    def __iter__(self) -> Any:
        start = self.position
        for index, batch in enumerate(super().__iter__()):
            if index >= start:
                self.position = index + 1
                yield batch
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class Counting(LightningDataModule):
    """Rows in a fixed order."""

    def __init__(
        self,
        *,
        batch_size: int = 4,
        num_rows: int = 64,
        length: int = 12,
        pictures: bool = False,
        clips: bool = False,
    ) -> None:
        super().__init__()
        self.batch_size, self.num_rows, self.length = batch_size, num_rows, length
        self.collate = picture_batch if pictures else clip_batch if clips else text_batch

    def train_dataloader(self) -> DataLoader:
        rows = Rows(num_rows=self.num_rows, length=self.length, seed=1)
        return Resumable(rows, batch_size=self.batch_size, collate_fn=self.collate)

    def val_dataloader(self) -> DataLoader:
        rows = Rows(num_rows=8, length=self.length, seed=2)
        return DataLoader(rows, batch_size=self.batch_size, collate_fn=self.collate)

    def test_dataloader(self) -> DataLoader:
        return self.val_dataloader()


class Recorder(Callback):
    """Notes loss, gradient norm and rate of each step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.rates: list[float] = []

    def on_before_zero_grad(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step > len(self.losses):
            self.losses.append(float(pl_module.step_loss))
            self.norms.append(float(pl_module.gradient_norm))


def quiet_trainer(root: Any, **settings: Any) -> Trainer:
    """A trainer as the command makes it, without loggers."""
    usual = {
        "default_root_dir": root,
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": -1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(c, Checkpoint) for c in settings["callbacks"]),
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "gradient_clip_val": 1.0,
        "limit_val_batches": 0,
        "plugins": [WholeStates()],
    }
    return Trainer(**{**usual, **settings})
