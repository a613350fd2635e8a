"""Dense pre-training of the image encoder: every patch names what stands on it.

Where pictures come with labelled regions (a renderer knows them, so do detection datasets), each
patch is asked for the attributes of the region that covers it, by one linear layer on the encoder's
features. A small encoder learns what stands where from far fewer pictures than by captions alone;
the layer is thrown away. Not in the paper, whose encoder has seen 2.5 billion captioned pictures.

Letters: N tiles, P patches of a tile, A attributes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from language.errors import InputError
from language.flops import Work
from language.optimization import AdamWConfig, ScheduleConfig
from language.training import Training
from language.weights import fill
from vision.checkpoint import differences, open_encoder, save_encoder
from vision.encoder import ImageEncoder, ImageEncoderConfig
from vision.flops import encoder_flops
from vision.tiles import Arrangement, TilesConfig, fitted_size

IGNORED = -100
"""Label of a patch that is not asked."""
COVERED, EMPTY = 0.35, 0.1
"""A patch shows a region if that covers at least this share of it, nothing if less than that."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """Something in a picture."""

    box: tuple[float, float, float, float]
    """Left, top, right and bottom, as shares of the picture's width and height."""
    labels: dict[str, str]
    """Value of each attribute that it has."""


@dataclass(kw_only=True)
class GroundedPictures:
    """A batch of pictures with a label for each patch and attribute."""

    tiles: Tensor
    """[N, 3, S, S], picture by picture."""
    arrangements: Tensor
    """Tile rows and columns of each picture, [pictures, 2]."""
    labels: Tensor
    """[N, P, A]; the first attribute is whether anything stands there; IGNORED is not asked."""


def patch_labels(
    regions: Sequence[Region],
    attributes: dict[str, list[str]],
    *,
    size: tuple[int, int],
    arrangement: Arrangement,
    tiles: TilesConfig,
    patch_size: int,
) -> NDArray[np.int64]:
    """Labels of the patches of one picture, [tiles, P, 1 + attributes].

    Args:
        regions: what stands in it; where two cover a patch, the one that covers more is meant.
        attributes: the values of each, in the order of the labels.
        size: height and width of the picture in pixels.
        arrangement: of its tiles.
        tiles: how it was cut.
        patch_size: edge of a patch in pixels.

    Raises:
        KeyError: a region has an attribute that is not named.
        ValueError: or a value that is not.
    """
    edge = tiles.tile_size // patch_size
    rows, columns = arrangement
    height, width = fitted_size(*size, tile_size=tiles.tile_size, arrangement=arrangement)
    labels = np.full((rows * edge, columns * edge, 1 + len(attributes)), IGNORED, dtype=np.int64)
    labels[..., 0] = 0
    most = np.zeros(labels.shape[:2])
    for region in regions:
        left, top, right, bottom = region.box
        down = _overlap(top * height, bottom * height, number=rows * edge, patch_size=patch_size)
        across = _overlap(left * width, right * width, number=columns * edge, patch_size=patch_size)
        share = down[:, None] * across
        middle = (
            min(int((top + bottom) / 2 * height / patch_size), rows * edge - 1),
            min(int((left + right) / 2 * width / patch_size), columns * edge - 1),
        )
        shown = (share >= COVERED) & (share > most)
        shown[middle] = True
        labels[(share > EMPTY) & (most < COVERED) & ~shown] = IGNORED
        most = np.maximum(most, share)
        values = [
            attributes[name].index(region.labels[name]) if name in region.labels else IGNORED
            for name in attributes
        ]
        labels[shown] = [1, *values]
    cut = labels.reshape(rows, edge, columns, edge, -1).swapaxes(1, 2)
    return cut.reshape(rows * columns, edge * edge, -1)


def _overlap(start: float, stop: float, *, number: int, patch_size: int) -> NDArray[np.float64]:
    """Share of each patch of a line that start .. stop covers, [number]."""
    edges = np.arange(number) * patch_size
    covered = np.minimum(stop, edges + patch_size) - np.maximum(start, edges)
    return np.clip(covered, 0, None) / patch_size


class GroundingModel(nn.Module):
    """The encoder and one linear layer that reads all attributes off a patch."""

    def __init__(self, encoder: ImageEncoder, attributes: dict[str, list[str]]) -> None:
        """``attributes`` names the values of each."""
        super().__init__()
        self.image_encoder = encoder
        self.sizes = [2, *map(len, attributes.values())]
        self.heads = nn.Linear(encoder.config.feature_dim, sum(self.sizes))

    def forward(self, batch: GroundedPictures) -> list[Tensor]:
        """Logits of each attribute, [N, P, values]."""
        features = self.image_encoder(batch.tiles, batch.arrangements)
        if self.image_encoder.config.class_token:
            features = features[:, 1:]
        return list(self.heads(features).split(self.sizes, dim=-1))


class GroundingPretraining(Training):
    """Trains an image encoder to say at each patch what stands there."""

    model: GroundingModel

    def __init__(
        self,
        *,
        image_encoder: ImageEncoderConfig,
        tiles: TilesConfig,
        attributes: dict[str, list[str]],
        optimizer: AdamWConfig,
        schedule: ScheduleConfig,
        start: str | None = None,
    ) -> None:
        """Settings of the run.

        Args:
            image_encoder: sizes of the encoder.
            tiles: how pictures are cut; written beside the encoder.
            attributes: what patches are asked for, and the values that each attribute has.
            optimizer: how weights are changed.
            schedule: course of the learning rate.
            start: directory of the image encoder to go on from; fresh weights otherwise.
        """
        super().__init__(optimizer=optimizer, schedule=schedule)
        if tiles.tile_size != image_encoder.image_size:
            raise ValueError(
                f"tiles.tile_size ({tiles.tile_size}) must equal image_encoder.image_size "
                f"({image_encoder.image_size})"
            )
        self.image_encoder, self.tiles, self.attributes = image_encoder, tiles, attributes
        self.start = start
        self._losses: list[Tensor] = []
        self._hits: list[Tensor] = []

    def configure_model(self) -> None:
        """Build the encoder, with fresh weights or those of `start`.

        Raises:
            InputError: `start` has other sizes.
        """
        if hasattr(self, "model"):
            return
        encoder = ImageEncoder(self.image_encoder)
        if self.start is not None:
            started, _, stored = open_encoder(Path(self.start))
            if changed := differences(started, self.image_encoder):
                raise InputError(self.start, f"its encoder differs from the config in {changed[0]}")
            fill(encoder, stored, dtype=torch.float32)
        self.model = GroundingModel(encoder, self.attributes).train()

    def loss(self, batch: GroundedPictures) -> tuple[Tensor, Tensor]:
        """Sum of the attributes' mean losses; patches right and asked of each, [2, A]."""
        losses, hits = [], []
        for index, logits in enumerate(self.model(batch)):
            labels = batch.labels[..., index]
            asked = labels != IGNORED
            total = F.cross_entropy(
                logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            losses.append(total / asked.sum().clamp(min=1))
            right = (logits.argmax(dim=-1) == labels) & asked
            hits.append(torch.stack([right.sum(), asked.sum()]))
        return torch.stack(losses).sum(), torch.stack(hits, dim=1)

    def training_step(self, batch: GroundedPictures, batch_idx: int) -> Tensor:
        """One batch's loss."""
        loss, _ = self.loss(batch)
        self._losses.append(loss.detach())
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note the mean loss over micro-batches and ranks."""
        mean = torch.stack(self._losses).mean()
        self.step_loss = self.trainer.strategy.reduce(mean, reduce_op="mean")
        self._losses.clear()

    def validation_step(self, batch: GroundedPictures, batch_idx: int) -> None:
        """Count the patches that are right."""
        self._hits.append(self.loss(batch)[1])

    def test_step(self, batch: GroundedPictures, batch_idx: int) -> None:
        """The same on test data."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the share of patches that are right, of each attribute, as `val/...`."""
        self._log_shares("val")

    def on_test_epoch_end(self) -> None:
        """Log the same as `test/...`."""
        self._log_shares("test")

    def _log_shares(self, stage: str) -> None:
        counts = torch.stack(self._hits).sum(dim=0)
        self._hits.clear()
        counts = self.trainer.strategy.reduce(counts, reduce_op="sum")
        shares = counts[0] / counts[1].clamp(min=1)
        metrics = dict(zip(("shown", *self.attributes), shares, strict=True))
        for name, value in metrics.items():
            self.log(f"{stage}/{name}", value.float(), logger=False)
        self.record({f"{stage}/{name}": value for name, value in metrics.items()})

    def work(self, batch: GroundedPictures) -> Work:
        """What a batch asks for."""
        return Work(
            samples=torch.tensor(len(batch.arrangements), device=batch.tiles.device),
            tokens=torch.tensor(batch.labels[..., 0].numel(), device=batch.tiles.device),
            flops=encoder_flops(self.image_encoder, batch.arrangements, trained=True),
        )

    def export(self, directory: Path) -> None:
        """Write the image encoder; the layer on top has served its purpose."""
        save_encoder(self.model.image_encoder, directory, tiles=self.tiles)
