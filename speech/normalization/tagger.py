"""The tagger: a streaming LSTM that says which rule reads each token (paper section 8.2).

It reads written tokens one by one, and names the rule of a token when it has read ``look_ahead``
further ones. By two cross-attentions it sees the embeddings (:mod:`speech.embeddings`) that the
frozen core has of the tokens read so far: one lets each token meet those of its own characters and
of what stood before, the other looks back from the decision. Core tokens and written tokens are cut
differently, so the alignment is given: a core token is *owned* by the written token in which it
ends, may be seen as soon as that one is read, and attention knows how far away its owner is.

``look_ahead`` None reads the whole text, forwards and backwards, before it decides anything: the
paper's comparison, of no use for streaming.
"""

import zlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from language.layers.norm import RMSNorm
from speech.embeddings import EmbeddedText
from speech.normalization.written import WrittenToken

NUM_CHARACTERS = 12
"""Characters of a token that are looked at: its first ones, and of a longer token its last four."""
_LAST = 4
_UNKNOWN_SHARE = 0.4  # of words that training hides, so that unknown ones are no surprise
_ASCII = 128
_ALPHABET = _ASCII + 4  # beyond ASCII: padding, letters, digits, symbols
_KINDS = ("letters", "digits", "symbol")
NOBODY = 1 << 30
"""Owner of core tokens that pad."""
_FAR = 12
"""Distance in tokens from which on all are alike to attention."""


@dataclass(frozen=True, kw_only=True)
class TaggerConfig:
    """Sizes of a tagger."""

    labels: tuple[str, ...]
    """What a token can be: the language's rules, and going on with the one before."""
    look_ahead: int | None = 3
    """Tokens read before one is decided; None reads all of them."""
    core_dim: int | None = None
    """Size of the core's embeddings; None does without them."""
    dim: int = 128
    """Of a token."""
    hidden_dim: int = 192
    """Of the LSTM's state."""
    num_heads: int = 4
    memory: int = 48
    """How many tokens back attention sees the core's embeddings."""
    num_word_rows: int = 4096
    """Rows of the table of words; a word has the row that its hash names."""
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.look_ahead is not None and self.look_ahead < 0:
            raise ValueError(f"look_ahead must be 0 or more, or None, not {self.look_ahead}")
        if self.dim % self.num_heads:
            raise ValueError(f"dim ({self.dim}) must divide by num_heads ({self.num_heads})")
        if not self.labels:
            raise ValueError("labels must not be empty")


@dataclass(frozen=True)
class TaggerInput:
    """Written tokens as numbers, and the core's view of them."""

    words: Tensor
    """Row of each token in the table of words, [..., tokens]; 0 is no word."""
    characters: Tensor
    """[..., tokens, NUM_CHARACTERS]."""
    flags: Tensor
    """Kind, one-hot, and whether a space stands before the token, [..., tokens, 4] float."""
    states: Tensor | None = None
    """The core's embeddings, [..., core tokens, core dim]."""
    owners: Tensor | None = None
    """Index of the token that each core token belongs to, [..., core tokens]."""

    @classmethod
    def of(cls, tokens: Sequence[WrittenToken], *, before: int, rows: int) -> "TaggerInput":
        """Tokens that follow on a token that ended at character ``before`` (-1: none)."""
        flags = torch.zeros(len(tokens), len(_KINDS) + 1)
        for index, token in enumerate(tokens):
            flags[index, _KINDS.index(token.kind)] = 1
            flags[index, -1] = float(token.start > before >= 0)
            before = token.end
        codes = [_codes(token) for token in tokens]
        return cls(
            words=torch.tensor([_row(token, rows) for token in tokens], dtype=torch.int64),
            characters=torch.tensor(codes, dtype=torch.int64).view(-1, NUM_CHARACTERS),
            flags=flags,
        )

    def to(self, device: torch.device) -> "TaggerInput":
        """Move to a device."""
        return TaggerInput(
            self.words.to(device),
            self.characters.to(device),
            self.flags.to(device),
            None if self.states is None else self.states.to(device),
            None if self.owners is None else self.owners.to(device),
        )

    def seen_by(self, core: EmbeddedText, tokens: Sequence[WrittenToken]) -> "TaggerInput":
        """The same, with embeddings of the text that ``tokens`` are all the tokens of."""
        return TaggerInput(
            self.words,
            self.characters,
            self.flags,
            core.states,
            torch.tensor(owners(core.ends, [token.end for token in tokens]), dtype=torch.int64),
        )


def owners(core_ends: Sequence[int], token_ends: Sequence[int]) -> list[int]:
    """For each core token the written token in which it ends, from where both end in the text.

    The core's last characters may be white space; they belong to the last token.
    """
    last = len(token_ends) - 1
    return [min(bisect_left(token_ends, end), last) for end in core_ends]


def collate(inputs: Sequence[TaggerInput]) -> tuple[TaggerInput, Tensor]:
    """A batch padded on the right, and the number of tokens of each, [batch].

    Core tokens that pad are owned by nobody: their owner is beyond every token.
    """
    states = owned = None
    if inputs[0].states is not None:
        states = pad_sequence([each.states for each in inputs], batch_first=True)  # type: ignore[misc]
        owned = pad_sequence(
            [each.owners for each in inputs],  # type: ignore[misc]
            batch_first=True,
            padding_value=NOBODY,
        )
    batch = TaggerInput(
        pad_sequence([each.words for each in inputs], batch_first=True),
        pad_sequence([each.characters for each in inputs], batch_first=True),
        pad_sequence([each.flags for each in inputs], batch_first=True),
        states,
        owned,
    )
    return batch, torch.tensor([len(each.words) for each in inputs])


class AlignedAttention(nn.Module):
    """Cross-attention that knows how many written tokens away each core token's owner is."""

    def __init__(self, config: TaggerConfig, *, query_dim: int) -> None:
        """From queries of ``query_dim`` to the core."""
        super().__init__()
        assert config.core_dim is not None
        self.num_heads, self.memory = config.num_heads, config.memory
        self.query = nn.Linear(query_dim, config.dim)
        self.norm = RMSNorm(config.core_dim, eps=1e-5)
        self.key_value = nn.Linear(config.core_dim, 2 * config.dim)
        self.distance = nn.Embedding(2 * _FAR + 1, config.num_heads)
        self.output = nn.Linear(config.dim, query_dim)
        self.dropout = nn.Dropout(config.dropout)

    def keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """What is attended to, twice [batch, heads, core tokens, head dim]."""
        both = self.key_value(self.dropout(self.norm(states)))
        keys, values = both.unflatten(-1, (2, self.num_heads, -1)).unbind(-3)
        return keys.transpose(1, 2), values.transpose(1, 2)

    def forward(
        self,
        x: Tensor,
        keys_values: tuple[Tensor, Tensor],
        owners: Tensor,
        places: Tensor,
        horizon: int | None,
    ) -> Tensor:
        """Attend.

        Args:
            x: queries, [batch, tokens, query dim].
            keys_values: of :meth:`keys_values`.
            owners: [batch, core tokens].
            places: index of each query's token in its text, [tokens].
            horizon: how many tokens behind its own a query may see; None sees all.

        Returns:
            [batch, tokens, query dim]; 0 where there is nothing to see.
        """
        queries = self.query(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        away = owners[:, None] - places[:, None]  # [batch, tokens, core tokens]
        visible = (owners[:, None] < NOBODY) & (away >= -self.memory)
        if horizon is not None:
            visible = visible & (away <= horizon)
        bias = self.distance(away.clamp(-_FAR, _FAR) + _FAR).permute(0, 3, 1, 2)
        bias = bias.masked_fill(~visible[:, None], -torch.inf)
        blind = ~visible.any(dim=-1)
        bias = bias.masked_fill(blind[:, None, :, None], 0.0)
        attended = F.scaled_dot_product_attention(queries, *keys_values, attn_mask=bias)
        attended = self.output(attended.transpose(1, 2).flatten(2))
        return attended.masked_fill(blind[..., None], 0.0)


class Tagger(nn.Module):
    """Written tokens in, scores of labels out."""

    def __init__(self, config: TaggerConfig) -> None:
        """Fresh weights."""
        super().__init__()
        self.config = config
        dim, whole = config.dim, config.look_ahead is None
        self.words = nn.Embedding(config.num_word_rows + 1, dim, padding_idx=0)
        # Small, so that a word that training never met is as good as none.
        nn.init.normal_(self.words.weight[1:], std=0.02)
        self.characters = nn.Embedding(_ALPHABET, dim // 2, padding_idx=0)
        self.spelling = nn.Conv1d(dim // 2, dim, kernel_size=3, padding=1)
        self.length = nn.Linear(NUM_CHARACTERS, dim)
        self.flags = nn.Linear(len(_KINDS) + 1, dim)
        self.norm = nn.LayerNorm(dim)
        self.end = nn.Parameter(torch.zeros(dim))
        self.lstm = nn.LSTM(dim, config.hidden_dim, batch_first=True, bidirectional=whole)
        state_dim = dim + config.hidden_dim * (2 if whole else 1)
        if config.core_dim is not None:
            self.see = AlignedAttention(config, query_dim=dim)
            self.look_back = AlignedAttention(config, query_dim=state_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Sequential(
            nn.Linear(state_dim, config.hidden_dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_dim, len(config.labels)),
        )

    def forward(self, batch: TaggerInput, lengths: Tensor) -> Tensor:
        """Scores of whole texts.

        Args:
            batch: padded on the right.
            lengths: tokens of each text, [batch].

        Returns:
            [batch, tokens, labels].
        """
        number, ahead = batch.words.shape[1], self.config.look_ahead
        places = torch.arange(number, device=batch.words.device)
        x = self.read(batch, places)
        beyond = places >= lengths[:, None]
        x = torch.where(beyond[..., None], self.end, x)
        if ahead is None:
            packed = nn.utils.rnn.pack_padded_sequence(
                x, lengths.cpu(), batch_first=True, enforce_sorted=False
            )
            states, _ = nn.utils.rnn.pad_packed_sequence(
                self.lstm(packed)[0], batch_first=True, total_length=number
            )
        else:
            tail = self.end.expand(len(x), ahead, -1)
            states = self.lstm(torch.cat([x, tail], dim=1))[0][:, ahead:]
        return self.decide(x, states, batch, places)

    def read(self, batch: TaggerInput, places: Tensor) -> Tensor:
        """Vectors [batch, tokens, dim] of tokens, after a first look at the core's embeddings."""
        words = batch.words
        if self.training:  # words that training has never met must do without
            dropped = torch.rand(words.shape, device=words.device) < _UNKNOWN_SHARE
            words = words.masked_fill(dropped, 0)
        spelled = self.characters(batch.characters)  # [batch, tokens, characters, dim / 2]
        convolved = self.spelling(spelled.flatten(0, 1).transpose(1, 2)).amax(dim=-1)
        used = (batch.characters > 0).float()
        x = self.words(words) + convolved.unflatten(0, words.shape) + self.length(used)
        x = self.dropout(self.norm(x + self.flags(batch.flags)))
        if batch.states is not None:
            assert batch.owners is not None
            seen = self.see.keys_values(batch.states)
            horizon = None if self.config.look_ahead is None else 0
            x = x + self.see(x, seen, batch.owners, places, horizon)
        return x

    def decide(self, x: Tensor, states: Tensor, batch: TaggerInput, places: Tensor) -> Tensor:
        """Scores [batch, tokens, labels] of tokens ``x``, from the LSTM's ``states`` for them."""
        y = torch.cat([x, states], dim=-1)
        if batch.states is not None:
            assert batch.owners is not None
            seen = self.look_back.keys_values(batch.states)
            y = y + self.look_back(y, seen, batch.owners, places, self.config.look_ahead)
        return self.head(self.dropout(y))


def _row(token: WrittenToken, rows: int) -> int:
    if token.kind == "digits":
        return 0
    return 1 + zlib.crc32(token.text.lower().encode()) % rows


def _codes(token: WrittenToken) -> list[int]:
    text = token.text
    if len(text) > NUM_CHARACTERS:
        text = text[: NUM_CHARACTERS - _LAST] + text[-_LAST:]
    codes = [_code(character) for character in text]
    return codes + [0] * (NUM_CHARACTERS - len(codes))


def _code(character: str) -> int:
    if ord(character) < _ASCII:
        return ord(character)
    return _ASCII + (1 if character.isalpha() else 2 if character.isdecimal() else 3)
