"""Recordings of unequal length as frames: what features, encoders and adapters hand on."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(kw_only=True)
class Frames:
    """Frames of a batch of recordings."""

    values: Tensor
    """[recordings, frames, dim]; zero past each recording's end."""
    lengths: Tensor
    """Real frames of each recording, [recordings] int64."""

    @property
    def mask(self) -> Tensor:
        """Which frames are real, [recordings, frames] bool."""
        positions = torch.arange(self.values.shape[1], device=self.values.device)
        return positions < self.lengths[:, None]
