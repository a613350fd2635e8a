"""The core: published sizes, causality, packed documents, and the cache against recomputation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from language.attention import document_mask, document_positions
from language.config import LLAMA_CONFIGS, LlamaConfig, RopeScaling
from language.model import Llama
from language.rope import rotary_frequencies

SMALL = LlamaConfig(
    vocab_size=97, dim=32, num_layers=3, num_heads=4, num_kv_heads=2, ffn_dim=48, max_positions=256
)


@pytest.fixture(scope="module")
def core() -> Llama:
    """A small core with fresh weights."""
    torch.manual_seed(0)
    model = Llama(SMALL)
    model.reset_parameters()
    return model.eval()


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("3-8b", 8030.26),
        ("3.1-70b", 70553.71),
        ("3.1-405b", 405853.39),
        ("3.2-1b", 1235.81),
        ("3.2-3b", 3212.75),
    ],
)
def test_published_parameter_counts(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = Llama(LLAMA_CONFIGS[name])
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("position", [0, 5, 9])
def test_a_token_changes_nothing_before_it(core: Llama, position: int) -> None:
    tokens = torch.randint(97, (2, 12))
    changed = tokens.clone()
    changed[:, position] = (changed[:, position] + 1) % 97
    before, after = core(tokens), core(changed)
    assert torch.equal(before[:, :position], after[:, :position])
    assert not torch.allclose(before[:, position:], after[:, position:])


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_packed_documents_equal_documents_apart(lengths: list[int]) -> None:
    torch.manual_seed(1)
    core = Llama(SMALL).eval()
    core.reset_parameters()
    parts = [torch.randint(97, (1, length)) for length in lengths]
    documents = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)])[None]
    packed = core(torch.cat(parts, dim=1), documents=documents)
    apart = torch.cat([core(part) for part in parts], dim=1)
    torch.testing.assert_close(packed, apart, atol=2e-5, rtol=1e-4)


def test_document_positions_and_mask_by_brute_force() -> None:
    documents = torch.tensor([[0, 0, 1, 1, 1, 4], [2, 2, 2, 2, 0, 0]])
    positions, mask = document_positions(documents), document_mask(documents)
    for row, names in enumerate(documents.tolist()):
        for i, name in enumerate(names):
            assert positions[row, i] == i - names.index(name)
            allowed = [j <= i and names[j] == name for j in range(len(names))]
            assert mask[row, 0, i].tolist() == allowed


def test_cached_reading_equals_reading_at_once(core: Llama) -> None:
    """Unequal rows, in chunks: prompt, several tokens, single tokens."""
    tokens = torch.randint(97, (3, 20))
    whole = core(tokens)
    lengths = [5, 2, 9]
    cache = core.new_cache(3, max_length=20)
    starts = [0, 0, 0]
    for chunk in (lengths, [3, 4, 1], [1, 1, 1], [1, 1, 1]):
        width = max(chunk)
        piece = torch.zeros(3, width, dtype=torch.long)
        for row, (start, count) in enumerate(zip(starts, chunk, strict=True)):
            piece[row, :count] = tokens[row, start : start + count]
        logits = core(piece, cache=cache, num_new=chunk)
        for row, (start, count) in enumerate(zip(starts, chunk, strict=True)):
            expected = whole[row, start : start + count]
            torch.testing.assert_close(logits[row, :count], expected, atol=2e-5, rtol=1e-4)
        starts = [start + count for start, count in zip(starts, chunk, strict=True)]


def test_equal_rows_take_the_same_way(core: Llama) -> None:
    tokens = torch.randint(97, (2, 11))
    whole = core(tokens)
    cache = core.new_cache(2, max_length=11)
    pieces = [core(part, cache=cache) for part in tokens.split([4, 1, 5, 1], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=2e-5, rtol=1e-4)


def test_a_full_cache_says_so(core: Llama) -> None:
    cache = core.new_cache(1, max_length=4)
    with pytest.raises(ValueError, match="5 tokens do not fit into a cache of 4"):
        core(torch.zeros(1, 5, dtype=torch.long), cache=cache)


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(3)
        config = LlamaConfig(**{**vars(SMALL), "activation_checkpointing": checkpointing})
        model = Llama(config)
        model.reset_parameters()
        model(torch.arange(10)[None]).logsumexp(-1).sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)


def test_scaled_frequencies_keep_short_waves_and_slow_long_ones() -> None:
    plain = rotary_frequencies(LlamaConfig())
    scaled = rotary_frequencies(LlamaConfig(rope_scaling=RopeScaling()))
    turns = 8192 * plain / (2 * torch.pi)
    assert torch.equal(scaled[turns >= 4], plain[turns >= 4])
    torch.testing.assert_close(scaled[turns <= 1], plain[turns <= 1] / 8)
    assert (scaled <= plain).all() and (scaled.diff() < 0).all()


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"dim": 30, "num_heads": 4}, "multiple of num_heads"),
        ({"num_heads": 4, "num_kv_heads": 3}, "multiple of num_kv_heads"),
        ({"dim": 12, "num_heads": 4}, "must be even"),
    ],
)
def test_impossible_sizes_are_refused(wrong: dict[str, int], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        LlamaConfig(**{"dim": 32, "num_heads": 4, "num_kv_heads": 1, **wrong})


def test_training_goes_on_after_inference() -> None:
    """What is kept between passes, rotary tables, does not remember inference mode."""
    core = Llama(SMALL)
    tokens = torch.arange(6)[None]
    with torch.inference_mode():
        core(tokens)
    core(tokens).sum().backward()
    assert core.blocks[0].attention.query.weight.grad is not None
