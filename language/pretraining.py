"""Pre-training of the language core on text (paper sections 3.1 and 3.4).

One module serves all three of the paper's stages, which differ in config alone: *initial*
pre-training (cosine), *long context* (``start`` from the previous stage, larger ``rope_scaling``
and ``max_positions``, longer rows), and *annealing* (``start``, the rate linearly to 0 on another
mixture, and the average of its checkpoints by :class:`multimodal.training.averaging`).
"""

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from language.checkpoint import open_llama, save_llama
from language.config import LlamaConfig
from language.draft import Draft, fresh
from language.errors import InputError
from language.flops import Work, causal_pairs, core_flops, document_lengths
from language.model import Llama
from language.next_token import NextTokenTraining, next_token_loss
from language.optimization import AdamWConfig, ScheduleConfig
from language.tokenizer import load_tokenizer


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
        embedding_noise: float = 0.0,
        compile: bool = False,
    ) -> None:
        """Settings of the run.

        Args:
            core: sizes of the model.
            optimizer: AdamW.
            schedule: course of the learning rate.
            tokenizer: directory whose tokenizer the exported model gets.
            start: directory of the core to go on from; fresh weights otherwise.
            embedding_noise: standard deviation of the noise on embeddings in training, as a share
                of theirs (arXiv 2310.05914): a core that will read speech embeddings meets vectors
                that are no token's.
            compile: whether blocks are compiled by torch.compile.
        """
        super().__init__(optimizer=optimizer, schedule=schedule)
        self.core, self.tokenizer, self.start, self.compile_blocks = core, tokenizer, start, compile
        self.embedding_noise = embedding_noise
        self._num_noised = 0

    def draft_model(self) -> Draft[Llama]:
        """The core, with fresh weights or those of ``start``.

        Raises:
            InputError: the tokenizer knows more tokens than the core, or ``start`` has other sizes.
        """
        size = load_tokenizer(Path(self.tokenizer)).vocab_size
        if size > self.core.vocab_size:
            raise InputError(
                self.tokenizer,
                f"has {size} tokens, but model.core.vocab_size is {self.core.vocab_size}",
            )
        with torch.device("meta"):
            model = Llama(self.core)
        stored = fresh(model) if self.start is None else open_llama(Path(self.start))[1]
        return Draft(model=model, sources=stored)

    def configure_model(self) -> None:
        """Build the core.

        Raises:
            InputError: as :meth:`draft_model` does.
        """
        if hasattr(self, "model"):
            return
        self.take(self.draft_model())
        self.model.train()
        if self.compile_blocks:
            for block in self.model.blocks:
                block.compile()
        if self.embedding_noise:
            self.model.embedding.register_forward_hook(self._noised)

    def _noised(self, _: nn.Module, __: tuple[Tensor, ...], embeddings: Tensor) -> Tensor:
        """Embeddings with noise that depends on nothing but step, micro-batch and data rank."""
        if not torch.is_grad_enabled():
            return embeddings
        place = self.global_step, self._num_noised, self.data_rank
        self._num_noised += 1
        generator = torch.Generator(embeddings.device).manual_seed(hash(place) % 2**63)
        noise = torch.empty_like(embeddings).normal_(generator=generator)
        return embeddings + self.embedding_noise * embeddings.detach().std() * noise

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Count micro-batches from 0 again."""
        super().on_before_optimizer_step(optimizer)
        self._num_noised = 0

    def embed(self, batch: TextBatch, sensed: dict[Any, Tensor]) -> Tensor:
        """The tokens' embeddings."""
        return self.model.embedding(batch.tokens)

    def walk(
        self,
        hidden: Tensor,
        batch: TextBatch,
        sensed: dict[Any, Tensor],
        blocks: range | None = None,
    ) -> Tensor:
        """Over blocks of the core."""
        return self.model.walk(hidden, documents=batch.documents, blocks=blocks)

    def final_loss(self, hidden: Tensor, batch: TextBatch) -> tuple[Tensor, Tensor]:
        """Next-token loss summed over the targets, and their number."""
        return next_token_loss(self.model.logits(hidden), batch.targets)

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
