"""Data for tests of training: a short cycle of tokens that a small model learns in a few steps."""

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from multimodal.batch import IGNORED, Batch

VOCABULARY = 48


class Rows(Dataset):
    """Row ``i`` counts upwards from a number drawn by ``i``; a share of targets is left out."""

    def __init__(self, *, num_rows: int, length: int, seed: int) -> None:
        self.num_rows, self.length, self.seed = num_rows, length, seed

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, index: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        start, step = torch.randint(1, VOCABULARY, (2,), generator=generator)
        return (start + (step % 3 + 1) * torch.arange(self.length + 1)) % VOCABULARY


def collate(rows: list[torch.Tensor]) -> Batch:
    tokens = torch.stack(rows)
    targets = tokens[:, 1:].clone()
    targets[:, : int(tokens[0, 0]) % 5] = IGNORED
    lengths = torch.full((len(rows),), targets.shape[1])
    return Batch(tokens=tokens[:, :-1], lengths=lengths, targets=targets)


class Resumable(DataLoader):
    """A loader that goes on where its state says, as the project's own do."""

    def __iter__(self):
        start, self.position = getattr(self, "position", 0), 0
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
    """Rows that count, in a fixed order."""

    def __init__(self, *, batch_size: int = 4, num_rows: int = 64, length: int = 12) -> None:
        super().__init__()
        self.batch_size, self.num_rows, self.length = batch_size, num_rows, length

    def train_dataloader(self) -> DataLoader:
        rows = Rows(num_rows=self.num_rows, length=self.length, seed=1)
        return Resumable(rows, batch_size=self.batch_size, collate_fn=collate)

    def val_dataloader(self) -> DataLoader:
        rows = Rows(num_rows=8, length=self.length, seed=2)
        return DataLoader(rows, batch_size=self.batch_size, collate_fn=collate)
