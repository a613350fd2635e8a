"""A running dialogue: what was read, seen and heard is kept, so that a new token costs one token.

Pictures are encoded when they come, and their keys and values serve every later token and turn
(paper section 7.2).
"""

import torch
from torch import Tensor

from multimodal.batch import Batch
from multimodal.model import MultimodalLlama
from vision.adapter import ImageMemory

PIECE = 1024
"""Tokens read at once where a mask is needed, whose size is tokens times all that they may see."""


class MultimodalSession:
    """Decoding state of a batch of dialogues."""

    def __init__(self, model: MultimodalLlama, *, batch_size: int, max_length: int) -> None:
        """Room for ``batch_size`` dialogues of at most ``max_length`` tokens."""
        self.model = model
        self.cache = model.language.new_cache(batch_size, max_length=max_length)
        self._memory: ImageMemory | None = None
        self._visible: Tensor | None = None  # [batch, images]: what the latest token sees

    @torch.no_grad()
    def prefill(self, batch: Batch) -> Tensor:
        """Read a prompt, or the next turn of a dialogue with its new pictures.

        Args:
            batch: the new tokens and recordings alone; ``visible`` speaks of all pictures of the
                dialogue, those of earlier turns first.

        Returns:
            Logits [batch, vocabulary] after the last token of each row.
        """
        if batch.images is not None:
            seen = self.model.remember(batch.images, len(batch.tokens))
            self._memory = seen if self._memory is None else self._memory.extend(seen)
        return self._read(self.model.embed_batch(batch), batch.lengths, batch.visible)

    @torch.no_grad()
    def append(self, tokens: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Read further text, which sees what the latest token of its row saw.

        Args:
            tokens: [batch, tokens], padded on the right.
            lengths: real tokens of each row, [batch]; all by default.

        Returns:
            Logits [batch, vocabulary] after the last token of each row.
        """
        visible = None
        if self._visible is not None:
            visible = self._visible[:, None].expand(-1, tokens.shape[1], -1)
        return self._read(self.model.embed(tokens), lengths, visible)

    def _read(self, embedded: Tensor, lengths: Tensor | None, visible: Tensor | None) -> Tensor:
        batch_size, num_tokens, _ = embedded.shape
        num_new = [num_tokens] * batch_size if lengths is None else lengths.tolist()
        needs_mask = max(self.cache.lengths) > 0 or (self._memory and self._memory.num_images > 1)
        piece = PIECE if needs_mask else num_tokens
        last = torch.tensor(num_new, device=embedded.device) - 1
        ends = []
        for start in range(0, num_tokens, piece):
            part = slice(start, start + piece)
            hidden = self.model.walk(
                embedded[:, part],
                cache=self.cache,
                memory=self._memory,
                visible=None if visible is None else visible[:, part],
            )
            width = hidden.shape[1]
            self.cache.advance([min(max(count - start, 0), width) for count in num_new])
            ends.append(hidden[torch.arange(batch_size), (last - start).clamp(0, width - 1)])
        rows = torch.arange(batch_size, device=embedded.device)
        if visible is not None:
            self._visible = visible[rows, last]
        return self.model.language.logits(torch.stack(ends)[last // piece, rows])
