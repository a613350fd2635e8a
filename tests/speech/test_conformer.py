"""The Conformer equals written-out formulas and other libraries, and no frame sees padding."""

from dataclasses import replace

import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2BertConfig
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertEncoder

import speech.packing
from language.config_dict import config_from_dict, config_to_dict
from speech.conformer import CONFORMERS, Conformer, ConformerConfig
from speech.conformer_stream import ConformerStream
from speech.flops import conformer_flops, window_pairs
from speech.frames import Frames
from speech.packing import RowContext, Window

SMALL = ConformerConfig(input_dim=20, dim=32, num_layers=3, num_heads=4, ffn_dim=48, kernel_size=7)
LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=5)
WINDOWS = st.one_of(
    st.just((0, None)), st.tuples(st.integers(1, 12), st.none() | st.integers(0, 20))
)
few = settings(max_examples=12, deadline=None, derandomize=True)


def randomised(config: ConformerConfig) -> Conformer:
    """Every parameter random, norms and biases among them."""
    generator = torch.Generator().manual_seed(0)
    conformer = Conformer(config)
    for name, parameter in conformer.named_parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
        if "norm.weight" in name:
            parameter.data += 1
    return conformer.eval()


def recordings(lengths: list[int], dim: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, dim, generator=generator) for length in lengths]


def padded(parts: list[torch.Tensor], *, fill: float, extra: int = 0) -> Frames:
    lengths = torch.tensor([len(part) for part in parts])
    values = torch.full((len(parts), int(lengths.max()) + extra, parts[0].shape[1]), fill)
    for row, part in enumerate(parts):
        values[row, : len(part)] = part
    return Frames(values=values, lengths=lengths)


def encoded_alone(conformer: Conformer, part: torch.Tensor) -> torch.Tensor:
    return conformer(Frames(values=part[None], lengths=torch.tensor([len(part)]))).values[0]


def test_sizes_of_the_presets():
    with torch.device("meta"):
        counts = {
            name: sum(parameter.numel() for parameter in Conformer(config).parameters()) / 1e6
            for name, config in CONFORMERS.items()
        }
    assert counts["1b"] == pytest.approx(1002, abs=3)  # the paper's, in millions
    assert counts["base"] == pytest.approx(103, abs=0.1)
    assert counts["tiny"] == pytest.approx(1.31, abs=0.01)


def reference(conformer: Conformer, part: torch.Tensor) -> torch.Tensor:
    """One recording [frames, input_dim] by the definition, frame by frame where windows matter."""
    config, num_frames = conformer.config, len(part)
    size = config.chunk_size or max(num_frames, 1)
    left = num_frames if config.left_context is None else config.left_context
    sees = torch.zeros(num_frames, num_frames, dtype=torch.bool)
    for query in range(num_frames):
        start = query - query % size
        for key in range(num_frames):
            sees[query, key] = start - left <= key < start + size
    inverse = 1 / config.rope_theta ** (torch.arange(0, config.head_dim, 2) / config.head_dim)
    angles = torch.outer(torch.arange(num_frames).float(), inverse).repeat(1, 2)
    x = conformer.projection(part)
    for block in conformer.blocks:
        module = block.feed_forward_in
        x = x + 0.5 * module.down(F.silu(module.up(block.feed_forward_in_norm(x))))
        qkv = block.attention.qkv(block.attention_norm(x)).chunk(3, dim=-1)
        query, key, value = (
            y.view(num_frames, config.num_heads, config.head_dim).transpose(0, 1) for y in qkv
        )
        query, key = apply_rotary_pos_emb(query, key, angles.cos(), angles.sin(), unsqueeze_dim=0)
        scores = query @ key.transpose(1, 2) / config.head_dim**0.5
        weights = scores.masked_fill(~sees, -torch.inf).softmax(dim=-1)
        x = x + block.attention.output((weights @ value).transpose(0, 1).flatten(1))
        module = block.convolution
        gated = F.glu(module.gated(block.convolution_norm(x)), dim=-1)
        frames = []
        for frame in range(num_frames):
            total = module.depthwise.bias.clone()
            for tap in range(config.kernel_size):
                source = frame + tap - config.kernel_size // 2
                if 0 <= source < min(num_frames, frame - frame % size + size):
                    total = total + module.depthwise.weight[:, 0, tap] * gated[source]
            frames.append(total)
        x = x + module.output(F.silu(module.norm(torch.stack(frames))))
        module = block.feed_forward_out
        x = x + 0.5 * module.down(F.silu(module.up(block.feed_forward_out_norm(x))))
        x = block.norm(x)
    return x


@pytest.mark.parametrize("window", [(0, None), (5, None), (5, 3), (4, 0), (1, 6), (100, 2)])
@pytest.mark.parametrize("lengths", [[23, 23], [23, 8, 0, 17, 1]], ids=["equal", "unequal"])
def test_equals_the_written_out_definition(window, lengths):
    conformer = randomised(replace(SMALL, chunk_size=window[0], left_context=window[1]))
    parts = recordings(lengths, 20)
    with torch.no_grad():
        outputs = conformer(padded(parts, fill=torch.nan, extra=2)).values
        for part, output in zip(parts, outputs, strict=True):
            if len(part):
                expected = reference(conformer, part)
                torch.testing.assert_close(output[: len(part)], expected, atol=1e-5, rtol=0)
            assert not output[len(part) :].any()


def test_equals_w2v_bert_where_both_can(monkeypatch: pytest.MonkeyPatch):
    """Without positions, and with a kernel whose taps into the future are 0: theirs is causal."""
    oracle = Wav2Vec2BertEncoder(
        Wav2Vec2BertConfig(
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=48,
            conv_depthwise_kernel_size=3,
            position_embeddings_type=None,
            hidden_act="swish",
            attn_implementation="sdpa",
        )
    ).eval()
    conformer = randomised(replace(SMALL, input_dim=32, kernel_size=5))
    conformer.projection = torch.nn.Identity()
    for ours, theirs in zip(conformer.blocks, oracle.layers, strict=True):
        pairs = [
            (ours.feed_forward_in_norm, theirs.ffn1_layer_norm),
            (ours.feed_forward_in.up, theirs.ffn1.intermediate_dense),
            (ours.feed_forward_in.down, theirs.ffn1.output_dense),
            (ours.attention_norm, theirs.self_attn_layer_norm),
            (ours.attention.output, theirs.self_attn.linear_out),
            (ours.convolution_norm, theirs.conv_module.layer_norm),
            (ours.convolution.norm, theirs.conv_module.depthwise_layer_norm),
            (ours.feed_forward_out_norm, theirs.ffn2_layer_norm),
            (ours.feed_forward_out.up, theirs.ffn2.intermediate_dense),
            (ours.feed_forward_out.down, theirs.ffn2.output_dense),
            (ours.norm, theirs.final_layer_norm),
        ]
        for mine, other in pairs:
            other.load_state_dict(mine.state_dict())
        their_attention = theirs.self_attn
        for index, linear in enumerate(
            (their_attention.linear_q, their_attention.linear_k, their_attention.linear_v)
        ):
            linear.weight.data = ours.attention.qkv.weight.data.chunk(3)[index]
            linear.bias.data = ours.attention.qkv.bias.data.chunk(3)[index]
        for mine, other in [
            (ours.convolution.gated, theirs.conv_module.pointwise_conv1),
            (ours.convolution.output, theirs.conv_module.pointwise_conv2),
        ]:
            mine.bias.data.zero_()
            other.weight.data = mine.weight.data[:, :, None]
        ours.convolution_norm.bias.data.zero_()  # theirs masks before its bias-free product
        theirs.conv_module.layer_norm.bias.data.zero_()
        ours.convolution.depthwise.bias.data.zero_()
        ours.convolution.depthwise.weight.data[:, :, 3:] = 0
        theirs.conv_module.depthwise_conv.weight.data = ours.convolution.depthwise.weight.data[
            :, :, :3
        ]

    def unturned(positions, *, head_dim, theta):
        shape = len(positions), head_dim
        return torch.ones(shape), torch.zeros(shape)

    monkeypatch.setattr(speech.packing, "rotary", unturned)
    frames = padded(recordings([19, 30, 7], 32), fill=0.0)
    with torch.no_grad():
        output = conformer(frames).values
        expected = oracle(frames.values, attention_mask=frames.mask.long()).last_hidden_state
    expected = expected * frames.mask[:, :, None]
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=0)


@few
@given(lengths=LENGTHS, window=WINDOWS, extra=st.integers(0, 5))
def test_an_utterance_is_the_same_alone_and_in_any_batch(lengths, window, extra):
    """Outputs, gradients of the inputs, and of the parameters in sum; the padding is not a number.

    An utterance may be cut from the batch, doubled in it, or stand beside any other.
    """
    conformer = randomised(replace(SMALL, chunk_size=window[0], left_context=window[1]))
    parts = recordings(lengths, 20)
    weights = torch.randn(40, 32, generator=torch.Generator().manual_seed(2))

    batch = padded(parts, fill=torch.nan, extra=extra)
    batch.values.requires_grad_()
    outputs = conformer(batch).values
    assert outputs.shape == (*batch.values.shape[:2], 32)
    assert not outputs[~batch.mask].any()
    sum(
        (outputs[row, :length] * weights[:length]).sum() for row, length in enumerate(lengths)
    ).backward()
    together = [parameter.grad for parameter in conformer.parameters()]
    conformer.zero_grad()

    for row, part in enumerate(parts):
        alone = part.clone().requires_grad_()
        output = encoded_alone(conformer, alone)
        torch.testing.assert_close(outputs[row, : len(part)], output, atol=1e-5, rtol=0)
        (output * weights[: len(part)]).sum().backward()
        gradient = batch.values.grad[row]
        assert not gradient[len(part) :].any()
        if len(part):
            scale = max(1.0, float(gradient.abs().max()))
            torch.testing.assert_close(gradient[: len(part)], alone.grad, atol=1e-5 * scale, rtol=0)
    for total, parameter in zip(together, conformer.parameters(), strict=True):
        if total is not None and parameter.grad is not None:
            scale = max(1.0, float(total.abs().max()))
            torch.testing.assert_close(total, parameter.grad, atol=1e-5 * scale, rtol=0)


def leak(encode, *, dim: int) -> float:
    """Most that an utterance's output changes when a longer neighbour joins it."""
    short, long = recordings([25, 60], dim)
    with torch.no_grad():
        alone = encode(padded([short], fill=0.0))[0]
        beside = encode(padded([short, long], fill=0.0))[0, :25]
    return float((alone - beside).abs().max())


def test_the_check_finds_a_leak_elsewhere():
    """torchaudio's convolution sees padding (pytorch/audio issue 4205); ours passes the same."""
    torch.manual_seed(0)
    other = torchaudio.models.Conformer(
        input_dim=32, num_heads=4, ffn_dim=48, num_layers=3, depthwise_conv_kernel_size=7
    ).eval()
    assert leak(lambda frames: other(frames.values, frames.lengths)[0], dim=32) > 1e-3
    ours = randomised(replace(SMALL, input_dim=32))
    assert leak(lambda frames: ours(frames).values, dim=32) <= 1e-5


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("window", [(0, None), (7, 5)])
def test_flex_attention_over_all_recordings_equals_one_at_a_time(window, monkeypatch):
    """The path of GPUs, here uncompiled and forward alone, which is what it can on CPU."""
    conformer = randomised(replace(SMALL, chunk_size=window[0], left_context=window[1]))
    frames = padded(recordings([130, 3, 0, 61], 20), fill=torch.nan)
    outputs = []
    with torch.no_grad():
        for is_flex in (False, True):
            monkeypatch.setattr(RowContext, "uses_flex_attention", is_flex)
            outputs.append(conformer(frames).values)
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=0)


@few
@given(
    chunk_size=st.integers(1, 12),
    left_context=st.none() | st.integers(0, 20),
    num_frames=st.integers(1, 45),
)
def test_a_stream_equals_the_whole_run(chunk_size, left_context, num_frames):
    conformer = randomised(replace(SMALL, chunk_size=chunk_size, left_context=left_context))
    parts = recordings([num_frames, num_frames, num_frames + 9], 20)
    with torch.no_grad():
        whole = conformer(padded(parts, fill=torch.nan)).values[:2, :num_frames]
    stream = ConformerStream(conformer)
    pieces = [stream.push(chunk) for chunk in torch.stack(parts[:2]).split(chunk_size, dim=1)]
    # The last chunk of the third utterance's run holds frames that the stream never got.
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=0)


def test_a_stream_keeps_no_more_than_its_window():
    conformer = randomised(replace(SMALL, chunk_size=4, left_context=6))
    stream = ConformerStream(conformer)
    for chunk in recordings([4] * 10, 20):
        stream.push(chunk[None])
        for layer in stream._layers:
            assert layer._past.shape[1] <= 6 and layer._convolved.shape[1] == 3
            for kept in (layer._past, layer._convolved):  # and does not hold on to a larger memory
                assert kept.untyped_storage().nbytes() == kept.nbytes
    stream.push(torch.zeros(1, 3, 20))
    with pytest.raises(ValueError, match="ended this stream"):
        stream.push(torch.zeros(1, 4, 20))
    with pytest.raises(ValueError, match="1 .. 4 frames, not 5"):
        ConformerStream(conformer).push(torch.zeros(1, 5, 20))
    with pytest.raises(ValueError, match="chunk_size above 0"):
        ConformerStream(randomised(SMALL))


@few
@given(chunk_size=st.integers(1, 12), left_context=st.none() | st.integers(0, 20))
def test_what_comes_after_a_chunk_changes_nothing_that_was_said(chunk_size, left_context):
    conformer = randomised(replace(SMALL, chunk_size=chunk_size, left_context=left_context))
    first, second = recordings([40, 40], 20)
    end = 20 // chunk_size * chunk_size
    changed = torch.cat((first[:end], 1e3 * second[end:]))
    with torch.no_grad():
        before, after = (encoded_alone(conformer, part) for part in (first, changed))
    torch.testing.assert_close(after[:end], before[:end], atol=1e-6, rtol=0)
    assert (after[end:] - before[end:]).abs().amax(dim=1).min() > 1e-3


def test_layer_outputs():
    conformer = randomised(SMALL)
    frames = padded(recordings([9, 30], 20), fill=torch.nan)
    outputs = conformer.layer_outputs(frames)
    assert len(outputs) == 3
    assert torch.equal(outputs[-1].values, conformer(frames).values)
    shorter = randomised(replace(SMALL, num_layers=1))
    shorter.load_state_dict({name: conformer.state_dict()[name] for name in shorter.state_dict()})
    assert torch.equal(outputs[0].values, shorter(frames).values)


def test_recomputation_changes_no_gradient():
    frames = padded(recordings([9, 30], 20), fill=torch.nan)
    gradients = []
    for checkpointing in (False, True):
        conformer = randomised(
            replace(SMALL, dropout=0.2, activation_checkpointing=checkpointing)
        ).train()
        torch.manual_seed(3)  # of the dropout
        conformer(frames).values.square().sum().backward()
        gradients.append([parameter.grad for parameter in conformer.parameters()])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, kept)


def test_dropout_acts_in_training_alone():
    frames = padded(recordings([9, 30], 20), fill=torch.nan)
    conformer = randomised(replace(SMALL, dropout=0.5))
    plain = randomised(SMALL)
    assert torch.equal(conformer(frames).values, plain(frames).values)
    conformer.train()
    assert not torch.equal(conformer(frames).values, conformer(frames).values)


@pytest.mark.parametrize("whole_model", [False, True], ids=["autocast", "bfloat16 weights"])
def test_bfloat16(whole_model):
    conformer = randomised(SMALL)
    parts = recordings([9, 30, 17], 20)
    exact = conformer(padded(parts, fill=torch.nan)).values
    frames = padded(parts, fill=torch.nan)
    if whole_model:
        conformer.bfloat16()
        frames.values = frames.values.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=not whole_model):
        output = conformer(frames).values
        output.float().square().sum().backward()
    assert output.dtype == (torch.bfloat16 if whole_model else torch.float32)
    error = (output.float() - exact).norm() / exact.norm()
    assert error < 0.03
    assert all(parameter.grad.isfinite().all() for parameter in conformer.parameters())


def test_a_fresh_encoder_passes_gradients_to_its_first_block():
    torch.manual_seed(0)
    conformer = Conformer(replace(SMALL, num_layers=24, dim=64))
    output = conformer(padded(recordings([50, 31], 20), fill=torch.nan)).values
    (output * torch.randn_like(output)).sum().backward()
    norms = [block.attention.qkv.weight.grad.norm() for block in conformer.blocks]
    assert max(norms) / min(norms) < 1.5


def test_operations_are_counted_as_done():
    conformer = Conformer(SMALL)
    for lengths, tolerance in (([24, 24], 1e-9), ([24, 9, 40], 0.01)):  # gaps are convolved too
        frames = padded(recordings(lengths, 20), fill=0.0)
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            conformer(frames)
        expected = conformer_flops(SMALL, frames.lengths, trained=False)
        assert counter.get_total_flops() == pytest.approx(float(expected), rel=tolerance)
        assert conformer_flops(SMALL, frames.lengths, trained=True) == 3 * expected


@few
@given(lengths=LENGTHS, window=WINDOWS)
def test_pairs_of_a_window(lengths, window):
    window = Window(chunk_size=window[0], left_context=window[1])
    expected = 0
    for length in lengths:
        positions = torch.arange(length)
        expected += int(window.sees(positions[:, None], positions).sum())
    assert window_pairs(window, torch.tensor(lengths)) == expected


def test_lengths_and_widths_are_checked():
    conformer = randomised(SMALL)
    with pytest.raises(ValueError, match="must lie in 0 .. 5"):
        conformer(Frames(values=torch.zeros(1, 5, 20), lengths=torch.tensor([6])))
    with pytest.raises(ValueError, match="20 wide, not 21"):
        conformer(Frames(values=torch.zeros(1, 5, 21), lengths=torch.tensor([5])))
    nothing = conformer(Frames(values=torch.zeros(2, 5, 20), lengths=torch.tensor([0, 0])))
    assert nothing.values.shape == (2, 5, 32) and not nothing.values.any()


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"num_heads": 5}, "multiple of twice num_heads"),
        ({"num_heads": 32}, "multiple of twice num_heads"),
        ({"kernel_size": 6}, "must be odd"),
        ({"dropout": 1.0}, "dropout"),
        ({"chunk_size": -1}, "0 or more"),
        ({"left_context": 8}, "needs a chunk_size"),
    ],
)
def test_configs_that_make_no_sense(change, fault):
    with pytest.raises(ValueError, match=fault):
        replace(SMALL, **change)


def test_config_survives_its_dictionary():
    config = replace(SMALL, chunk_size=8, left_context=16)
    assert config_from_dict(ConformerConfig, config_to_dict(config)) == config
    assert config_from_dict(ConformerConfig, config_to_dict(SMALL)) == SMALL
