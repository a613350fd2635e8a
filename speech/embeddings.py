"""What the frozen core makes of a text, token by token (paper section 8.2).

Text normalization and prosody see a text through the hidden states that the core has after one of
its layers (the 16th of 32 in the 8B), as if it were generating the text as its answer to an empty
user prompt. Attention is causal, so a token's state never changes when more text comes: what is
computed while the text still grows is what the whole text would give.

A text is words with one space between them, and is read word by word. Llama 3's tokenizer never
lets a token reach over a space into the next word, so that the tokens of a growing text are those
of the whole.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from language.cache import KeyValueCache
from language.chat import encode_dialog
from language.checkpoint import load_llama
from language.model import Llama
from language.tokenizer import Tokenizer, load_tokenizer

MAX_CONTEXT = 1024
"""Most tokens that the core looks back on; a longer text begins anew, where a word does."""
_WORD = re.compile(r" *[^ ]+| +")


@dataclass(frozen=True)
class EmbeddedText:
    """The core's tokens of a piece of text."""

    states: Tensor
    """[tokens, dim], float32."""
    ends: tuple[int, ...]
    """Where in the whole text, in characters, the text of each token ends."""

    def __add__(self, after: "EmbeddedText") -> "EmbeddedText":
        return EmbeddedText(torch.cat([self.states, after.states]), self.ends + after.ends)


class CoreEmbeddings:
    """A frozen core, as a source of embeddings."""

    def __init__(
        self, core: Llama, tokenizer: Tokenizer, *, layer: int, max_context: int = MAX_CONTEXT
    ) -> None:
        """Take the states after ``layer`` blocks of ``core``.

        Raises:
            ValueError: the core has not so many blocks, or the context has no room for a token.
        """
        if not 1 <= layer <= len(core.blocks):
            raise ValueError(f"layer must be from 1 to {len(core.blocks)}, not {layer}")
        self.core, self.tokenizer, self.layer = core, tokenizer, layer
        empty = [{"role": "user", "content": ""}]
        self.prompt = encode_dialog(empty, tokenizer, add_header=True).tokens
        self.max_context = min(max_context, core.config.max_positions)
        if self.max_context <= len(self.prompt):
            raise ValueError(f"max_context must be above the {len(self.prompt)} of the prompt")

    @classmethod
    def of(
        cls, directory: Path, *, layer: int, dtype: torch.dtype | None = torch.float32
    ) -> "CoreEmbeddings":
        """Those of the core in a directory, of which nothing trains.

        Args:
            directory: of the core.
            layer: after which they are taken.
            dtype: of the core's weights; None keeps the type that they are stored in.

        Raises:
            InputError: the directory is broken.
            ValueError: the core has not so many blocks.
        """
        core = load_llama(directory, dtype=dtype).requires_grad_(False)
        return cls(core, load_tokenizer(directory), layer=layer)

    @property
    def dim(self) -> int:
        """Size of a state."""
        return self.core.config.dim

    @property
    def device(self) -> torch.device:
        """Where the core, and what it gives, lies."""
        return self.core.embedding.weight.device

    def embed(self, text: str) -> EmbeddedText:
        """All tokens of ``text``."""
        return self.stream().append(text)

    def embed_all(self, texts: Sequence[str]) -> list[EmbeddedText]:
        """Each of several texts by itself, in one pass where they are short."""
        read = [self.tokens(text) for text in texts]
        length = len(self.prompt) + max((len(tokens) for tokens, _ in read), default=0)
        if not read or length > self.max_context:
            return [self.embed(text) for text in texts]
        rows = torch.zeros(len(read), length, dtype=torch.int64)
        for row, (tokens, _) in zip(rows, read, strict=True):
            row[: len(self.prompt) + len(tokens)] = torch.tensor([*self.prompt, *tokens])
        states = self.states(rows.to(self.device), None)[:, len(self.prompt) :]
        return [
            EmbeddedText(row[: len(ends)], ends)
            for row, (_, ends) in zip(states, read, strict=True)
        ]

    def stream(self) -> "EmbeddingStream":
        """For a text that comes in pieces."""
        return EmbeddingStream(self)

    def tokens(self, text: str, *, start: int = 0) -> tuple[list[int], tuple[int, ...]]:
        """Tokens of ``text``, and where each ends if the text starts at character ``start``.

        A token that ends within a character ends, here, before it.
        """
        tokens = self.tokenizer.encode(text)
        character_at, num_bytes = {}, 0
        for number, character in enumerate(text, start=1):
            num_bytes += len(character.encode(errors="replace"))
            character_at[num_bytes] = start + number
        ends, num_bytes, end = [], 0, start
        for token in tokens:
            num_bytes += len(self.tokenizer.token_bytes(token))
            end = character_at.get(num_bytes, end)
            ends.append(end)
        return tokens, tuple(ends)

    @torch.no_grad()
    def states(self, tokens: Tensor, cache: KeyValueCache | None) -> Tensor:
        """States [batch, tokens, dim] of ``tokens`` [batch, tokens], after those in ``cache``."""
        hidden = self.core.walk(self.core.embedding(tokens), cache=cache, blocks=range(self.layer))
        if cache is not None:
            cache.advance([tokens.shape[1]] * len(tokens))
        return hidden.float()


class EmbeddingStream:
    """A text that grows, and the core's memory of it."""

    def __init__(self, source: CoreEmbeddings) -> None:
        """Nothing is read yet."""
        self._source = source
        self._cache = source.core.new_cache(1, max_length=source.max_context)
        self._num_characters = 0

    def append(self, text: str) -> EmbeddedText:
        """Read on.

        Args:
            text: whole words; the first piece starts with a word, each further one with the space
                before a word.

        Returns:
            The new tokens.
        """
        source = self._source
        read = EmbeddedText(torch.zeros(0, source.dim, device=source.device), ())
        for tokens, ends in self._groups(text):
            row = torch.tensor([tokens], device=source.device)
            if not self._cache.lengths[0]:
                prompt = torch.tensor([source.prompt], device=source.device)
                source.states(prompt, self._cache)
            read = read + EmbeddedText(source.states(row, self._cache)[0], tuple(ends))
        return read

    def _groups(self, text: str) -> Iterator[tuple[list[int], list[int]]]:
        """Tokens that are read at once: as many words as the context has room for."""
        group: tuple[list[int], list[int]] = [], []
        for word in _WORD.findall(text):
            tokens, ends = self._source.tokens(word, start=self._num_characters)
            self._num_characters += len(word)
            if self._room(group) < len(tokens) and (group[0] or self._cache.lengths[0]):
                if group[0]:
                    yield group
                group = [], []
                self._cache.advance([-self._cache.lengths[0]])
            while (room := self._room(group)) < len(tokens):  # one word that fills a whole context
                yield tokens[:room], list(ends[:room])
                tokens, ends = tokens[room:], ends[room:]
                self._cache.advance([-self._cache.lengths[0]])
            group[0].extend(tokens)
            group[1].extend(ends)
        if group[0]:
            yield group

    def _room(self, group: tuple[list[int], list[int]]) -> int:
        used = self._cache.lengths[0] or len(self._source.prompt)
        return self._source.max_context - used - len(group[0])
