"""Training of the prosody model beside a frozen core (paper section 8.2).

The model learns the measures of each phone by a Huber loss, and whether it has a voice; a phone
without one has no pitch to learn. The core is there for its embeddings alone; nothing of it trains,
and nothing of it is exported. Without `core` the model sees nothing but the phones, the paper's
comparison.

In use the model reads what it said itself of the phones before. In training it reads what is true
of them, but of some what it would have said: so it learns to go on from its own words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from language.flops import Work
from language.next_token import NextTokenTraining
from language.optimization import AdamWConfig, ScheduleConfig
from speech.embeddings import CoreEmbeddings
from speech.prosody.checkpoint import save_prosody
from speech.prosody.corpus import MeasuredText
from speech.prosody.model import ProsodyConfig, ProsodyInput, ProsodyModel, collate, owners
from speech.prosody.phones import PhoneInput

NAMES = ("duration", "f0", "power")


@dataclass(frozen=True)
class ProsodyRow:
    """A text, its phones, and how they were spoken."""

    text: str
    phones: PhoneInput
    ends: tuple[int, ...]
    """Where the word of each phone ends in the text."""
    targets: Tensor
    """Measures, [phones, 3]; NaN carries no loss."""
    is_known: Tensor
    """Which phones carry a loss, [phones] bool."""
    speaker: int
    style: int

    @classmethod
    def of(cls, sample: MeasuredText, *, max_phones: int) -> "ProsodyRow":
        """The row of the first phones of a measured text."""
        phones = PhoneInput.of(sample.phones, sample.words)
        cut = slice(max_phones)
        targets = sample.targets()[cut]
        return cls(
            sample.text,
            PhoneInput(phones.codes[cut], phones.flags[cut]),
            tuple(sample.words[phone.word].end for phone in sample.phones[cut]),
            targets,
            torch.ones(len(targets), dtype=torch.bool),
            sample.speaker,
            sample.style,
        )

    def without_loss(self) -> "ProsodyRow":
        """The row, with no loss anywhere."""
        return replace(self, is_known=torch.zeros_like(self.is_known))


@dataclass(frozen=True)
class ProsodyBatch:
    """Texts and how they were spoken, padded on the right."""

    rows: tuple[ProsodyRow, ...]
    targets: Tensor
    """[batch, phones, 3]; NaN where there is no pitch."""
    is_known: Tensor
    """Which phones carry a loss, [batch, phones] bool."""

    @classmethod
    def of(cls, rows: Sequence[ProsodyRow]) -> "ProsodyBatch":
        """Put rows together."""
        return cls(
            tuple(rows),
            pad_sequence([row.targets for row in rows], batch_first=True),
            pad_sequence([row.is_known for row in rows], batch_first=True),
        )

    def to(self, device: Any = None, *, non_blocking: bool = False) -> "ProsodyBatch":
        """Move to a device."""
        targets, is_known = (
            tensor.to(device, non_blocking=non_blocking) for tensor in (self.targets, self.is_known)
        )
        return replace(self, targets=targets, is_known=is_known)

    def pin_memory(self) -> "ProsodyBatch":
        """Page-locked copies, for asynchronous transfer."""
        return replace(self, targets=self.targets.pin_memory(), is_known=self.is_known.pin_memory())


def encode(
    rows: Sequence[ProsodyRow], embeddings: CoreEmbeddings | None
) -> tuple[ProsodyInput, Tensor]:
    """What the model reads of texts, and the number of phones of each, [batch]."""
    cores = None
    if embeddings is not None:
        embedded = embeddings.embed_all([row.text for row in rows])
        cores = [
            (core.states.cpu(), owners(core.ends, row.ends))
            for core, row in zip(embedded, rows, strict=True)
        ]
    return collate(
        [row.phones for row in rows],
        speakers=[row.speaker for row in rows],
        styles=[row.style for row in rows],
        cores=cores,
    )


class ProsodyTraining(NextTokenTraining):
    """Trains a prosody model to say how each phone was spoken."""

    model: ProsodyModel

    def __init__(
        self,
        *,
        optimizer: AdamWConfig,
        schedule: ScheduleConfig,
        core: str | None = None,
        core_layer: int = 16,
        look_ahead: int | None = 8,
        dim: int = 864,
        num_heads: int = 6,
        num_layers: int = 6,
        ffn_dim: int = 3456,
        num_speakers: int = 1,
        num_styles: int = 1,
        means: tuple[float, float, float] = (-2.5, 4.8, -8.0),
        spreads: tuple[float, float, float] = (0.5, 0.3, 1.2),
        dropout: float = 0.1,
        own_share: float = 0.5,
    ) -> None:
        """Settings of the run.

        Args:
            optimizer: how weights are changed.
            schedule: course of the learning rate.
            core: directory of the core whose embeddings are seen; None sees none.
            core_layer: the layer whose output they are; the paper's is 16 of 32.
            look_ahead: phones read before one is decided; None reads the whole text.
            dim: size of a phone.
            num_heads: of all attentions.
            num_layers: of the decoder.
            ffn_dim: size between the two fully connected layers.
            num_speakers: of the corpus.
            num_styles: of the corpus.
            means: of log duration, log F0 and log power, as `speech.prosody.corpus` prints them.
            spreads: their standard deviations.
            dropout: share of what is dropped.
            own_share: share of the phones before of which the model reads what it says itself.
        """
        super().__init__(optimizer=optimizer, schedule=schedule)
        self.core_directory, self.core_layer, self.own_share = core, core_layer, own_share
        self.config = ProsodyConfig(
            look_ahead=look_ahead,
            dim=dim,
            num_heads=num_heads,
            num_layers=num_layers,
            ffn_dim=ffn_dim,
            num_speakers=num_speakers,
            num_styles=num_styles,
            means=tuple(means),
            spreads=tuple(spreads),
            dropout=dropout,
        )

    def configure_model(self) -> None:
        """Build the model, and read the core.

        Raises:
            InputError: the core's directory is broken.
        """
        if hasattr(self, "model"):
            return
        self.embeddings: CoreEmbeddings | None = None
        if self.core_directory is not None:
            directory = Path(self.core_directory)
            self.embeddings = CoreEmbeddings.of(directory, layer=self.core_layer, dtype=None)
            self.core = self.embeddings.core  # a submodule, so that it goes where the model goes
        core_dim = None if self.embeddings is None else self.embeddings.dim
        self.model = ProsodyModel(replace(self.config, core_dim=core_dim)).train()

    def said(self, batch: ProsodyBatch) -> tuple[Tensor, Tensor]:
        """What the model says of each phone, and what is true, [batch, phones, 4] each."""
        read, lengths = encode(batch.rows, self.embeddings)
        device = batch.targets.device
        read, lengths = read.to(device), lengths.to(device)
        truth = known = self.model.normalized(batch.targets)
        if self.model.training and self.own_share and self.model.config.look_ahead is not None:
            with torch.no_grad():
                own = self.model.fed_back(self.model(read, lengths, truth))
            is_own = torch.rand(own.shape[:2], device=device) < self.own_share
            known = torch.where(is_own[..., None], own, truth)
        return self.model(read, lengths, known), truth

    def loss(self, batch: ProsodyBatch) -> tuple[Tensor, Tensor]:
        """Loss summed over the phones of a batch, and their number."""
        out, truth = self.said(batch)
        return phone_loss(out, truth, batch.is_known)

    def validation_losses(self, batch: ProsodyBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """The loss, and the absolute error of each measure, in natural logarithms.

        Of each phone the model knows what is true of those before: in use it does not.
        """
        out, truth = self.said(batch)
        found = {"loss": phone_loss(out, truth, batch.is_known)}
        for index, name in enumerate(NAMES):
            error = (out[..., index] - truth[..., index]).abs() * self.config.spreads[index]
            counts = batch.is_known & (truth[..., 3] > 0) if name == "f0" else batch.is_known
            found[name] = error[counts].sum(), counts.sum()
        return found

    def work(self, batch: ProsodyBatch) -> Work:
        """What a batch asks for: of the model's matrices alone."""
        phones = batch.is_known.sum()
        weights = sum(p.numel() for p in self.model.parameters()) - self.model.codes.weight.numel()
        return Work(
            samples=torch.tensor(len(batch.rows), device=phones.device),
            tokens=phones,
            flops=6.0 * weights * phones.double(),
        )

    def export(self, directory: Path) -> None:
        """Write the model."""
        save_prosody(self.model, directory)


def phone_loss(out: Tensor, truth: Tensor, is_known: Tensor) -> tuple[Tensor, Tensor]:
    """Loss summed over the phones that carry one, and their number.

    Args:
        out: what is said, normalized, with the logit of a voice, [batch, phones, 4].
        truth: the same, with 1 or 0 for the voice; without one, the pitch carries no loss.
        is_known: which phones carry a loss, [batch, phones] bool.
    """
    error = F.huber_loss(out[..., :3].float(), truth[..., :3].float(), reduction="none")
    voiced = truth[..., 3].float()
    voice = F.binary_cross_entropy_with_logits(out[..., 3].float(), voiced, reduction="none")
    of_phone = error[..., 0] + error[..., 1] * voiced + error[..., 2] + voice
    return (of_phone * is_known).sum(), is_known.sum()
