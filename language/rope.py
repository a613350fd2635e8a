"""Rotary position embedding and its scaling to long contexts (paper sections 3.2 and 3.4.2)."""

import math

import torch
from torch import Tensor

from language.config import LlamaConfig, RopeScaling


def rotary_frequencies(config: LlamaConfig) -> Tensor:
    """Angle that each pair of a head's dimensions turns per token, [head_dim / 2] float32."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponent
    if config.rope_scaling is None:
        return frequencies
    return scale_frequencies(frequencies, config.rope_scaling)


def scale_frequencies(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Slow the low frequencies by ``factor``, keep the high ones, blend those between.

    Computed in the publisher's order, to the last bit: an error here is multiplied by the position.
    """
    turns = scaling.original_max_positions / (2 * math.pi / frequencies)
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = keep.clamp(0, 1)
    return (1 - keep) * frequencies / scaling.factor + keep * frequencies


class RotaryTables:
    """Cosines and sines by position, computed once per device and grown when a text is longer."""

    def __init__(self, config: LlamaConfig) -> None:
        """Nothing is computed before the first use, so that a model can be built on meta."""
        self._config = config
        self._tables: tuple[Tensor, Tensor] | None = None

    def up_to(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosine and signed sine of positions 0 .. at least ``length`` - 1, for :func:`rotate`.

        Returns:
            Each [positions, head_dim]; the sine's first half is negative.
        """
        tables = self._tables
        if tables is None or tables[0].device != device or len(tables[0]) < length:
            size = 1 << max(8, (length - 1).bit_length())
            with torch.device("cpu"), torch.inference_mode(False):  # training may use them later
                positions = torch.arange(size, dtype=torch.float32)
                angles = torch.outer(positions, rotary_frequencies(self._config))
                cos, sin = angles.cos(), angles.sin()
                cos, sin = torch.cat((cos, cos), dim=1), torch.cat((-sin, sin), dim=1)
                tables = self._tables = cos.to(device), sin.to(device)
        return tables


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn queries or keys by their positions.

    The halves of a head are the two coordinates of each pair (Hugging Face's order of rows).

    Args:
        x: [batch, heads, tokens, head_dim].
        cos: [batch or 1, 1, tokens, head_dim], in the type of ``x``.
        sin: the same, its first half negated: the turn then takes three steps.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat((second, first), dim=-1), sin)
