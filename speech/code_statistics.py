"""What tells a healthy BEST-RQ run from one whose codes have collapsed.

Masked accuracy alone misleads: it is high where few codes are in use. So how diverse the codes are,
and how diverse the guesses, stands beside it, codebook by codebook.

Letters: N scored frames, B codebooks, V codes of a codebook.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CODES_COLLAPSED = (
    "the codes have collapsed, nothing can be learned from them (are the features normalised, and "
    "the recordings not silent?)"
)
GUESSES_COLLAPSED = (
    "the encoder guesses the same few codes for every frame (lower the learning rate, or lengthen "
    "the warm-up)"
)


@dataclass(kw_only=True)
class CodeStatistics:
    """Counts over any number of batches."""

    frames: Tensor
    """Real frames, 0-d int64."""
    scored: Tensor
    """Those masked and scored, 0-d int64."""
    hits: Tensor
    """Codes guessed right in each codebook, [B] int64."""
    codes: Tensor
    """How often each code was wanted, [B, V] int64."""
    predictions: Tensor
    """How often each code was guessed, [B, V] int64."""

    @classmethod
    def of(
        cls, codes: Tensor, predictions: Tensor, *, codebook_size: int, num_frames: Tensor
    ) -> "CodeStatistics":
        """Count one batch.

        Args:
            codes: [N, B] int64.
            predictions: [N, B] int64.
            codebook_size: V.
            num_frames: real frames, masked or not.
        """
        return cls(
            frames=num_frames,
            scored=torch.tensor(len(codes), device=codes.device),
            hits=(codes == predictions).sum(dim=0),
            codes=_counts(codes, codebook_size),
            predictions=_counts(predictions, codebook_size),
        )

    def __add__(self, other: "CodeStatistics") -> "CodeStatistics":
        return CodeStatistics.unpacked(self.packed() + other.packed(), like=self)

    def packed(self) -> Tensor:
        """All counts in one vector, which ranks can add up."""
        parts = (self.frames, self.scored, self.hits, self.codes, self.predictions)
        return torch.cat([part.flatten() for part in parts])

    @classmethod
    def unpacked(cls, packed: Tensor, *, like: "CodeStatistics") -> "CodeStatistics":
        """The counts of a vector that :meth:`packed` gave."""
        sizes = [1, 1, like.hits.numel(), like.codes.numel(), like.codes.numel()]
        frames, scored, hits, codes, predictions = packed.split(sizes)
        return cls(
            frames=frames[0],
            scored=scored[0],
            hits=hits,
            codes=codes.view_as(like.codes),
            predictions=predictions.view_as(like.codes),
        )

    @property
    def mask_share(self) -> Tensor:
        """Share of the real frames that was masked."""
        return self.scored / self.frames.clamp(min=1)

    @property
    def accuracy(self) -> Tensor:
        """Share of the masked frames whose code was guessed, [B]."""
        return self.hits / self.scored.clamp(min=1)

    @property
    def usage(self) -> Tensor:
        """Share of its codes that each codebook has used, [B]."""
        return (self.codes > 0).double().mean(dim=1)

    def metrics(self) -> dict[str, float]:
        """What is logged, by name; the mean and the worst codebook, then each."""
        perplexity = perplexities(self.codes)
        found = {
            "mask_share": self.mask_share,
            "accuracy": self.accuracy.mean(),
            "accuracy_min": self.accuracy.min(),
            "perplexity": perplexity.mean(),
            "perplexity_min": perplexity.min(),
            "guessed_perplexity": perplexities(self.predictions).mean(),
            "usage": self.usage.mean(),
            "usage_min": self.usage.min(),
        }
        for book in range(len(perplexity)):
            found[f"accuracy_{book:02}"] = self.accuracy[book]
            found[f"perplexity_{book:02}"] = perplexity[book]
        return {name: float(value) for name, value in found.items()}

    def collapse(self, *, share: float, judge_guesses: bool) -> str | None:
        """What is wrong with the codes, or with the guesses; None if nothing is.

        Args:
            share: a perplexity below this share of the codebook's size is a collapse. No judgement
                is made until twenty times as many frames were scored.
            judge_guesses: whether guesses are judged, too: every run begins by guessing the most
                common codes.
        """
        limit = max(2.0, share * self.codes.shape[1])
        if int(self.scored) < 20 * limit:
            return None
        faults = [(self.codes, CODES_COLLAPSED)]
        if judge_guesses:
            faults.append((self.predictions, GUESSES_COLLAPSED))
        for counts, fault in faults:
            found = perplexities(counts)
            if below := int((found < limit).sum()):
                return (
                    f"{fault}: perplexity below {limit:.0f} in {below} of {len(found)} codebooks, "
                    f"{float(found.min()):.1f} in the worst"
                )
        return None


def perplexities(counts: Tensor) -> Tensor:
    """Exponential of the entropy of each row of counts, [B]: V where all codes are equally common.

    Args:
        counts: [B, V].
    """
    shares = counts.double() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.special.entr(shares).sum(dim=1).exp()


def _counts(codes: Tensor, codebook_size: int) -> Tensor:
    """How often each code occurs in each codebook, [B, V], of codes [N, B]."""
    books = torch.arange(codes.shape[1], device=codes.device)
    places = (codes + books * codebook_size).flatten()
    total = torch.zeros(codes.shape[1] * codebook_size, dtype=torch.int64, device=codes.device)
    return total.index_add_(0, places, torch.ones_like(places)).view(-1, codebook_size)
