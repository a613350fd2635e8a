"""A running dialogue: what was read and seen so far, kept so that each new token costs one token.

Pictures are encoded when they come, and their keys and values serve every later token and turn
(paper section 7.2).
"""

import torch
from torch import Tensor

from multimodal.batch import Batch
from multimodal.model import MultimodalLlama
from vision.adapter import ImageMemory


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
            batch: the new tokens alone; ``visible`` speaks of all pictures of the dialogue, those
                of earlier turns first.

        Returns:
            Logits [batch, vocabulary] after the last token of each row.
        """
        if batch.images is not None:
            seen = self.model.remember(batch.images, len(batch.tokens))
            self._memory = seen if self._memory is None else self._memory.extend(seen)
        return self._read(batch.tokens, batch.lengths, batch.visible)

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
        return self._read(tokens, lengths, visible)

    def _read(self, tokens: Tensor, lengths: Tensor | None, visible: Tensor | None) -> Tensor:
        hidden = self.model.hidden_states(
            tokens, cache=self.cache, memory=self._memory, visible=visible
        )
        num_new = [tokens.shape[1]] * len(tokens) if lengths is None else lengths.tolist()
        self.cache.advance(num_new)
        rows = torch.arange(len(tokens), device=tokens.device)
        last = torch.tensor(num_new, device=tokens.device) - 1
        if visible is not None:
            self._visible = visible[rows, last]
        return self.model.language.logits(hidden[rows, last])
