"""Cutting a batch into micro-batches by rows, media with them."""

from dataclasses import replace

import torch
from torch import Tensor

from multimodal.batch import Batch, Clips, Images, Recordings


def split(batch: Batch, number: int) -> list[Batch]:
    """``number`` batches of equally many rows, one after another, of the same width.

    A part in which nothing is seen, or heard, has no such media at all.

    Raises:
        ValueError: the rows do not divide.
    """
    rows = len(batch.tokens)
    if rows % number:
        raise ValueError(f"{rows} rows do not divide into {number} micro-batches")
    size = rows // number
    return [_part(batch, range(start, start + size)) for start in range(0, rows, size)]


def _part(batch: Batch, rows: range) -> Batch:
    within = slice(rows.start, rows.stop)
    images = None if batch.images is None else _images(batch.images, rows)
    clips = None if batch.clips is None else _clips(batch.clips, rows)
    recordings = None if batch.recordings is None else _recordings(batch.recordings, rows)
    return replace(
        batch,
        tokens=batch.tokens[within],
        lengths=batch.lengths[within],
        targets=None if batch.targets is None else batch.targets[within],
        documents=None if batch.documents is None else batch.documents[within],
        images=images,
        visible=None if images is None or batch.visible is None else batch.visible[within],
        clips=clips,
        visible_clips=(
            None if clips is None or batch.visible_clips is None else batch.visible_clips[within]
        ),
        recordings=recordings,
        spoken=None if recordings is None or batch.spoken is None else batch.spoken[within],
    )


def _chosen(rows_of: Tensor, rows: range) -> slice:
    """Media that stand in ``rows``: a slice, since their rows rise."""
    first, last = torch.searchsorted(rows_of, rows_of.new_tensor([rows.start, rows.stop])).tolist()
    return slice(first, last)


def _span(counts: Tensor, chosen: slice) -> slice:
    """Tiles of the chosen media among those of all, of which each has ``counts``."""
    ends = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    return slice(int(ends[chosen.start]), int(ends[chosen.stop]))


def _images(images: Images, rows: range) -> Images | None:
    chosen = _chosen(images.rows, rows)
    if chosen.start == chosen.stop:
        return None
    return Images(
        tiles=images.tiles[_span(images.arrangements.prod(dim=1), chosen)],
        arrangements=images.arrangements[chosen],
        rows=images.rows[chosen] - rows.start,
    )


def _clips(clips: Clips, rows: range) -> Clips | None:
    chosen = _chosen(clips.rows, rows)
    if chosen.start == chosen.stop:
        return None
    counts = clips.tiles_per_clip
    known = torch.zeros_like(counts, dtype=torch.bool) if clips.known is None else clips.known
    return Clips(
        tiles=clips.tiles[_span(torch.where(known, 0, counts), chosen)],
        arrangements=clips.arrangements[chosen],
        lengths=clips.lengths[chosen],
        rows=clips.rows[chosen] - rows.start,
        features=(
            None
            if clips.features is None
            else clips.features[_span(torch.where(known, counts, 0), chosen)]
        ),
        known=None if clips.known is None else clips.known[chosen],
        keys=clips.keys[chosen],
        times=clips.times[chosen],
    )


def _recordings(recordings: Recordings, rows: range) -> Recordings | None:
    chosen = _chosen(recordings.rows, rows)
    if chosen.start == chosen.stop:
        return None
    return Recordings(
        waveforms=recordings.waveforms[chosen],
        lengths=recordings.lengths[chosen],
        rows=recordings.rows[chosen] - rows.start,
    )
