"""Pictures with labelled regions, for the encoder's dense pre-training (`vision.grounding`).

A sample's record holds ``{"regions": [{"box": [left, top, right, bottom], "labels": {...}}]}``, the
box in shares of the picture's width and height. Samples may hold captions too, so that the same
shards serve other stages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from language.errors import InputError
from multimodal.data.module import SampleData, SourceConfig
from multimodal.data.samples import Extent, Sample, Source
from multimodal.data.tasks import only_picture, open_pictures, tiles_cost
from vision.grounding import IGNORED, GroundedPictures, GroundingPretraining, Region, patch_labels
from vision.pictures import open_picture
from vision.tiles import Tiles, TilesConfig, tile_picture


@dataclass(frozen=True, kw_only=True)
class GroundedPicture:
    """One picture and the labels of its patches."""

    picture: Tiles
    labels: NDArray[np.int64]
    """[tiles, patches, 1 + attributes]."""


class GroundingTask:
    """Pictures beside labels of their patches."""

    def __init__(
        self, *, tiles: TilesConfig, patch_size: int, attributes: dict[str, list[str]]
    ) -> None:
        """Label patches of ``patch_size`` pixels with ``attributes``."""
        self.tiles, self.patch_size, self.attributes = tiles, patch_size, attributes

    def cost(self, extent: Extent) -> float:
        """Tiles."""
        return tiles_cost(extent, self.tiles)

    def encode(self, sample: Sample) -> GroundedPicture:
        """A row.

        Raises:
            InputError: the sample is unusable.
        """
        regions = _regions(sample)
        try:
            picture = open_picture(only_picture(sample))
        except InputError as error:
            raise InputError(sample.name, error.fault) from None
        tiles = tile_picture(picture, self.tiles)
        try:
            labels = patch_labels(
                regions,
                self.attributes,
                size=(picture.height, picture.width),
                arrangement=tiles.arrangement,
                tiles=self.tiles,
                patch_size=self.patch_size,
            )
        except ValueError as error:
            raise InputError(
                sample.name, f"a label that the config does not name: {error}"
            ) from None
        return GroundedPicture(picture=tiles, labels=labels)

    def collate(self, rows: Sequence[GroundedPicture]) -> GroundedPictures:
        """A batch."""
        return GroundedPictures(
            tiles=torch.cat([row.picture.pixels for row in rows]),
            arrangements=torch.tensor([row.picture.arrangement for row in rows]),
            labels=torch.from_numpy(np.concatenate([row.labels for row in rows])),
        )

    def without_loss(self, row: GroundedPicture) -> GroundedPicture:
        """The picture, with nothing asked about it."""
        return GroundedPicture(picture=row.picture, labels=np.full_like(row.labels, IGNORED))


class GroundingData(SampleData):
    """Shards whose samples name the regions of their pictures."""

    def open_source(self, config: SourceConfig) -> Source:
        """Shards or JSONL."""
        return open_pictures(config.path, name=config.name, cache=self.cache)

    def task(self) -> GroundingTask:
        """Tiles, patches and attributes are those of the module that is trained."""
        assert self.trainer is not None, "the sizes are those of the trained module"
        module = self.trainer.lightning_module
        assert isinstance(module, GroundingPretraining)
        return GroundingTask(
            tiles=module.tiles,
            patch_size=module.image_encoder.patch_size,
            attributes=module.attributes,
        )


def _regions(sample: Sample) -> list[Region]:
    regions = sample.record.get("regions")
    if not isinstance(regions, list):
        raise InputError(sample.name, "no list of regions")
    return [_region(region, name=sample.name) for region in regions]


def _region(data: Any, *, name: str) -> Region:
    box = data.get("box") if isinstance(data, dict) else None
    labels = data.get("labels") if isinstance(data, dict) else None
    if (
        not (isinstance(box, list) and len(box) == 4 and all(_is_share(value) for value in box))
        or not box[0] < box[2]
        or not box[1] < box[3]
    ):
        raise InputError(name, "a region's box must be [left, top, right, bottom] within 0 .. 1")
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        raise InputError(name, "a region's labels must be an object of texts")
    return Region(box=(box[0], box[1], box[2], box[3]), labels=labels)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
