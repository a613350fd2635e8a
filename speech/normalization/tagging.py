"""Labels for a text that grows, equal to those of the whole text."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from speech.embeddings import CoreEmbeddings, EmbeddedText
from speech.normalization.tagger import Tagger, TaggerInput, collate, owners
from speech.normalization.written import WrittenToken, split

_AT_ONCE = 512  # tokens that are read in one go


@torch.no_grad()
def tag(
    text: str, tagger: Tagger, embeddings: CoreEmbeddings | None
) -> tuple[list[WrittenToken], Tensor]:
    """The tokens of a whole text and the scores of their labels, [tokens, labels].

    All tokens are held against all of the core's: for long texts there is the stream.
    """
    tokens = split(text)
    if not tokens:
        return [], torch.zeros(0, len(tagger.config.labels))
    read = TaggerInput.of(tokens, before=-1, rows=tagger.config.num_word_rows)
    if embeddings is not None:
        read = read.seen_by(embeddings.embed(text), tokens)
    batch, lengths = collate([read])
    return tokens, tagger(batch, lengths)[0]


class TaggingStream:
    """A text that is read word by word."""

    def __init__(self, tagger: Tagger) -> None:
        """Begin with nothing read.

        Raises:
            ValueError: the tagger needs the whole text.
        """
        if tagger.config.look_ahead is None:
            raise ValueError("a tagger without a look-ahead reads whole texts alone")
        self._tagger, self._ahead = tagger, tagger.config.look_ahead
        self._num_characters = 0
        self._end = -1  # of the token that was read last
        self._num_read = 0
        self._lstm: tuple[Tensor, Tensor] | None = None
        self._waiting = torch.zeros(1, 0, tagger.config.dim)  # vectors of undecided tokens
        self._states = torch.zeros(0, tagger.config.core_dim or 0)
        self._owners = torch.zeros(0, dtype=torch.int64)

    @torch.no_grad()
    def push(self, text: str, core: EmbeddedText | None) -> tuple[list[WrittenToken], Tensor]:
        """Read on.

        Args:
            text: whole words, as :meth:`speech.embeddings.EmbeddingStream.append` wants them.
            core: what that gives for them, if the tagger sees embeddings.

        Returns:
            The tokens of ``text``, and the scores [tokens, labels] of those tokens, from the
            earliest undecided one on, that are decided now.
        """
        start = self._num_characters
        tokens = [WrittenToken(t.text, t.start + start, t.kind) for t in split(text)]
        self._num_characters += len(text)
        owned = owners(core.ends, [token.end for token in tokens]) if core and tokens else []
        scores = [torch.zeros(0, len(self._tagger.config.labels))]
        for first in range(0, len(tokens), _AT_ONCE):
            if core is not None:
                part = slice(bisect_left(owned, first), bisect_left(owned, first + _AT_ONCE))
                self._see(core.states[part], torch.tensor(owned[part], dtype=torch.int64) - first)
            scores.append(self._read(tokens[first : first + _AT_ONCE]))
        return tokens, torch.cat(scores)

    @torch.no_grad()
    def finish(self) -> Tensor:
        """Scores of the tokens that waited for more."""
        return self._decide(self._tagger.end.expand(1, self._ahead, -1))

    def _see(self, states: Tensor, owned: Tensor) -> None:
        """Remember embeddings, whose owners are counted from the next token on."""
        oldest = self._num_read - self._waiting.shape[1] - self._tagger.config.memory
        kept = self._owners >= oldest
        self._states = torch.cat([self._states[kept], states.to(self._states)])
        self._owners = torch.cat([self._owners[kept], owned + self._num_read])

    def _read(self, tokens: Sequence[WrittenToken]) -> Tensor:
        read = TaggerInput.of(tokens, before=self._end, rows=self._tagger.config.num_word_rows)
        self._end = tokens[-1].end
        places = torch.arange(self._num_read, self._num_read + len(tokens))
        x = self._tagger.read(self._seen(read), places)
        self._waiting = torch.cat([self._waiting, x], dim=1)
        return self._decide(x)

    def _decide(self, x: Tensor) -> Tensor:
        """Scores of the tokens whose look-ahead ends within ``x`` [1, tokens, dim]."""
        if not x.shape[1]:
            return torch.zeros(0, len(self._tagger.config.labels))
        states, self._lstm = self._tagger.lstm(x, self._lstm)
        # The state for a token is the one that is reached with the last of its look-ahead.
        states = states[:, max(0, self._ahead - self._num_read) :]
        first, number = max(0, self._num_read - self._ahead), states.shape[1]
        self._num_read += x.shape[1]
        decided, self._waiting = self._waiting[:, :number], self._waiting[:, number:]
        if not number:
            return torch.zeros(0, len(self._tagger.config.labels))
        nothing = TaggerInput.of([], before=-1, rows=1)
        places = torch.arange(first, first + number)
        return self._tagger.decide(decided, states, self._seen(nothing), places)[0]

    def _seen(self, read: TaggerInput) -> TaggerInput:
        if self._tagger.config.core_dim is not None:
            read = replace(read, states=self._states, owners=self._owners)
        return collate([read])[0]
