"""Training of the tagger beside a frozen core (paper section 8.2).

The core is there for its embeddings alone, computed as the batch comes; nothing of it trains, and
nothing of it is exported. Without `core` the tagger sees nothing but the written tokens, the
paper's comparison.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from language.flops import Work
from language.next_token import NextTokenTraining, next_token_loss
from language.optimization import AdamWConfig, ScheduleConfig
from speech.embeddings import CoreEmbeddings
from speech.normalization.checkpoint import save_tagger
from speech.normalization.data import LabelledText
from speech.normalization.rules import language
from speech.normalization.tagger import Tagger, TaggerConfig, TaggerInput, collate
from speech.normalization.written import WrittenToken, split

IGNORED = -100
"""Target of a token that carries no loss."""


@dataclass(frozen=True)
class WrittenRow:
    """A text, its tokens, and the number of each token's label."""

    text: str
    tokens: tuple[WrittenToken, ...]
    targets: tuple[int, ...]

    @classmethod
    def of(cls, labelled: LabelledText, labels: Sequence[str]) -> "WrittenRow":
        """The row of a labelled text, numbered as ``labels`` are."""
        numbers = {label: number for number, label in enumerate(labels)}
        targets = tuple(numbers[label] for label in labelled.labels)
        return cls(labelled.text, tuple(split(labelled.text)), targets)

    def without_targets(self) -> "WrittenRow":
        """The row, with no loss anywhere."""
        return replace(self, targets=(IGNORED,) * len(self.targets))


@dataclass(frozen=True)
class WrittenBatch:
    """Texts and the labels of their tokens."""

    rows: tuple[WrittenRow, ...]
    targets: Tensor
    """[batch, tokens], padded on the right by IGNORED."""

    @classmethod
    def of(cls, rows: Sequence[WrittenRow]) -> "WrittenBatch":
        """Put rows together."""
        targets = [torch.tensor(row.targets) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORED)
        return cls(tuple(rows), padded)

    def to(self, device: Any = None, *, non_blocking: bool = False) -> "WrittenBatch":
        """Move to a device."""
        return replace(self, targets=self.targets.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "WrittenBatch":
        """Page-locked copies, for asynchronous transfer."""
        return replace(self, targets=self.targets.pin_memory())


class NormalizationTraining(NextTokenTraining):
    """Trains a tagger to name the rule of every token."""

    model: Tagger

    def __init__(
        self,
        *,
        optimizer: AdamWConfig,
        schedule: ScheduleConfig,
        rules: str = "en",
        core: str | None = None,
        core_layer: int = 16,
        look_ahead: int | None = 3,
        dim: int = 128,
        hidden_dim: int = 192,
        num_heads: int = 4,
        num_word_rows: int = 4096,
        dropout: float = 0.2,
    ) -> None:
        """Settings of the run.

        Args:
            optimizer: how weights are changed.
            schedule: course of the learning rate.
            rules: language whose rules are told apart.
            core: directory of the core whose embeddings are seen; None sees none.
            core_layer: the layer whose output they are; the paper's is 16 of 32.
            look_ahead: tokens read before one is decided; None reads the whole text.
            dim: size of a token.
            hidden_dim: size of the LSTM's state.
            num_heads: of the cross-attentions.
            num_word_rows: rows of the table of words.
            dropout: share of what is dropped.
        """
        super().__init__(optimizer=optimizer, schedule=schedule)
        self.rules = language(rules)
        self.core_directory, self.core_layer = core, core_layer
        self.sizes: dict[str, Any] = {
            "look_ahead": look_ahead,
            "dim": dim,
            "hidden_dim": hidden_dim,
            "num_heads": num_heads,
            "num_word_rows": num_word_rows,
            "dropout": dropout,
        }

    def configure_model(self) -> None:
        """Build the tagger, and read the core.

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
        self.model = Tagger(
            TaggerConfig(labels=self.rules.labels, core_dim=core_dim, **self.sizes)
        ).train()

    def scores(self, batch: WrittenBatch) -> Tensor:
        """Scores [batch, tokens, labels]."""
        rows = self.model.config.num_word_rows
        inputs = [TaggerInput.of(row.tokens, before=-1, rows=rows) for row in batch.rows]
        if self.embeddings is not None:
            embedded = self.embeddings.embed_all([row.text for row in batch.rows])
            inputs = [
                each.seen_by(core, row.tokens)
                for each, core, row in zip(inputs, embedded, batch.rows, strict=True)
            ]
        padded, lengths = collate(inputs)
        return self.model(padded.to(batch.targets.device), lengths.to(batch.targets.device))

    def loss(self, batch: WrittenBatch) -> tuple[Tensor, Tensor]:
        """Cross-entropy summed over the tokens of a batch, and their number."""
        return next_token_loss(self.scores(batch), batch.targets)

    def validation_losses(self, batch: WrittenBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """The loss, and the share of texts whose labels are all right."""
        scores = self.scores(batch)
        right = (scores.argmax(dim=-1) == batch.targets) | (batch.targets == IGNORED)
        return {
            "loss": next_token_loss(scores, batch.targets),
            "texts": (right.all(dim=1).sum(), torch.tensor(len(right), device=right.device)),
        }

    def work(self, batch: WrittenBatch) -> Work:
        """What a batch asks for: of the tagger's matrices alone, which is most where no core is."""
        tokens = (batch.targets != IGNORED).sum()
        words = self.model.words.weight.numel()
        weights = sum(p.numel() for p in self.model.parameters()) - words
        return Work(
            samples=torch.tensor(len(batch.rows), device=tokens.device),
            tokens=tokens,
            flops=6.0 * weights * tokens.double(),
        )

    def export(self, directory: Path) -> None:
        """Write the tagger."""
        save_tagger(self.model, directory, language_code=self.rules.code)
