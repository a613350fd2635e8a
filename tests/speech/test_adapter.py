"""The speech adapter equals other libraries' layers, halves the rate, and sees no padding."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig as TheirConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from language.config_dict import config_from_dict, config_to_dict
from speech.adapter import SPEECH_ADAPTERS, SpeechAdapter, SpeechAdapterConfig
from speech.flops import adapter_flops
from speech.frames import Frames

SMALL = SpeechAdapterConfig(input_dim=24, output_dim=40, dim=32, ffn_dim=48, num_heads=4)


def randomised(config: SpeechAdapterConfig) -> SpeechAdapter:
    """Every parameter random, norms and biases among them."""
    generator = torch.Generator().manual_seed(0)
    adapter = SpeechAdapter(replace(config, output_scale=1.0))
    for parameter in adapter.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = parameter.data + (0.3 if parameter.dim() == 1 else 0.05) * noise
    return adapter.eval()


def recordings(lengths: list[int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, 24, generator=generator) for length in lengths]


def padded(parts: list[torch.Tensor], *, extra: int = 0) -> Frames:
    lengths = torch.tensor([len(part) for part in parts])
    values = torch.full((len(parts), int(lengths.max()) + extra, 24), torch.nan)
    for row, part in enumerate(parts):
        values[row, : len(part)] = part
    return Frames(values=values, lengths=lengths)


@pytest.mark.parametrize(
    "name, gated, expected",
    [("8b", False, 89.7), ("8b", True, 102.2), ("70b", False, 102.2), ("70b", True, 114.8)],
)
def test_sizes(name, gated, expected):
    """Millions of parameters; what the presets choose is the reading nearest to "about 100M"."""
    preset = SPEECH_ADAPTERS[name]
    with torch.device("meta"):
        adapter = SpeechAdapter(replace(preset, gated=gated))
    count = sum(parameter.numel() for parameter in adapter.parameters()) / 1e6
    assert count == pytest.approx(expected, abs=0.1)
    assert (expected == 102.2) == (gated == preset.gated)
    assert adapter.start.shape == adapter.end.shape == (preset.output_dim,)


def test_equals_a_convolution_and_a_layer_of_llama():
    """Gated: torch's own strided convolution, then transformers' layer without a causal mask."""
    adapter = randomised(SMALL)
    convolution = torch.nn.Conv1d(24, 32, 3, stride=2, padding=1)
    convolution.weight.data = adapter.convolution.weight.data.view(32, 3, 24).transpose(1, 2)
    convolution.bias.data = adapter.convolution.bias.data
    config = TheirConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=48,
        rms_norm_eps=1e-5,
        attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )
    layer = LlamaDecoderLayer(config, 0).eval()
    query, key, value = adapter.attention.qkv.weight.data.chunk(3)
    layer.load_state_dict(
        {
            "self_attn.q_proj.weight": query,
            "self_attn.k_proj.weight": key,
            "self_attn.v_proj.weight": value,
            "self_attn.o_proj.weight": adapter.attention.output.weight,
            "mlp.gate_proj.weight": adapter.feed_forward.gate.weight,
            "mlp.up_proj.weight": adapter.feed_forward.up.weight,
            "mlp.down_proj.weight": adapter.feed_forward.down.weight,
            "input_layernorm.weight": adapter.attention_norm.weight,
            "post_attention_layernorm.weight": adapter.feed_forward_norm.weight,
        }
    )
    parts = recordings([21, 8, 1, 2])
    with torch.no_grad():
        outputs = adapter(padded(parts))
        for row, part in enumerate(parts):
            x = convolution(part.T[None]).transpose(1, 2)
            tokens = x.shape[1]
            rope = LlamaRotaryEmbedding(config)(x, torch.arange(tokens)[None])
            x = layer(x, attention_mask=torch.zeros(1, 1, tokens, tokens), position_embeddings=rope)
            expected = adapter.output(adapter.norm(x))[0]
            assert outputs.lengths[row] == tokens
            torch.testing.assert_close(outputs.values[row, :tokens], expected, atol=1e-5, rtol=0)


def test_without_a_gate():
    """The plain feed-forward layer, written out behind what is tested above."""
    adapter = randomised(replace(SMALL, gated=False))
    (part,) = recordings([9])
    seen = []
    adapter.feed_forward.register_forward_hook(lambda _, inputs, out: seen.append((*inputs, out)))
    adapter(padded([part]))
    x, out = seen[0]
    up = x @ adapter.feed_forward.up.weight.T
    torch.testing.assert_close(out, (up * up.sigmoid()) @ adapter.feed_forward.down.weight.T)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    extra=st.integers(0, 3),
    gated=st.booleans(),
)
def test_a_recording_is_the_same_alone_and_in_any_batch(lengths, extra, gated):
    """Outputs and gradients of the inputs; the padding is not a number."""
    adapter = randomised(replace(SMALL, gated=gated))
    parts = recordings(lengths)
    weights = torch.randn(15, 40, generator=torch.Generator().manual_seed(2))
    batch = padded(parts, extra=extra)
    batch.values.requires_grad_()
    outputs = adapter(batch)
    assert outputs.values.shape == (len(lengths), (max(lengths) + extra + 1) // 2, 40)
    assert outputs.lengths.tolist() == [-(-length // 2) for length in lengths]
    assert not outputs.values[~outputs.mask].any()
    (outputs.values * fitted(weights, outputs.values.shape[1])).sum().backward()
    for row, part in enumerate(parts):
        if len(part):
            alone = part.clone().requires_grad_()
            output = adapter(Frames(values=alone[None], lengths=torch.tensor([len(part)])))
            tokens = output.values.shape[1]
            torch.testing.assert_close(
                outputs.values[row, :tokens], output.values[0], atol=1e-5, rtol=0
            )
            (output.values[0] * weights[:tokens]).sum().backward()
            gradient = batch.values.grad[row]
            scale = max(1.0, float(gradient.abs().max()))
            torch.testing.assert_close(gradient[: len(part)], alone.grad, atol=1e-5 * scale, rtol=0)
            assert not gradient[len(part) :].any()


def fitted(weights: torch.Tensor, length: int) -> torch.Tensor:
    """``weights`` cut or filled with zeros to ``length``."""
    return torch.nn.functional.pad(weights, (0, 0, 0, length - len(weights)))


def test_numbers_of_tokens():
    adapter = SpeechAdapter(SMALL)
    counts = [adapter.num_tokens(count) for count in range(8)]
    assert counts == [0, 1, 1, 2, 2, 3, 3, 4]
    assert adapter.num_tokens(torch.arange(8)).tolist() == counts
    assert adapter.num_tokens(1500) == 750  # a minute (paper section 8)


def test_fresh_embeddings_are_as_large_as_the_core_s():
    torch.manual_seed(0)
    adapter = SpeechAdapter(replace(SMALL, output_dim=400, output_scale=0.01))
    output = adapter(padded(recordings([60]))).values
    assert output.square().mean().sqrt().item() == pytest.approx(0.01, rel=0.1)
    for special in (adapter.start, adapter.end):
        assert special.square().mean().sqrt().item() == pytest.approx(0.01, rel=0.15)
        assert special.requires_grad


@pytest.mark.parametrize("gated", [True, False])
def test_operations_are_counted_as_done(gated):
    config = replace(SMALL, gated=gated)
    frames = padded(recordings([24, 9, 40]))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        SpeechAdapter(config)(frames)
    expected = adapter_flops(config, frames.lengths, trained=False)
    assert counter.get_total_flops() == expected
    assert adapter_flops(config, frames.lengths, trained=True) == 3 * expected


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"dim": 0}, "dim must be at least 1"),
        ({"num_heads": 5}, "multiple of twice num_heads"),
        ({"output_scale": 0.0}, "output_scale must be above 0"),
    ],
)
def test_configs_that_make_no_sense(change, fault):
    with pytest.raises(ValueError, match=fault):
        replace(SMALL, **change)


def test_wrong_widths_and_lengths():
    adapter = SpeechAdapter(SMALL)
    with pytest.raises(ValueError, match="24 wide, not 23"):
        adapter(Frames(values=torch.zeros(1, 4, 23), lengths=torch.tensor([4])))
    with pytest.raises(ValueError, match="must lie in"):
        adapter(Frames(values=torch.zeros(1, 4, 24), lengths=torch.tensor([5])))


def test_config_survives_its_dictionary():
    assert config_from_dict(SpeechAdapterConfig, config_to_dict(SMALL)) == SMALL
