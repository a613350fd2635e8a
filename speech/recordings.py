"""Batches of recordings, as the data modules make them and trainings read them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(kw_only=True)
class SpeechBatch:
    """Recordings, with what is said in them where that is known."""

    waveforms: Tensor
    """[recordings, samples] float32, mono at 16 kHz, padded on the right."""
    lengths: Tensor
    """Samples of each recording, [recordings] int64."""
    texts: list[str] | None = None
    """Transcript of each recording."""

    @classmethod
    def of(cls, waveforms: list[Tensor], texts: list[str] | None = None) -> "SpeechBatch":
        """Pad recordings [samples] to the longest."""
        return cls(
            waveforms=torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True),
            lengths=torch.tensor([len(waveform) for waveform in waveforms]),
            texts=texts,
        )

    def cropped(self, starts: Tensor, *, num_samples: int) -> "SpeechBatch":
        """At most ``num_samples`` samples of each recording, from ``starts`` [recordings] on.

        Texts are dropped: they would say more than can be heard.
        """
        places = starts[:, None] + torch.arange(num_samples, device=starts.device)
        places = places.clamp(max=self.waveforms.shape[1] - 1)
        lengths = (self.lengths - starts).clamp(0, num_samples)
        return SpeechBatch(waveforms=self.waveforms.gather(1, places), lengths=lengths)

    def to(self, device: Any = None, *, non_blocking: bool = False) -> "SpeechBatch":
        """Move to a device."""
        return SpeechBatch(
            waveforms=self.waveforms.to(device, non_blocking=non_blocking),
            lengths=self.lengths.to(device, non_blocking=non_blocking),
            texts=self.texts,
        )

    def pin_memory(self) -> "SpeechBatch":
        """Page-locked copies, for asynchronous transfer."""
        return SpeechBatch(
            waveforms=self.waveforms.pin_memory(),
            lengths=self.lengths.pin_memory(),
            texts=self.texts,
        )
