"""The Conformer: feed-forward, attention, convolution, feed-forward (arXiv 2005.08100; section 8).

An utterance's frames come out the same alone, padded, in any batch and beside any neighbour. Two
things make it so. Frames are packed: padding is never computed (``speech/packing.py``). And the
convolution module normalises each frame by itself: the original's batch norm makes a frame depend
in training on its batch mates and on their padding, and its averages are wrong wherever use
differs from training.

Not stated by the paper, and chosen here: LayerNorm and SiLU in the convolution, biases as in the
original, rotary positions in place of relative ones with base 10,000, no dropout.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from speech.frames import Frames
from speech.layers import Context, PlainFeedForward, SelfAttention
from speech.packing import Packing, RowContext, Window


@dataclass(frozen=True, kw_only=True)
class ConformerConfig:
    """Sizes and choices of a Conformer."""

    dim: int
    """Width of the hidden states."""
    num_layers: int
    """Blocks."""
    num_heads: int
    """Attention heads."""
    ffn_dim: int
    """Hidden width of each of a block's two feed-forward layers."""
    input_dim: int = 320
    """Features of a frame: four frames of an 80-band log-mel."""
    kernel_size: int = 7
    """Frames that the depthwise convolution sees, its own in the middle."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    norm_eps: float = 1e-5
    """Added to the variance in every LayerNorm."""
    dropout: float = 0.0
    """Share of hidden units, and of what each branch adds, that training drops."""
    chunk_size: int = 0
    """Frames of a chunk that encoding can stream by; 0 means that every frame sees all others."""
    left_context: int | None = None
    """Frames before its chunk that a frame attends to; None means all, so a stream's memory grows.
    """
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass instead of keeping its activations."""

    def __post_init__(self) -> None:
        for name in ("dim", "num_layers", "num_heads", "ffn_dim", "input_dim", "kernel_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"conformer: {name} must be at least 1, not {getattr(self, name)}")
        if self.dim % (2 * self.num_heads):
            raise ValueError(
                f"conformer: dim {self.dim} must be a multiple of twice num_heads "
                f"{self.num_heads}: rotary positions turn pairs"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"conformer.kernel_size must be odd, which {self.kernel_size} is not")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"conformer.dropout must lie in 0 .. 1, not {self.dropout}")
        if self.chunk_size < 0 or (self.left_context is not None and self.left_context < 0):
            raise ValueError(
                f"conformer: chunk_size ({self.chunk_size}) and left_context "
                f"({self.left_context}) count frames: 0 or more"
            )
        if self.left_context is not None and self.chunk_size == 0:
            raise ValueError("conformer.left_context needs a chunk_size above 0")

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.dim // self.num_heads

    @property
    def window(self) -> Window:
        """What a frame may see."""
        return Window(chunk_size=self.chunk_size, left_context=self.left_context)


CONFORMERS: dict[str, ConformerConfig] = {
    "1b": ConformerConfig(dim=1536, num_layers=24, num_heads=24, ffn_dim=4096),
    "base": ConformerConfig(dim=512, num_layers=17, num_heads=8, ffn_dim=2048),
    "tiny": ConformerConfig(dim=144, num_layers=4, num_heads=4, ffn_dim=288),
}
"""The paper's, 1.00B parameters; 103M; 1.3M."""


class ConvolutionModule(nn.Module):
    """Gated pointwise, depthwise, norm, SiLU, pointwise."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.gated = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, config.kernel_size, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Map rows ``x`` [rows, dim] to [rows, dim]."""
        x = F.glu(self.gated(x), dim=-1)
        assert self.depthwise.bias is not None
        x = context.convolve(x, self.depthwise.weight, self.depthwise.bias)
        return self.output(F.silu(self.norm(x)))


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, the other half; a norm before each and last."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        dim = config.dim

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(dim, eps=config.norm_eps)

        def feed_forward() -> PlainFeedForward:
            return PlainFeedForward(dim, config.ffn_dim, bias=True, dropout=config.dropout)

        self.feed_forward_in_norm, self.feed_forward_in = norm(), feed_forward()
        self.attention_norm = norm()
        self.attention = SelfAttention(dim, num_heads=config.num_heads, bias=True)
        self.convolution_norm = norm()
        self.convolution = ConvolutionModule(config)
        self.feed_forward_out_norm, self.feed_forward_out = norm(), feed_forward()
        self.norm = norm()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Map rows ``x`` [rows, dim] to [rows, dim]."""
        change = self.feed_forward_in(self.feed_forward_in_norm(x))
        x = torch.add(x, self.dropout(change), alpha=0.5)
        x = x + self.dropout(self.attention(self.attention_norm(x), context))
        x = x + self.dropout(self.convolution(self.convolution_norm(x), context))
        change = self.feed_forward_out(self.feed_forward_out_norm(x))
        return self.norm(torch.add(x, self.dropout(change), alpha=0.5))


class Conformer(nn.Module):
    """Frames of features to frames of hidden states, as many."""

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.input_dim, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_layers))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights: normal by fan-in, smaller where a branch is added to its input.

        By ``1 / sqrt(2 * num_layers)``: blocks are then near the identity at first, and gradients
        of the first and the last of 24 differ by a fifth, not by a factor of 2.5.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 1:
                nn.init.ones_(parameter)
            else:
                scale = parameter[0].numel() ** -0.5
                if name.endswith(("down.weight", "output.weight")):
                    scale *= (2 * self.config.num_layers) ** -0.5
                nn.init.normal_(parameter, std=scale)

    def embed(self, features: Tensor) -> Tensor:
        """Features [rows, input_dim] to what the first block takes, [rows, dim].

        In the type of the weights: under autocast the blocks' sums stay exact.
        """
        x = self.dropout(self.projection(features))
        return x.to(next(self.blocks.parameters()).dtype)

    def forward(self, frames: Frames) -> Frames:
        """Encode recordings.

        Args:
            frames: [recordings, frames, input_dim]; what stands past an end is never read.

        Returns:
            [recordings, frames, dim], zero past each end.

        Raises:
            ValueError: features of another width, or a length above the frames.
        """
        packing, outputs = self._run(frames, keep=False)
        return packing.unpack(outputs[-1])

    def layer_outputs(self, frames: Frames) -> list[Frames]:
        """What each block gives, the last of which is what :meth:`forward` gives."""
        packing, outputs = self._run(frames, keep=True)
        return [packing.unpack(x) for x in outputs]

    def _run(self, frames: Frames, *, keep: bool) -> tuple[Packing, list[Tensor]]:
        """Rows after each block, or after the last alone."""
        config = self.config
        if frames.values.shape[2] != config.input_dim:
            raise ValueError(
                f"features must be {config.input_dim} wide, not {frames.values.shape[2]}"
            )
        packing = Packing(frames.lengths, num_frames=frames.values.shape[1])
        context = RowContext(
            packing,
            head_dim=config.head_dim,
            rope_theta=config.rope_theta,
            kernel_size=config.kernel_size,
            window=config.window,
        )
        x = self.embed(packing.pack(frames.values))
        outputs = [x]
        for block in self.blocks if packing.num_rows else ():
            if config.activation_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, context, use_reentrant=False)
            else:
                x = block(x, context)
            outputs = [*outputs, x] if keep else [x]
        return packing, outputs[1:] if keep else outputs
