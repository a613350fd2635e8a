"""Clips in the composition: the image model at the start, rows that stay apart, cached decoding."""

from dataclasses import replace

import pytest
import torch

from multimodal.batch import Batch, Clips
from multimodal.config import ClipsConfig, MultimodalConfig
from multimodal.conversation import Conversation
from multimodal.model import MultimodalLlama
from multimodal.session import MultimodalSession
from video.adapter import paper_video_adapter
from video.aggregator import AggregatorConfig

PLACEHOLDER = 300


@pytest.fixture(params=[0, 3], ids=["as a frame", "latents"])
def watching(request, config: MultimodalConfig, model: MultimodalLlama) -> MultimodalLlama:
    """The model of the other tests with video layers before blocks 1 and 4, their gates open."""
    aggregator = AggregatorConfig(
        feature_dim=config.image_encoder.feature_dim,
        dim=16,
        num_layers=2,
        num_heads=2,
        ffn_dim=24,
        frames_per_group=3,
        num_latents=request.param,
        num_positions=4,
        position_init=1.0,
    )
    adapter = replace(
        paper_video_adapter(config.image_adapter, feature_dim=16), positions=(1, 4), gate_init=0.7
    )
    torch.manual_seed(1)
    both = MultimodalLlama(
        replace(
            config,
            video_aggregator=aggregator,
            video_adapter=adapter,
            clips=ClipsConfig(num_frames=4),
        )
    )
    both.load_state_dict(model.state_dict(), strict=False)
    both.video_adapter.reset_parameters()
    return both.eval()


Shape = tuple[int, int, int]
"""Frames of a clip, and tile rows and columns of each frame."""


def with_clips(batch: Batch, clips: list[list[tuple[int, Shape]]], *, seed: int = 0) -> Batch:
    """The batch with clips: ``clips[row]`` lists (position, shape) of each."""
    generator = torch.Generator().manual_seed(seed)
    listed = [(row, *clip) for row, of_row in enumerate(clips) for clip in of_row]
    num_tokens = batch.tokens.shape[1]
    visible = torch.zeros(len(clips), num_tokens, max(map(len, clips)), dtype=torch.bool)
    tokens = batch.tokens.clone()
    for row, of_row in enumerate(clips):
        for column, (position, _) in enumerate(of_row):
            visible[row, position:, column] = True
            tokens[row, position] = PLACEHOLDER
    num_tiles = sum(frames * rows * columns for _, _, (frames, rows, columns) in listed)
    return replace(
        batch,
        tokens=tokens,
        visible_clips=visible,
        clips=Clips(
            tiles=torch.randn(num_tiles, 3, 16, 16, generator=generator),
            arrangements=torch.tensor([shape[1:] for _, _, shape in listed]),
            lengths=torch.tensor([shape[0] for _, _, shape in listed]),
            rows=torch.tensor([row for row, _, _ in listed]),
        ),
    )


def row_of(batch: Batch, row: int) -> Batch:
    """One row with its clips, alone."""
    alone = Batch(tokens=batch.tokens[row : row + 1], lengths=batch.lengths[row : row + 1])
    keep = batch.clips.rows == row
    if keep.any():
        number = int(keep.sum())
        alone.visible_clips = batch.visible_clips[row : row + 1, :, :number]
        alone.clips = Clips(
            tiles=batch.clips.tiles[keep.repeat_interleave(batch.clips.tiles_per_clip)],
            arrangements=batch.clips.arrangements[keep],
            lengths=batch.clips.lengths[keep],
            rows=torch.zeros(number, dtype=torch.long),
        )
    return alone


MIXED = [[(2, (4, 1, 1))], [], [(0, (5, 1, 2)), (6, (1, 2, 2))]]


@torch.no_grad()
def test_gates_at_zero_are_the_image_model_to_the_bit(watching, model, make_batch):
    for name, parameter in watching.video_adapter.named_parameters():
        if name.endswith("gate"):
            parameter.zero_()
    pictures = make_batch([[(3, (1, 2))], [], [(8, (1, 1))]])
    batch = with_clips(pictures, MIXED)
    assert torch.equal(watching(batch), model(replace(batch, clips=None, visible_clips=None)))


@torch.no_grad()
def test_rows_without_a_clip_are_the_image_models_to_the_bit(watching, model, make_batch):
    pictures = make_batch([[(3, (1, 2))], [(1, (1, 1))], [(8, (1, 1))]])
    batch = with_clips(pictures, MIXED)
    ours, images = watching(batch), model(replace(batch, clips=None, visible_clips=None))
    assert torch.equal(ours[1], images[1])
    assert torch.equal(ours[0, :2], images[0, :2])  # before the clip
    assert not torch.allclose(ours[0, 2:], images[0, 2:], atol=1e-3)
    assert torch.equal(watching(pictures), model(pictures))


@torch.no_grad()
def test_rows_are_the_same_alone_and_together(watching, make_batch):
    batch = with_clips(make_batch([[], [], []]), MIXED)
    together = watching(batch)
    for row in range(3):
        alone = watching(row_of(batch, row))
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_clip_changes_what_comes_after_it_alone(watching, make_batch):
    batch = with_clips(make_batch([[]]), [[(2, (3, 1, 1)), (7, (4, 1, 1))]])
    tiles = batch.clips.tiles.clone()
    tiles[3:] += 1  # the second clip's
    changed = replace(batch, clips=replace(batch.clips, tiles=tiles))
    before, after = watching(batch), watching(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:], atol=1e-3)


@torch.no_grad()
def test_the_order_of_frames_matters(watching, make_batch):
    batch = with_clips(make_batch([[]]), [[(2, (3, 1, 1))]])
    reversed_ = replace(batch, clips=replace(batch.clips, tiles=batch.clips.tiles.flip(0)))
    assert not torch.allclose(watching(batch), watching(reversed_), atol=1e-3)


@torch.no_grad()
def test_known_features_stand_for_tiles(watching, make_batch):
    batch = with_clips(make_batch([[], [], []]), MIXED)
    expected, clips = watching(batch), batch.clips
    features = watching.frame_features(clips)
    known = torch.tensor([True, False, True])
    is_known = known.repeat_interleave(clips.tiles_per_clip)
    mixed = replace(clips, tiles=clips.tiles[~is_known], features=features[is_known], known=known)
    torch.testing.assert_close(watching(replace(batch, clips=mixed)), expected, atol=1e-5, rtol=0)
    none = torch.ones(3, dtype=torch.bool)
    whole = replace(clips, tiles=clips.tiles[:0], features=features, known=none)
    torch.testing.assert_close(watching(replace(batch, clips=whole)), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_frames_encoded_in_pieces_are_the_same(watching, make_batch, monkeypatch):
    batch = with_clips(make_batch([[], [], []]), MIXED)
    whole = watching.frame_features(batch.clips)
    monkeypatch.setattr("multimodal.model.TILES_AT_ONCE", 3)
    pieces = watching.frame_features(batch.clips)
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=0)
    one_by_one = []
    shapes = batch.clips.arrangements.repeat_interleave(batch.clips.lengths, dim=0)
    start = 0
    for shape in shapes:
        end = start + int(shape.prod())
        one_by_one.append(watching.image_encoder(batch.clips.tiles[start:end], shape[None]))
        start = end
    torch.testing.assert_close(torch.cat(one_by_one), whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_decoding_with_what_is_kept_is_reading_all_anew(watching, make_batch):
    pictures = make_batch([[(4, (1, 2))], [(1, (1, 1))]], num_tokens=9)
    batch = with_clips(pictures, [[(2, (4, 1, 1))], []])
    session = MultimodalSession(watching, batch_size=2, max_length=16)
    logits = session.prefill(batch)
    torch.testing.assert_close(logits, watching(batch)[:, -1], atol=1e-5, rtol=0)
    for _ in range(3):
        token = logits.argmax(-1, keepdim=True)
        logits = session.append(token)
        batch = replace(
            batch,
            tokens=torch.cat([batch.tokens, token], dim=1),
            lengths=batch.lengths + 1,
            visible=torch.cat([batch.visible, batch.visible[:, -1:]], dim=1),
            visible_clips=torch.cat([batch.visible_clips, batch.visible_clips[:, -1:]], dim=1),
        )
        torch.testing.assert_close(logits, watching(batch)[:, -1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_conversation_watches_each_clip_once(watching, make_batch, monkeypatch):
    whole = with_clips(make_batch([[]], num_tokens=20), [[(2, (4, 1, 1)), (12, (3, 1, 2))]])
    first = replace(
        whole,
        tokens=whole.tokens[:, :9],
        lengths=torch.tensor([9]),
        visible_clips=whole.visible_clips[:, :9, :1],
        clips=replace(
            whole.clips,
            tiles=whole.clips.tiles[:4],
            arrangements=whole.clips.arrangements[:1],
            lengths=whole.clips.lengths[:1],
            rows=whole.clips.rows[:1],
        ),
    )
    watched = []
    merge = MultimodalLlama.merge_frames
    monkeypatch.setattr(
        MultimodalLlama,
        "merge_frames",
        lambda self, clips: watched.append(len(clips.lengths)) or merge(self, clips),
    )
    conversation = Conversation(watching)
    _, logits = conversation.read(first, max_new_tokens=16)
    torch.testing.assert_close(logits, watching(first)[:, -1], atol=1e-5, rtol=0)
    watched.clear()
    _, logits = conversation.read(whole, max_new_tokens=2)
    assert watched == [1]
    torch.testing.assert_close(logits, watching(whole)[:, -1], atol=1e-5, rtol=0)
    other = replace(whole, clips=replace(whole.clips, tiles=whole.clips.tiles + 1))
    _, logits = conversation.read(other, max_new_tokens=2)
    torch.testing.assert_close(logits, watching(other)[:, -1], atol=1e-5, rtol=0)


def test_a_model_without_video_parts_says_so(model, make_batch):
    batch = with_clips(make_batch([[]]), [[(2, (3, 1, 1))]])
    with pytest.raises(ValueError, match="no video parts"):
        model(batch)


def test_parts_that_do_not_fit_are_refused(watching):
    config = watching.config
    for changes in (
        {"video_adapter": None},
        {"video_adapter": replace(config.video_adapter, feature_dim=17)},
        {"video_adapter": replace(config.video_adapter, positions=(9,))},
        {"video_aggregator": replace(config.video_aggregator, feature_dim=5)},
    ):
        with pytest.raises(ValueError, match="video_a"):
            replace(config, **changes)
    with pytest.raises(ValueError, match="num_frames"):
        ClipsConfig(num_frames=0)
    assert MultimodalConfig.from_json(config.to_json()) == config
