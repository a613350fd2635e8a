"""BEST-RQ: an encoder learns speech by guessing random codes of frames that it cannot see.

Frames of the features are projected by fixed random matrices, and each projection's nearest vector
in a fixed random codebook is the code of the frame (arXiv 2202.01855; several codebooks as in USM,
arXiv 2303.01037; paper section 8.2.1). Spans of the input are replaced by noise, and the encoder is
asked for the codes of these frames alone. Nothing but features is needed, so any encoder that gives
frames can be trained so, a public one that is to go on included.

Masks lie on the grid of the encoder's output frames: an output frame of 40 ms covers four mel
frames, of which all or none are masked. Spans may begin before the recording, so that every frame,
the first as well, is masked with the same probability ``1 - (1 - p) ** span``, 55.5 % in the paper.

Letters: R recordings, T output frames, N scored frames, B codebooks, V codes of a codebook.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speech.code_statistics import CodeStatistics
from speech.frames import Frames
from speech.multi_softmax import multi_softmax_loss

MEL_SECONDS = 0.01
"""What one mel frame stands for, in which masks are given."""


class FrameEncoder(Protocol):
    """What the objective needs of an encoder."""

    feature_dim: int
    stride: int
    """Feature frames of an output frame."""
    dim: int
    frame_seconds: float
    """Seconds of an output frame."""

    def features(self, waveforms: Tensor, lengths: Tensor) -> Frames:
        """What is masked, and what codes are made of."""

    def __call__(self, features: Frames) -> Frames:
        """Output frames; the same for a recording in any batch."""


@dataclass(frozen=True, kw_only=True)
class BestRqConfig:
    """Codebooks and masks; the defaults are the paper's."""

    num_codebooks: int = 16
    codebook_size: int = 8192
    codebook_dim: int = 16
    mask_probability: float = 0.025
    """That a span begins at a mel frame of 10 ms."""
    mask_span: int = 32
    """Mel frames of a span."""
    noise_std: float = 0.1
    """Of the normal noise that stands in for masked features."""
    normalize_frames: bool = True
    """Whether codes are made of frames with their own mean taken out (a layer norm without
    weights): what all bands and frames share would otherwise decide most codes, and they collapse.
    What it divides by is no matter to a cosine."""
    collapse_share: float = 0.005
    """A codebook is reported as collapsed when its codes are no more diverse than this share of it
    in equal use: perplexity below 41 of 8,192."""
    chunk_frames: int = 512
    """Frames whose logits of one codebook are held at a time: 17 MB."""
    seed: int = 0
    """Of projections and codebooks."""

    def __post_init__(self) -> None:
        for name in ("num_codebooks", "codebook_size", "codebook_dim", "mask_span", "chunk_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"best_rq.{name} must be 1 or more, not {getattr(self, name)}")
        if not 0 < self.mask_probability < 1:
            raise ValueError(
                f"best_rq.mask_probability must lie between 0 and 1, not {self.mask_probability}"
            )
        if self.noise_std < 0:
            raise ValueError(f"best_rq.noise_std must be 0 or more, not {self.noise_std}")

    @property
    def mask_share(self) -> float:
        """Share of the frames that is masked on average."""
        return 1 - (1 - self.mask_probability) ** self.mask_span


class RandomProjectionQuantizer(nn.Module):
    """Codes of frames. Both tables are buffers, in float32 whatever the module is cast to."""

    projections: Tensor
    """[B, input width, codebook width]."""
    codebooks: Tensor
    """[B, V, codebook width], each vector of length 1."""

    def __init__(self, input_dim: int, config: BestRqConfig) -> None:
        super().__init__()
        self.config = config
        generator = torch.Generator("cpu").manual_seed(config.seed)  # the same on any device
        books, dim = config.num_codebooks, config.codebook_dim
        bound = (6 / (input_dim + dim)) ** 0.5  # Xavier
        with torch.device("cpu"):
            projections = torch.rand(books, input_dim, dim, generator=generator) * 2 - 1
            codebooks = torch.randn(books, config.codebook_size, dim, generator=generator)
        self.register_buffer("projections", projections * bound)
        self.register_buffer("codebooks", F.normalize(codebooks, dim=-1))

    def _apply(self, fn: Any, recurse: bool = True) -> "RandomProjectionQuantizer":
        """Let the tables move, but keep their type."""

        def moved(table: Tensor) -> Tensor:
            changed = fn(table)
            return changed if changed.dtype == table.dtype else table.to(changed.device)

        return super()._apply(moved, recurse)

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """The nearest vector by cosine in each codebook.

        Args:
            frames: stacked features, [N, input width].

        Returns:
            [N, B] int64. Lengths of frames do not change which vector is nearest.
        """
        codes = []
        # One buffer for all products: an allocator need not find a freed one of 16 MB fit again.
        rows = min(len(frames), self.config.chunk_frames)
        products = frames.new_empty(rows, self.config.codebook_size, dtype=torch.float32)
        with exact_products(frames.device.type):
            for part in frames.float().split(self.config.chunk_frames):
                if self.config.normalize_frames:
                    part = F.layer_norm(part, part.shape[-1:])
                nearest = [
                    torch.mm(part @ projection, codebook.T, out=products[: len(part)]).argmax(dim=1)
                    for projection, codebook in zip(self.projections, self.codebooks, strict=True)
                ]
                codes.append(torch.stack(nearest, dim=1))
        return torch.cat(codes)


@contextmanager
def exact_products(device_type: str) -> Iterator[None]:
    """Products of float32 matrices in float32: neither autocast nor TF32."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def draw_mask(
    lengths: Tensor, *, config: BestRqConfig, frame_seconds: float, generator: torch.Generator
) -> Tensor:
    """Which output frames are masked; each recording has spans of its own.

    A recording that no span happened to touch gets one. How far a batch is padded is no matter.

    Args:
        lengths: output frames of each recording, [R] int64.
        config: probability and span.
        frame_seconds: seconds of an output frame.
        generator: of the draws.

    Returns:
        [R, longest] bool, False past each recording's end.
    """
    device = generator.device
    span = max(1, round(config.mask_span * MEL_SECONDS / frame_seconds))
    probability = 1 - (1 - config.mask_probability) ** (config.mask_span / span)
    longest = int(lengths.max()) if len(lengths) else 0
    # a span of column s begins at frame s - span + 1: frame t lies in those of t ... t + span - 1
    draws = torch.rand(len(lengths), longest + span - 1, generator=generator, device=device)
    spare = torch.rand(len(lengths), 1, generator=generator, device=device)
    lengths = lengths.to(device)[:, None]
    begun = F.pad((draws < probability).int().cumsum(dim=1), (1, 0))  # spans before each column
    frames = torch.arange(longest, device=device)
    mask = begun[:, span:] > begun[:, :longest]
    mask &= frames < lengths
    last = (spare * (lengths + span - 1)).long()  # of the one span that a bare recording gets
    instead = (frames <= last) & (frames > last - span) & (frames < lengths)
    return mask | (instead & ~mask.any(dim=1, keepdim=True))


@dataclass(kw_only=True)
class BestRqOutput:
    """What a batch gives."""

    loss: Tensor
    """Cross-entropy summed over scored frames, the mean over codebooks of each."""
    count: Tensor
    """Frames that are scored: those masked."""
    statistics: CodeStatistics


class BestRq(nn.Module):
    """An encoder with the heads that guess codes, and what makes the codes."""

    encoder: Any
    """A module with the members of :class:`FrameEncoder`."""

    def __init__(self, encoder: FrameEncoder, config: BestRqConfig) -> None:
        super().__init__()
        self.encoder, self.config = encoder, config
        self.quantizer = RandomProjectionQuantizer(encoder.feature_dim * encoder.stride, config)
        heads = torch.empty(config.num_codebooks, encoder.dim, config.codebook_size)
        self.heads = nn.Parameter(nn.init.normal_(heads, std=0.02))

    @torch.no_grad()
    def features(self, waveforms: Tensor, lengths: Tensor) -> Frames:
        """Features by the encoder's own front end, in float32.

        Args:
            waveforms: [R, samples], 16 kHz.
            lengths: samples of each recording, [R] int64.
        """
        with exact_products(waveforms.device.type):
            return self.encoder.features(waveforms.float(), lengths)

    def draw_mask(self, features: Frames, *, generator: torch.Generator) -> Tensor:
        """Masks of :func:`draw_mask` over the output frames whose features are all real, [R, T]."""
        return draw_mask(
            features.lengths // self.encoder.stride,
            config=self.config,
            frame_seconds=self.encoder.frame_seconds,
            generator=generator,
        ).to(features.values.device)

    def forward(
        self, features: Frames, *, generator: torch.Generator, mask: Tensor | None = None
    ) -> BestRqOutput:
        """Replace masked features by noise, and ask for their codes.

        Args:
            features: of the encoder's own front end.
            generator: of masks and noise, on the features' device.
            mask: output frames to mask instead of those drawn, [R, T] bool; none of padding.
        """
        if mask is None:
            mask = self.draw_mask(features, generator=generator)
        stride, values = self.encoder.stride, features.values
        width = mask.shape[1]
        hidden_from = mask.repeat_interleave(stride, dim=1)  # [R, features]
        hidden_from = F.pad(hidden_from, (0, values.shape[1] - hidden_from.shape[1]))
        masked = values.clone()
        num_masked = int(hidden_from.sum())
        noise = torch.randn(
            num_masked, values.shape[2], generator=generator, device=generator.device
        )
        masked[hidden_from] = (noise * self.config.noise_std).to(values)
        output = self.encoder(Frames(values=masked, lengths=features.lengths))
        width = min(width, output.values.shape[1])
        scored = mask[:, :width] & output.mask[:, :width]
        stacked = values[:, : width * stride].unflatten(1, (width, stride)).flatten(2)
        codes = self.quantizer(stacked[scored])  # [N, B]
        loss, predictions = multi_softmax_loss(
            output.values[:, :width][scored],
            self.heads,
            codes,
            chunk_frames=self.config.chunk_frames,
        )
        statistics = CodeStatistics.of(
            codes,
            predictions,
            codebook_size=self.config.codebook_size,
            num_frames=(features.lengths // stride).sum(),
        )
        return BestRqOutput(
            loss=loss / self.config.num_codebooks, count=scored.sum(), statistics=statistics
        )
