"""Alignment of frames with the text: CLIP scores (paper section 7.1; arXiv 2104.08718).

The score is the cosine between the embedding of the text and those of the frames, averaged or the
largest: what the text says may be in one frame alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from video.curation.verdict import Verdict


class PairEncoder(Protocol):
    """Two towers that put pictures and texts into one space."""

    def embed_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Embeddings [pictures, dim]."""

    def embed_text(self, text: str) -> Tensor:
        """Embedding [dim]."""


@dataclass(frozen=True, kw_only=True)
class AlignmentRules:
    """How well frames and text must fit."""

    min_score: float = 0.2
    """Least cosine; what is usual depends on the encoder (0.2 to 0.3 with CLIP's)."""
    over: Literal["mean", "max"] = "mean"
    """What is made of the scores of several frames."""

    def __post_init__(self) -> None:
        if not -1 <= self.min_score <= 1:
            raise ValueError("alignment.min_score is a cosine: -1 to 1")
        if self.over not in ("mean", "max"):
            raise ValueError(f"alignment.over: {self.over!r} is neither 'mean' nor 'max'")


def check_alignment(
    frames: Sequence[Image.Image], text: str, rules: AlignmentRules, *, encoder: PairEncoder
) -> Verdict:
    """Judge whether the text speaks of what the frames show; the score is the cosine.

    Args:
        frames: RGB pictures of a clip.
        text: what goes with it.
        rules: what passes.
        encoder: of pictures and texts, such as `OpenClipEncoder`.

    Raises:
        ValueError: there is no frame.
    """
    if not frames:
        raise ValueError("no frames to look at")
    with torch.inference_mode():
        pictures = F.normalize(encoder.embed_pictures(frames).float(), dim=-1)
        cosines = pictures @ F.normalize(encoder.embed_text(text).float(), dim=-1)  # [frames]
    score = float(cosines.mean() if rules.over == "mean" else cosines.max())
    reason = ""
    if not score >= rules.min_score:  # what is no number passes nowhere
        reason = f"the text fits the frames by {score:.3f}, less than {rules.min_score:.3f}"
    return Verdict(filter="alignment", passed=not reason, score=score, reason=reason)


class OpenClipEncoder:
    """A model of open_clip with its preprocessing and tokenizer."""

    def __init__(
        self,
        model: Any,
        *,
        preprocess: Callable[[Image.Image], Tensor],
        tokenizer: Callable[[Sequence[str]], Tensor],
    ) -> None:
        """What ``open_clip.create_model_and_transforms`` and ``get_tokenizer`` give.

        Args:
            model: a CLIP model; it is put in eval mode.
            preprocess: a picture to pixels [3, height, width].
            tokenizer: texts to tokens [texts, tokens].
        """
        self.model, self.preprocess, self.tokenizer = model.eval(), preprocess, tokenizer
        self._device = next(model.parameters()).device

    def embed_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Embeddings [pictures, dim]."""
        pixels = torch.stack([self.preprocess(picture) for picture in pictures])
        return self.model.encode_image(pixels.to(self._device))

    def embed_text(self, text: str) -> Tensor:
        """Embedding [dim]."""
        return self.model.encode_text(self.tokenizer([text]).to(self._device))[0]
