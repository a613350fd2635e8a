"""The aggregator against a brute-force reading, group by group, and what must not change it."""

import math

import pytest
import torch
from torch import Tensor

from video.aggregator import AggregatorConfig, TemporalAggregator, lengthened, read_positions
from video.flops import aggregator_flops, group_tokens

WIDTH = 6


def make(**changes) -> TemporalAggregator:
    sizes = {"dim": 8, "num_layers": 2, "num_heads": 2, "ffn_dim": 12, "frames_per_group": 3}
    torch.manual_seed(0)
    config = AggregatorConfig(feature_dim=WIDTH, **{**sizes, "num_positions": 5, **changes})
    model = TemporalAggregator(config).double()
    torch.nn.init.normal_(model.positions)
    torch.nn.init.normal_(model.latents)
    return model.eval()


def some_clips(shapes: list[tuple[int, int]], *, patches: int = 4, seed: int = 0) -> list[Tensor]:
    """Features [frames, tiles, patches, width] of clips of so many frames and tiles a frame."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(f, t, patches, WIDTH, dtype=torch.float64, generator=generator)
        for f, t in shapes
    ]


def run(model: TemporalAggregator, clips: list[Tensor]) -> list[Tensor]:
    """What each clip becomes, [pieces, features, dim]."""
    lengths = torch.tensor([len(clip) for clip in clips])
    tiles = torch.tensor([clip.shape[1] for clip in clips])
    features = torch.cat([clip.flatten(0, 1) for clip in clips])
    pieces = model(features, lengths=lengths, tiles=tiles)
    return list(pieces.split(model.num_pieces(lengths, tiles).tolist()))


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def by_hand(model: TemporalAggregator, clip: Tensor) -> Tensor:
    """One clip, one group after another, one head and one query after another."""
    config, eps = model.config, model.config.norm_eps
    pieces = []
    for first in range(0, len(clip), config.frames_per_group):
        group = clip[first : first + config.frames_per_group]
        timed, instants = [], []
        for offset, frame in enumerate(group):
            instant = (first + offset) / max(1, len(clip) - 1)
            place = instant * (config.num_positions - 1)
            low, high = math.floor(place), math.ceil(place)
            time = model.positions[low] + (model.positions[high] - model.positions[low]) * (
                place - low
            )
            timed.append(frame @ model.projection.weight.T + model.projection.bias + time)
            instants.append(instant)
        stacked = torch.stack(timed)  # [G, T, P, dim]
        if config.num_latents:
            middle = torch.tensor([sum(instants) / len(instants)], dtype=torch.float64)
            queries = model.latents + read_positions(model.positions, middle)
            shape = (1, config.num_latents, config.dim)
        else:
            queries = (stacked.mean(0) + model.latents).flatten(0, 1)
            shape = (*stacked.shape[1:3], config.dim)
        features = stacked.flatten(0, 2)
        for layer in model.layers:
            normed = norm(queries, layer.query_norm.weight, eps)
            keys = torch.cat([norm(features, layer.feature_norm.weight, eps), normed])
            read = []
            for query in normed:
                heads = []
                for head in range(config.num_heads):
                    rows = slice(head * layer.head_dim, (head + 1) * layer.head_dim)
                    scores = (keys @ layer.key.weight[rows].T) @ (layer.query.weight[rows] @ query)
                    weights = (scores / layer.head_dim**0.5).softmax(0)
                    heads.append(weights @ (keys @ layer.value.weight[rows].T))
                read.append(layer.output.weight @ torch.cat(heads))
            queries = queries + torch.stack(read)
            inner = norm(queries, layer.feed_forward_norm.weight, eps) @ layer.up.weight.T
            queries = queries + torch.nn.functional.gelu(inner) @ layer.down.weight.T
        pieces.append(norm(queries, model.norm.weight, eps).view(shape))
    return torch.cat(pieces)


@pytest.mark.parametrize("num_latents", [0, 5])
@pytest.mark.parametrize("shape", [(6, 1), (7, 2), (1, 1), (2, 3), (3, 4)])
def test_is_the_brute_force_reading(num_latents, shape):
    model = make(num_latents=num_latents)
    clip = some_clips([shape])[0]
    torch.testing.assert_close(run(model, [clip])[0], by_hand(model, clip), atol=1e-12, rtol=0)


@pytest.mark.parametrize("num_latents", [0, 5])
def test_neighbours_and_order_change_nothing(num_latents):
    model = make(num_latents=num_latents)
    clips = some_clips([(6, 1), (4, 2), (1, 1), (7, 4), (6, 1)])
    together = run(model, clips)
    for clip, seen in zip(clips, together, strict=True):
        torch.testing.assert_close(run(model, [clip])[0], seen, atol=1e-12, rtol=0)
    for seen, again in zip(together, reversed(run(model, clips[::-1])), strict=True):
        torch.testing.assert_close(seen, again, atol=1e-12, rtol=0)


def test_groups_read_their_own_frames_alone():
    model = make(num_latents=3)
    clip = some_clips([(7, 1)])[0]
    changed = clip.clone()
    changed[6] += 1  # of the short last group
    before, after = run(model, [clip])[0], run(model, [changed])[0]
    assert torch.equal(before[:2], after[:2])
    assert not torch.allclose(before[2], after[2])


def test_without_layers_it_is_the_mean_of_the_frames():
    model = make(num_layers=0, frames_per_group=8)
    torch.nn.init.zeros_(model.latents)
    clip = some_clips([(8, 2)])[0]
    time = read_positions(model.positions, torch.linspace(0, 1, 8, dtype=torch.float64)).mean(0)
    mean = model.projection(clip.mean(0)) + time
    torch.testing.assert_close(run(model, [clip])[0], model.norm(mean))
    disordered = run(model, [clip[torch.randperm(8)]])[0]
    torch.testing.assert_close(run(model, [clip])[0], disordered)


def test_the_order_of_frames_matters():
    model = make(num_latents=3, frames_per_group=8)
    clip = some_clips([(8, 1)])[0]
    assert not torch.allclose(run(model, [clip])[0], run(model, [clip.flip(0)])[0], atol=1e-3)


def test_a_lengthened_table_says_the_same_at_the_old_places():
    table = torch.randn(16, 4)
    longer = lengthened(table, num_positions=61)  # every old entry falls on a new one
    torch.testing.assert_close(longer[::4], table)
    instants = torch.rand(100)
    torch.testing.assert_close(
        read_positions(longer, instants), read_positions(table, instants), atol=1e-5, rtol=0
    )
    wanted = lengthened(table, num_positions=64)
    torch.testing.assert_close(wanted[[0, -1]], table[[0, -1]])


def test_one_entry_serves_all_times():
    table = torch.randn(1, 4)
    assert torch.equal(read_positions(table, torch.tensor([0.0, 0.5, 1.0])), table.expand(3, -1))


def test_sixteen_frames_and_sixty_four_share_their_ends():
    model = make(num_positions=16)
    few, many = (torch.arange(n, dtype=torch.float64) / (n - 1) for n in (16, 64))
    torch.testing.assert_close(model.embed_time(few)[[0, -1]], model.embed_time(many)[[0, -1]])


@pytest.mark.parametrize("num_latents", [0, 5])
def test_gradients_reach_every_weight(num_latents):
    model = make(num_latents=num_latents)
    sum(out.square().sum() for out in run(model, some_clips([(4, 1), (7, 2)]))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    "changes", [{"dim": 9}, {"num_layers": -1}, {"frames_per_group": 0}, {"num_positions": 0}]
)
def test_wrong_sizes_are_refused(changes):
    with pytest.raises(ValueError, match="video_aggregator"):
        make(**changes)


@pytest.mark.parametrize("num_latents", [0, 5])
def test_operations_are_those_that_torch_counts(num_latents):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    model = make(num_latents=num_latents).float()
    clips = [clip.float() for clip in some_clips([(6, 1), (7, 2), (2, 1)])]
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        sum(out.sum() for out in run(model, clips)).backward()
    lengths, features = torch.tensor([6, 7, 2]), torch.tensor([4, 8, 4])
    expected = aggregator_flops(model.config, lengths=lengths, features=features)
    assert float(expected) == pytest.approx(counter.get_total_flops(), rel=0.02)
    made = group_tokens(model.config, lengths=lengths, features=features).tolist()
    assert made == [out.shape[0] * out.shape[1] for out in run(model, clips)]
