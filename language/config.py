"""Sizes of the Llama 3 language core (paper, table 3) and of its public releases."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Stretching of the rotary frequencies to contexts past the trained one (Llama 3.1)."""

    factor: float = 8.0
    """How many times the low frequencies are slowed."""
    low_freq_factor: float = 1.0
    """Waves longer than original_max_positions / low_freq_factor are slowed by the whole factor."""
    high_freq_factor: float = 4.0
    """Waves shorter than original_max_positions / high_freq_factor stay as they are."""
    original_max_positions: int = 8192
    """The context that the unscaled model was trained on, in tokens."""

    def __post_init__(self) -> None:
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError("rope_scaling: high_freq_factor must be above low_freq_factor")


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """One size of the language core."""

    vocab_size: int = 128_256
    """Rows of the embedding table: text tokens and special tokens."""
    dim: int = 4096
    """Width of the residual stream."""
    num_layers: int = 32
    num_heads: int = 32
    num_kv_heads: int = 8
    """Key/value heads; each serves num_heads / num_kv_heads query heads."""
    head_dim: int = 0
    """Width of a head; 0 means dim / num_heads."""
    ffn_dim: int = 14_336
    """Inner width of the SwiGLU feed-forward."""
    norm_eps: float = 1e-5
    rope_theta: float = 500_000.0
    rope_scaling: RopeScaling | None = None
    max_positions: int = 8192
    """Longest context, in tokens."""
    tied_embeddings: bool = False
    """Whether the head shares the embedding's table (3.2 1B and 3B)."""
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass instead of keeping its activations."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "dim", "num_layers", "num_heads", "num_kv_heads", "ffn_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.head_dim == 0:
            if self.dim % self.num_heads:
                raise ValueError(
                    f"dim ({self.dim}) must be a multiple of num_heads ({self.num_heads}), "
                    "or give head_dim"
                )
            object.__setattr__(self, "head_dim", self.dim // self.num_heads)
        if self.head_dim % 2:
            raise ValueError(f"head_dim ({self.head_dim}) must be even for rotary positions")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must be a multiple of "
                f"num_kv_heads ({self.num_kv_heads})"
            )


_8B = LlamaConfig(dim=4096, num_layers=32, num_heads=32, ffn_dim=14_336)
_70B = LlamaConfig(dim=8192, num_layers=80, num_heads=64, ffn_dim=28_672)
_405B = LlamaConfig(dim=16_384, num_layers=126, num_heads=128, ffn_dim=53_248)
_1B = LlamaConfig(dim=2048, num_layers=16, num_heads=32, ffn_dim=8192, tied_embeddings=True)
_3B = LlamaConfig(dim=3072, num_layers=28, num_heads=24, ffn_dim=8192, tied_embeddings=True)


def _long(config: LlamaConfig, *, factor: float) -> LlamaConfig:
    return replace(config, max_positions=131_072, rope_scaling=RopeScaling(factor=factor))


LLAMA_CONFIGS: dict[str, LlamaConfig] = {
    "3-8b": _8B,
    "3-70b": _70B,
    "3.1-8b": _long(_8B, factor=8.0),
    "3.1-70b": _long(_70B, factor=8.0),
    "3.1-405b": _long(_405B, factor=8.0),
    "3.2-1b": _long(_1B, factor=32.0),
    "3.2-3b": _long(_3B, factor=32.0),
}
"""Published sizes by release and parameter count."""


def llama_config(name: str) -> LlamaConfig:
    """The preset ``name``.

    Raises:
        ValueError: no such preset; the message lists them.
    """
    if name not in LLAMA_CONFIGS:
        raise ValueError(f"no Llama preset {name!r}; choose from {', '.join(LLAMA_CONFIGS)}")
    return LLAMA_CONFIGS[name]
