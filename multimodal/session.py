"""A running dialogue: what was read, seen and heard is kept, so that a new token costs one token.

Pictures and clips are encoded when they come, and their keys and values serve every later token
and turn (paper section 7.2).
"""

import torch
from torch import Tensor

from multimodal.batch import Batch
from multimodal.model import MultimodalLlama, Seen, visible_in
from vision.adapter import ImageMemory

PIECE = 1024
"""Tokens read at once where a mask is needed, whose size is tokens times all that they may see."""


class MultimodalSession:
    """Decoding state of a batch of dialogues."""

    def __init__(self, model: MultimodalLlama, *, batch_size: int, max_length: int) -> None:
        """Room for ``batch_size`` dialogues of at most ``max_length`` tokens."""
        self.model = model
        self.cache = model.language.new_cache(batch_size, max_length=max_length)
        self._memories: dict[Seen, ImageMemory] = {}
        self._visible: dict[Seen, Tensor] = {}  # [batch, media] each: what the latest token sees

    @property
    def sights(self) -> tuple[dict[Seen, ImageMemory], dict[Seen, Tensor]]:
        """Keys and values of the media, and which of them the latest tokens see, [batch, media]."""
        return self._memories, self._visible

    @torch.no_grad()
    def prefill(self, batch: Batch) -> Tensor:
        """Read a prompt, or the next turn of a dialogue with its new media.

        Args:
            batch: the new tokens and media alone; ``visible`` and ``visible_clips`` speak of all
                of the dialogue, those of earlier turns first.

        Returns:
            Logits [batch, vocabulary] after the last token of each row.
        """
        sensed = self.model.sense(batch)
        for kind, new in self.model.remember(batch, sensed).items():
            known = self._memories.get(kind)
            self._memories[kind] = new if known is None else known.extend(new)
        return self._read(self.model.embed_batch(batch, sensed), batch.lengths, visible_in(batch))

    @torch.no_grad()
    def append(self, tokens: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Read further text, which sees what the latest token of its row saw.

        Args:
            tokens: [batch, tokens], padded on the right.
            lengths: real tokens of each row, [batch]; all by default.

        Returns:
            Logits [batch, vocabulary] after the last token of each row.
        """
        visible: dict[Seen, Tensor | None] = {
            kind: seen[:, None].expand(-1, tokens.shape[1], -1)
            for kind, seen in self._visible.items()
        }
        return self._read(self.model.embed(tokens), lengths, visible)

    def _read(
        self, embedded: Tensor, lengths: Tensor | None, visible: dict[Seen, Tensor | None]
    ) -> Tensor:
        batch_size, num_tokens, _ = embedded.shape
        num_new = [num_tokens] * batch_size if lengths is None else lengths.tolist()
        several = any(memory.num_images > 1 for memory in self._memories.values())
        piece = PIECE if several or max(self.cache.lengths) > 0 else num_tokens
        last = torch.tensor(num_new, device=embedded.device) - 1
        ends = []
        for start in range(0, num_tokens, piece):
            part = slice(start, start + piece)
            seen = {kind: None if v is None else v[:, part] for kind, v in visible.items()}
            hidden = self.model.walk(
                embedded[:, part],
                cache=self.cache,
                sights=self.model.sights(self._memories, seen),
            )
            width = hidden.shape[1]
            self.cache.advance([min(max(count - start, 0), width) for count in num_new])
            ends.append(hidden[torch.arange(batch_size), (last - start).clamp(0, width - 1)])
        rows = torch.arange(batch_size, device=embedded.device)
        for kind, mask in visible.items():
            if mask is not None:
                self._visible[kind] = mask[rows, last]
        return self.model.language.logits(torch.stack(ends)[last // piece, rows])
