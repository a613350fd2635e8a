"""Floating-point operations of the Conformer and the adapter, counted from config and lengths.

As ``language.flops`` counts: what the model needs for real frames, without recomputation.
"""

import torch
from torch import Tensor

from speech.adapter import KERNEL_SIZE, STRIDE, SpeechAdapterConfig
from speech.conformer import ConformerConfig
from speech.packing import Window


def window_pairs(window: Window, lengths: Tensor) -> Tensor:
    """Pairs of a frame and what it attends to in recordings of ``lengths``, 0-d float64."""
    if window.chunk_size == 0:
        return lengths.double().square().sum()
    size, left = window.chunk_size, window.left_context
    # All chunks but the last are whole; how many frames a chunk's window reaches back is a ramp.
    num_chunks = -(-int(lengths.max()) // size) if len(lengths) else 0
    starts = size * torch.arange(num_chunks, device=lengths.device)
    frames = (lengths[:, None] - starts).clamp(0, size)  # [recordings, chunks]
    before = starts if left is None else starts.clamp(max=left)
    return (frames * (frames + before)).double().sum()


def conformer_flops(config: ConformerConfig, lengths: Tensor, *, trained: bool) -> Tensor:
    """Operations of the encoder in one step, a 0-d float64 tensor.

    Args:
        config: sizes of the encoder.
        lengths: real frames of each recording, [recordings].
        trained: whether there is a backward pass, for inputs and weights, beside the forward one.
    """
    dim = config.dim
    attention, convolution = 4 * dim**2, 3 * dim**2 + config.kernel_size * dim
    block = 4 * dim * config.ffn_dim + attention + convolution
    linear = (config.input_dim * dim + config.num_layers * block) * lengths.double().sum()
    pairs = config.num_layers * window_pairs(config.window, lengths)
    return _both_ways(2 * linear + 4 * dim * pairs, trained=trained)


def adapter_flops(config: SpeechAdapterConfig, lengths: Tensor, *, trained: bool) -> Tensor:
    """Operations of the adapter in one step, a 0-d float64 tensor.

    Args:
        config: sizes of the adapter.
        lengths: real encoder frames of each recording, [recordings].
        trained: as for :func:`conformer_flops`.
    """
    dim = config.dim
    tokens = (lengths + STRIDE - 1) // STRIDE
    weights = KERNEL_SIZE * config.input_dim * dim + 4 * dim**2 + dim * config.output_dim
    weights += (3 if config.gated else 2) * dim * config.ffn_dim
    forward = 2 * weights * tokens.double().sum() + 4 * dim * tokens.double().square().sum()
    return _both_ways(forward, trained=trained)


def _both_ways(forward: Tensor, *, trained: bool) -> Tensor:
    """Forward alone, or with gradients of inputs and weights, which take as much each."""
    return 3 * forward if trained else forward
