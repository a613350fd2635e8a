"""A row of a batch before it is padded, and rows put together.

Letters: T tokens of a row, M pictures or clips of a row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import get_worker_info

from multimodal.batch import IGNORED, Batch, Clips, Images, Recordings
from vision.tiles import Arrangement, Tiles


@dataclass(frozen=True, kw_only=True)
class FrameTiles:
    """The sampled frames of one clip, cut into tiles."""

    pixels: Tensor
    """Of all frames in order, [frames x tiles of a frame, 3, height, width] float32; none where
    ``features`` are known."""
    arrangement: Arrangement
    """Rows and columns of each frame's tiles."""
    times: tuple[float, ...]
    """Seconds after the clip's first instant that each frame is shown at."""
    features: Tensor | None = None
    """Known image features, [frames x tiles of a frame, tokens, feature_dim]."""
    key: str = ""
    """Names the clip's content where features are kept; "" keeps none."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One row of a batch, not yet padded."""

    tokens: NDArray[np.int64]
    """[T]."""
    targets: NDArray[np.int64]
    """Token wanted after each position, [T]; IGNORED where there is no loss."""
    documents: NDArray[np.int64]
    """Number of the dialogue that each token belongs to, [T]."""
    images: tuple[Tiles, ...]
    """The M pictures."""
    visible: NDArray[np.bool_]
    """Which pictures each token sees, [T, M]."""
    clips: tuple[FrameTiles, ...] = ()
    """The M clips."""
    visible_clips: NDArray[np.bool_] | None = None
    """Which clips each token sees, [T, M]; None where there is no clip."""
    recordings: tuple[Tensor, ...] = ()
    """Samples of the recordings, each [samples] float32."""
    spoken: NDArray[np.bool_] | None = None
    """Which tokens are places of speech embeddings, [T]; None where there is no recording."""


def collate(rows: Sequence[Encoded], *, pad_id: int) -> Batch:
    """Pad rows to the longest and put their media one after another."""
    length = max(len(row.tokens) for row in rows)

    def padded(values: list[NDArray[Any]], fill: int) -> Tensor:
        out = np.full((len(rows), length), fill, dtype=np.int64)
        for line, value in zip(out, values, strict=True):
            line[: len(value)] = value
        return torch.from_numpy(out)

    batch = Batch(
        tokens=padded([row.tokens for row in rows], pad_id),
        lengths=torch.tensor([len(row.tokens) for row in rows]),
        targets=padded([row.targets for row in rows], IGNORED),
    )
    if any(row.documents[-1] > 0 for row in rows):
        batch.documents = padded([row.documents for row in rows], -1)
    if images := [(i, tiles) for i, row in enumerate(rows) for tiles in row.images]:
        batch.visible = _visible([row.visible for row in rows], length)
        batch.images = Images(
            tiles=_joined([tiles.pixels for _, tiles in images]),
            arrangements=torch.tensor([tiles.arrangement for _, tiles in images]),
            rows=torch.tensor([i for i, _ in images]),
        )
    if clips := [(i, clip) for i, row in enumerate(rows) for clip in row.clips]:
        batch.visible_clips = _visible([row.visible_clips for row in rows], length)
        batch.clips = Clips(
            tiles=_joined([clip.pixels for _, clip in clips]),
            arrangements=torch.tensor([clip.arrangement for _, clip in clips]),
            lengths=torch.tensor([len(clip.times) for _, clip in clips]),
            rows=torch.tensor([i for i, _ in clips]),
            keys=[clip.key for _, clip in clips],
            times=[clip.times for _, clip in clips],
        )
        if known := [clip.features for _, clip in clips if clip.features is not None]:
            batch.clips.features = _joined(known)
            batch.clips.known = torch.tensor([clip.features is not None for _, clip in clips])
    if any(row.recordings for row in rows):
        recordings = [(i, samples) for i, row in enumerate(rows) for samples in row.recordings]
        none = np.zeros(0, dtype=bool)
        spoken = [none if row.spoken is None else row.spoken for row in rows]
        batch.spoken = padded(spoken, 0).bool()
        batch.recordings = Recordings(
            waveforms=pad_sequence([samples for _, samples in recordings], batch_first=True),
            lengths=torch.tensor([len(samples) for _, samples in recordings]),
            rows=torch.tensor([i for i, _ in recordings]),
        )
    return batch


def _visible(masks: Sequence[NDArray[np.bool_] | None], length: int) -> Tensor:
    """Masks [T, M] of rows as one, [batch, length, most media of a row]."""
    held = [np.zeros((0, 0), dtype=bool) if mask is None else mask for mask in masks]
    visible = np.zeros((len(held), length, max(mask.shape[1] for mask in held)), dtype=bool)
    for line, mask in zip(visible, held, strict=True):
        line[: mask.shape[0], : mask.shape[1]] = mask
    return torch.from_numpy(visible)


def _joined(pixels: list[Tensor]) -> Tensor:
    """All tiles, one after another; in a loader's worker written where the trainer reads them."""
    if get_worker_info() is None:
        return torch.cat(pixels)
    shape = (sum(map(len, pixels)), *pixels[0].shape[1:])
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * pixels[0].element_size())
    return torch.cat(pixels, out=pixels[0].new_empty(0).set_(storage).view(shape))
