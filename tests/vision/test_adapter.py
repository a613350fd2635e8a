"""Cross-attention layers: gates, masks by brute force, pictures that leave each other alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vision.adapter import ImageAdapter, ImageAdapterConfig, ImageMemory, cross_attention_context

SMALL = ImageAdapterConfig(
    positions=(1, 3),
    dim=16,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    ffn_dim=24,
    feature_dim=12,
    gate_init=0.7,
)
NUM_PATCHES = 3


def fresh(config: ImageAdapterConfig = SMALL) -> ImageAdapter:
    torch.manual_seed(0)
    adapter = ImageAdapter(config)
    adapter.reset_parameters()
    return adapter.eval()


def run(adapter: ImageAdapter, x: Tensor, memory: ImageMemory, visible: Tensor) -> Tensor:
    context = cross_attention_context(memory, visible)
    for layer, key, value in zip(adapter.layers, memory.keys, memory.values, strict=True):
        x = layer(x, key, value, context)
    return x


def by_definition(
    adapter: ImageAdapter, x: Tensor, features: list[list[Tensor]], visible: Tensor
) -> Tensor:
    """Token by token: softmax over the features of the pictures it sees, or nothing at all."""
    out = x.clone()
    heads, groups = SMALL.num_heads, SMALL.num_heads // SMALL.num_kv_heads
    for layer in adapter.layers:
        for row, token in torch.cartesian_prod(*map(torch.arange, x.shape[:2])).tolist():
            seen = [f for f, v in zip(features[row], visible[row, token], strict=False) if v]
            if not seen:
                continue
            projected = adapter.projection(torch.cat(seen))
            here = layer.attention_norm(out[row, token])
            query = layer.attention.query_norm(layer.attention.query(here).view(heads, -1))
            key = layer.attention.key(projected).view(len(projected), -1, SMALL.head_dim)
            key = layer.attention.key_norm(key)
            value = layer.attention.value(projected).view(len(projected), -1, SMALL.head_dim)
            found = []
            for head in range(heads):
                scores = key[:, head // groups] @ query[head] / SMALL.head_dim**0.5
                found.append(scores.softmax(0) @ value[:, head // groups])
            attended = layer.attention.output(torch.cat(found))
            hidden = out[row, token] + layer.attention_gate.tanh() * attended
            change = layer.feed_forward(layer.feed_forward_norm(hidden))
            out[row, token] = hidden + layer.feed_forward_gate.tanh() * change
    return out


@settings(max_examples=30, deadline=None)
@given(
    tiles=st.lists(st.lists(st.integers(1, 3), max_size=3), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
)
def test_any_pictures_in_any_rows_equal_the_definition(tiles: list[list[int]], seed: int) -> None:
    """``tiles[row]`` holds the number of tiles of each picture of the row."""
    if not any(tiles):
        return
    torch.manual_seed(seed)
    adapter = fresh()
    features = [[torch.randn(n * NUM_PATCHES, 12) for n in row] for row in tiles]
    counts = torch.tensor([n for row in tiles for n in row])
    rows = torch.tensor([i for i, row in enumerate(tiles) for _ in row])
    packed = torch.cat([f for row in features for f in row]).view(-1, NUM_PATCHES, 12)
    images = torch.arange(len(counts)).repeat_interleave(counts)
    memory = adapter.remember(packed, images=images, rows=rows, batch_size=len(tiles))
    visible = torch.rand(len(tiles), 4, max(map(len, tiles))) < 0.6
    for row, pictures in enumerate(tiles):
        visible[row, :, len(pictures) :] = False
    x = torch.randn(len(tiles), 4, 16)
    with torch.no_grad():
        found = run(adapter, x, memory, visible)
        expected = by_definition(adapter, x, features, visible)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(found[~visible.any(-1)], x[~visible.any(-1)])


def test_a_fresh_adapter_is_the_identity() -> None:
    adapter = fresh(ImageAdapterConfig(**{**vars(SMALL), "gate_init": 0.0}))
    memory = adapter.remember(
        torch.randn(2, NUM_PATCHES, 12),
        images=torch.tensor([0, 1]),
        rows=torch.tensor([0, 1]),
        batch_size=2,
    )
    x = torch.randn(2, 5, 16)
    assert torch.equal(run(adapter, x, memory, torch.ones(2, 5, 1, dtype=torch.bool)), x)


def test_tokens_that_see_nothing_give_no_gradient() -> None:
    adapter = fresh()
    memory = adapter.remember(
        torch.randn(1, NUM_PATCHES, 12),
        images=torch.tensor([0]),
        rows=torch.tensor([0]),
        batch_size=2,
    )
    visible = torch.zeros(2, 4, 1, dtype=torch.bool)
    visible[0, 2:] = True
    out = run(adapter, torch.randn(2, 4, 16), memory, visible)
    out[~visible.any(-1)].sum().backward()
    assert all(not p.grad.any() for p in adapter.parameters() if p.grad is not None)


def test_leaking_is_a_choice() -> None:
    """With the switch, a token before the picture changes by the attention output alone."""
    adapter = fresh(ImageAdapterConfig(**{**vars(SMALL), "leak_before_first_image": True}))
    memory = adapter.remember(
        torch.randn(1, NUM_PATCHES, 12),
        images=torch.tensor([0]),
        rows=torch.tensor([0]),
        batch_size=1,
    )
    x = torch.randn(1, 2, 16)
    layer, context = adapter.layers[0], cross_attention_context(memory, torch.zeros(1, 2, 1).bool())
    out = layer(x, memory.keys[0], memory.values[0], context)
    attended = layer.attention(layer.attention_norm(x), memory.keys[0], memory.values[0], mask=None)
    torch.testing.assert_close(out, x + layer.attention_gate.tanh() * attended)


def test_pictures_of_a_later_turn_join_those_before() -> None:
    adapter = fresh()
    features = torch.randn(3, NUM_PATCHES, 12)

    def remember(part: Tensor) -> ImageMemory:
        return adapter.remember(
            part,
            images=torch.arange(len(part)),
            rows=torch.zeros(len(part), dtype=torch.long),
            batch_size=1,
        )

    together, grown = remember(features), remember(features[:1]).extend(remember(features[1:]))
    visible = torch.rand(1, 6, 3) < 0.5
    x = torch.randn(1, 6, 16)
    torch.testing.assert_close(
        run(adapter, x, grown, visible), run(adapter, x, together, visible), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("positions", [(3, 1), (1, 1), (-1, 2)])
def test_positions_out_of_order_are_refused(positions: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="positions must rise"):
        ImageAdapterConfig(**{**vars(SMALL), "positions": positions})
