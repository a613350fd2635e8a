"""Pre-training of the language core on text (paper sections 3.1 and 3.4).

One module serves all three of the paper's stages, which differ in config alone: *initial*
pre-training (cosine), *long context* (``start`` from the previous stage, larger ``rope_scaling``
and ``max_positions``, longer rows), and *annealing* (``start``, the rate linearly to 0 on another
mixture, and the average of its checkpoints by :class:`multimodal.training.averaging`).
"""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from language.checkpoint import open_llama, save_llama
from language.config import LlamaConfig
from language.errors import InputError
from language.flops import Work, causal_pairs, core_flops, document_lengths
from language.model import Llama
from language.next_token import NextTokenTraining, next_token_loss
from language.optimization import AdamWConfig, ScheduleConfig
from language.tokenizer import load_tokenizer
from language.weights import fill


class TextBatch(Protocol):
    """Rows of tokens and what is wanted after each."""

    tokens: Tensor
    """[batch, tokens], padded on the right."""
    lengths: Tensor
    """Real tokens of each row, [batch]."""
    targets: Tensor
    """Token wanted after each position, [batch, tokens]; -100 where there is no loss."""
    documents: Tensor | None
    """Number of the packed document that each token belongs to, [batch, tokens]."""


class LanguagePretraining(NextTokenTraining):
    """Trains a whole core to predict the next token."""

    model: Llama

    def __init__(
        self,
        *,
        core: LlamaConfig,
        optimizer: AdamWConfig,
        schedule: ScheduleConfig,
        tokenizer: str,
        start: str | None = None,
        compile: bool = False,
    ) -> None:
        """Settings of the run.

        Args:
            core: sizes of the model.
            optimizer: AdamW.
            schedule: course of the learning rate.
            tokenizer: directory whose tokenizer the exported model gets.
            start: directory of the core to go on from; fresh weights otherwise.
            compile: whether blocks are compiled by torch.compile.
        """
        super().__init__(optimizer=optimizer, schedule=schedule)
        self.core, self.tokenizer, self.start, self.compile_blocks = core, tokenizer, start, compile

    def configure_model(self) -> None:
        """Build the core, with fresh weights or those of ``start``.

        Raises:
            InputError: the tokenizer knows more tokens than the core, or ``start`` has other sizes.
        """
        if hasattr(self, "model"):
            return
        size = load_tokenizer(Path(self.tokenizer)).vocab_size
        if size > self.core.vocab_size:
            raise InputError(
                self.tokenizer,
                f"has {size} tokens, but model.core.vocab_size is {self.core.vocab_size}",
            )
        if self.start is None:
            model = Llama(self.core)
            model.reset_parameters()
        else:
            with torch.device("meta"):
                model = Llama(self.core)
            fill(model, open_llama(Path(self.start))[1], dtype=torch.float32)
        if self.compile_blocks:
            for block in model.blocks:
                block.compile()
        self.model = model.train()

    def loss(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        """Next-token loss summed over the targets, and their number."""
        return next_token_loss(self.model(batch.tokens, documents=batch.documents), batch.targets)

    def work(self, batch: TextBatch) -> Work:
        """What a batch asks for."""
        lengths = document_lengths(batch.documents, batch.lengths)
        tokens = batch.lengths.sum()
        return Work(
            samples=torch.tensor(len(batch.tokens), device=tokens.device),
            tokens=tokens,
            flops=core_flops(
                self.core, tokens=tokens, pairs=causal_pairs(lengths), logits=tokens, trained=True
            ),
        )

    def export(self, directory: Path) -> None:
        """Write the core as a Hugging Face directory with its tokenizer."""
        save_llama(self.model, directory, companions=Path(self.tokenizer))
