"""Rows of one fixed cache that come and go: what continuous batching decodes together.

Rows that are in use lie at the front. A row that leaves gives its place to the last one, so that
each step is one pass over as many rows as there are dialogues. What a row computes does not depend
on its neighbours: it answers as it would alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from multimodal.batch import Batch
from multimodal.model import MultimodalLlama, Seen
from multimodal.session import MultimodalSession
from vision.adapter import ImageMemory


@dataclass
class Sights:
    """What a row's later tokens look at."""

    memories: Mapping[Seen, ImageMemory] = field(default_factory=dict)
    visible: Mapping[Seen, Tensor] = field(default_factory=dict)
    """Which of the media the latest token sees, [1, media]."""


class Slots:
    """The rows of a cache of fixed size."""

    def __init__(self, model: MultimodalLlama, *, number: int, max_length: int) -> None:
        """Take memory for ``number`` rows of ``max_length`` tokens, at once and for good."""
        self.model, self.number, self.max_length = model, number, max_length
        self._cache = model.language.new_cache(number, max_length=max_length)
        self._sights: list[Sights] = []
        self._together: tuple[dict[Seen, ImageMemory], dict[Seen, Tensor]] | None = None

    def __len__(self) -> int:
        return len(self._sights)

    @property
    def is_full(self) -> bool:
        """Whether no further row fits."""
        return len(self) == self.number

    def join(self, batch: Batch) -> Tensor:
        """Read a prompt into the next free row.

        Args:
            batch: of one row, on the model's device, shorter than ``max_length``.

        Returns:
            Logits [vocabulary] after its last token.
        """
        length = batch.tokens.shape[1]
        session = MultimodalSession(self.model, batch_size=1, max_length=length)
        logits = session.prefill(batch)
        row = len(self)
        for ours, read in ((self._cache.keys, session.cache.keys),
                           (self._cache.values, session.cache.values)):  # fmt: skip
            ours[:, row, :, :length] = read[:, 0]
        self._cache.lengths[row] = length
        self._sights.append(Sights(*session.sights))
        self._together = None
        return logits[0]

    def leave(self, row: int) -> None:
        """Free a row; the last one takes its place."""
        last = len(self) - 1
        if row != last:
            length = self._cache.lengths[last]
            for stored in (self._cache.keys, self._cache.values):
                stored[:, row, :, :length] = stored[:, last, :, :length]
            self._cache.lengths[row] = length
            self._sights[row] = self._sights[last]
        self._cache.lengths[last] = 0
        self._sights.pop()
        self._together = None

    def room(self, row: int) -> int:
        """Tokens that still fit into a row."""
        return self.max_length - self._cache.lengths[row]

    @torch.no_grad()
    def step(self, tokens: Sequence[int]) -> Tensor:
        """Append a token to every row in use.

        Returns:
            Logits [rows, vocabulary] after them.
        """
        if self._together is None:
            self._together = _together(self._sights)
        memories, visible = self._together
        front = self._cache.front(len(self))
        embedded = self.model.embed(torch.tensor(tokens, device=front.device)[:, None])
        sights = self.model.sights(
            memories, {kind: seen[:, None] for kind, seen in visible.items()}
        )
        hidden = self.model.walk(embedded, cache=front, sights=sights)
        for row in range(len(self)):
            self._cache.lengths[row] += 1
        return self.model.language.logits(hidden[:, 0])


def _together(rows: Sequence[Sights]) -> tuple[dict[Seen, ImageMemory], dict[Seen, Tensor]]:
    """The media of all rows side by side, filled up where a row has fewer, or none."""
    memories: dict[Seen, ImageMemory] = {}
    visible: dict[Seen, Tensor] = {}
    for kind in dict.fromkeys(kind for row in rows for kind in row.memories):
        own = [row.memories.get(kind) for row in rows]
        some = next(memory for memory in own if memory is not None)
        slots = max(memory.owner.shape[1] for memory in own if memory is not None)
        media = max(memory.num_images for memory in own if memory is not None)
        seen = [row.visible.get(kind) for row in rows]
        memories[kind] = ImageMemory(
            keys=_layers([None if m is None else m.keys for m in own], slots),
            values=_layers([None if m is None else m.values for m in own], slots),
            owner=torch.cat(
                [_wide(None if m is None else m.owner, some.owner, slots, -1) for m in own]
            ),
            num_images=media,
            padded=any(m is None or m.padded or m.owner.shape[1] < slots for m in own),
        )
        model = next(each for each in seen if each is not None)
        visible[kind] = torch.cat([_wide(each, model, media, False) for each in seen])
    return memories, visible


def _layers(rows: Sequence[Sequence[Tensor] | None], slots: int) -> list[Tensor]:
    """Keys or values of all rows, a tensor for each layer of the adapter."""
    some = next(row for row in rows if row is not None)
    return [
        _filled([None if row is None else row[i] for row in rows], like, slots)
        for i, like in enumerate(some)
    ]


def _filled(rows: Sequence[Tensor | None], like: Tensor, slots: int) -> Tensor:
    """Keys or values [1, heads, slots, head_dim] of all rows, [rows, heads, slots, head_dim]."""
    out = like.new_zeros(len(rows), like.shape[1], slots, like.shape[3])
    for index, row in enumerate(rows):
        if row is not None:
            out[index, :, : row.shape[2]] = row[0]
    return out


def _wide(row: Tensor | None, like: Tensor, width: int, fill: int | bool) -> Tensor:
    """A row [1, n] filled up to [1, width]."""
    out = like.new_full((1, width), fill)
    if row is not None:
        out[:, : row.shape[1]] = row
    return out
