"""Micro-batches: together they are the batch, rows with their media."""

import pytest
import torch

from multimodal.training.parallel.micro_batches import split
from tests.multimodal.training.fakes import Rows, clip_batch, picture_batch, text_batch
from tests.multimodal.training.test_ranks import spoken_batch


def rows(number: int) -> list[torch.Tensor]:
    some = Rows(num_rows=number, length=9, seed=3)
    return [some[index] for index in range(number)]


@pytest.mark.parametrize("number", [1, 2, 3, 6])
@pytest.mark.parametrize("make", [picture_batch, clip_batch, text_batch])
def test_media_go_with_their_rows(make, number):
    batch = make(rows(6))
    parts = split(batch, number)
    assert torch.equal(torch.cat([part.tokens for part in parts]), batch.tokens)
    assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
    for name in ("images", "clips"):
        whole = getattr(batch, name)
        if whole is None:
            assert all(getattr(part, name) is None for part in parts)
            continue
        given = [(part, getattr(part, name)) for part in parts]
        some = [media for _, media in given if media is not None]
        assert torch.equal(torch.cat([media.tiles for media in some]), whole.tiles)
        assert torch.equal(torch.cat([media.arrangements for media in some]), whole.arrangements)
        back = [
            media.rows + index * (6 // number)
            for index, (_, media) in enumerate(given)
            if media is not None
        ]
        assert torch.equal(torch.cat(back), whole.rows)
        visible = {"images": "visible", "clips": "visible_clips"}[name]
        for part, media in given:
            assert (getattr(part, visible) is None) == (media is None)
    if number == 6 and batch.images is not None:
        assert parts[-1].images is None  # the last row shows none


def test_recordings_go_with_their_rows():
    batch = spoken_batch(first=0, number=4, media=True)
    parts = split(batch, 2)
    assert torch.equal(
        torch.cat([part.recordings.lengths for part in parts]), batch.recordings.lengths
    )
    assert all(part.recordings.rows.tolist() == [0, 1] for part in parts)
    assert torch.equal(torch.cat([part.spoken for part in parts]), batch.spoken)


def test_features_that_are_known_are_cut_apart_from_tiles():
    batch = clip_batch(rows(5))
    counts = batch.clips.tiles_per_clip
    batch.clips.known = torch.tensor([True, False, True, False])
    known = batch.clips.known.repeat_interleave(counts)
    batch.clips.features = torch.arange(int(counts[batch.clips.known].sum()))[:, None, None].float()
    batch.clips.tiles = batch.clips.tiles[~known]
    first, *_ = split(batch, 5)
    assert len(first.clips.features) == int(counts[0]) and len(first.clips.tiles) == 0
    _, second, *_ = split(batch, 5)
    assert len(second.clips.tiles) == int(counts[1]) and len(second.clips.features) == 0


def test_rows_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="5 rows do not divide into 2"):
        split(text_batch(rows(5)), 2)
