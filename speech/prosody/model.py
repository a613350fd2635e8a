"""The prosody model: a decoder over phones with two cross-attentions (paper section 8.2).

Each step reads one phone. A step attends to earlier steps, to the linguistic features of the phones
read so far, and to the frozen core's embeddings of the words read so far; it says how long, how
high and how loud a phone is that was read ``look_ahead`` steps before: targets are delayed, as in
Kharitonov et al. 2021 (arXiv 2109.03264), so that the model needs no mask that looks forward. What
it said of the phone before that one is part of its input.

Phones and the core's tokens keep their own rates. The alignment is dynamic: a core token is *owned*
by the first phone of the word in which it ends, and may be seen from that phone on; a phone is not
read before the tokens of its word are there. Masks are the same in training and in use.

``look_ahead`` None reads whole texts without any mask: the paper's comparison.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from language.layers.norm import RMSNorm
from speech.prosody.phones import NUM_CODES, NUM_FLAGS, PhoneInput

NUM_MEASURES = 3
NUM_SAID = NUM_MEASURES + 1
"""What is said of a phone: its measures, each less its mean and over its spread, and its voice."""
NOBODY = 1 << 30
"""Owner of core tokens that pad."""
_FAR = 64
"""Distance in phones from which on all are alike to attention."""
_SPOKEN_OF = 5.0
"""What attention adds at first to the phone, and the word, that a step speaks of."""
_WORD_PHONES = 4
"""How far from its word's begin most phones are."""


@dataclass(frozen=True, kw_only=True)
class ProsodyConfig:
    """Sizes of a prosody model; the defaults are the paper's where it says them."""

    dim: int = 864
    num_heads: int = 6
    num_layers: int = 6
    """Not in the paper."""
    ffn_dim: int = 3456
    """Of either of the two layers; the paper's 864 may be this or ``dim``."""
    look_ahead: int | None = 8
    """Phones that are read before one is decided; None reads all of them."""
    core_dim: int | None = None
    """Size of the core's embeddings; None does without them."""
    memory: int = 500
    """How many phones back attention looks."""
    num_speakers: int = 1
    num_styles: int = 1
    means: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Of log duration, log F0 and log power in the training data."""
    spreads: tuple[float, ...] = (1.0, 1.0, 1.0)
    """Standard deviations of the same."""
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(f"dim ({self.dim}) must divide by num_heads ({self.num_heads})")
        if self.look_ahead is not None and self.look_ahead < 0:
            raise ValueError(f"look_ahead must be 0 or more, or None, not {self.look_ahead}")
        if len(self.means) != NUM_MEASURES or len(self.spreads) != NUM_MEASURES:
            raise ValueError(f"means and spreads must have {NUM_MEASURES} values each")
        if min(self.spreads) <= 0:
            raise ValueError("spreads must be above 0")


@dataclass(frozen=True)
class ProsodyInput:
    """Phones of a batch of texts, and the core's view of them."""

    phones: PhoneInput
    speakers: Tensor
    """[batch] int64."""
    styles: Tensor
    """[batch] int64."""
    states: Tensor | None = None
    """The core's embeddings, [batch, core tokens, core dim]."""
    owners: Tensor | None = None
    """Index of the phone from which on each core token is seen, [batch, core tokens]."""

    def to(self, device: torch.device) -> "ProsodyInput":
        """Move to a device."""
        return ProsodyInput(
            PhoneInput(self.phones.codes.to(device), self.phones.flags.to(device)),
            self.speakers.to(device),
            self.styles.to(device),
            None if self.states is None else self.states.to(device),
            None if self.owners is None else self.owners.to(device),
        )


def owners(core_ends: Sequence[int], phone_ends: Sequence[int]) -> list[int]:
    """For each core token the first phone of the word in which it ends.

    Args:
        core_ends: where each core token ends in the written text.
        phone_ends: where the word of each phone ends in it, not falling.

    Returns:
        What ends behind the last word belongs to the phone after the last one.
    """
    return [bisect_left(phone_ends, end) for end in core_ends]


def collate(
    phones: Sequence[PhoneInput],
    *,
    speakers: Sequence[int],
    styles: Sequence[int],
    cores: Sequence[tuple[Tensor, Sequence[int]]] | None = None,
) -> tuple[ProsodyInput, Tensor]:
    """A batch padded on the right, and the phones of each text, [batch].

    Args:
        phones: of each text.
        speakers: number of who speaks each.
        styles: number of the style of each.
        cores: embeddings [core tokens, core dim] of each, and their owners.
    """
    batch = ProsodyInput(
        PhoneInput(
            pad_sequence([each.codes for each in phones], batch_first=True),
            pad_sequence([each.flags for each in phones], batch_first=True),
        ),
        torch.tensor(speakers),
        torch.tensor(styles),
    )
    if cores is not None:
        owned = [torch.tensor(owner, dtype=torch.int64) for _, owner in cores]
        batch = replace(
            batch,
            states=pad_sequence([states for states, _ in cores], batch_first=True),
            owners=pad_sequence(owned, batch_first=True, padding_value=NOBODY),
        )
    return batch, torch.tensor([len(each.codes) for each in phones])


class DistanceAttention(nn.Module):
    """Attention that knows how many phones away what it looks at is."""

    def __init__(self, config: ProsodyConfig, *, source_dim: int) -> None:
        """From steps of the decoder to sources of ``source_dim``."""
        super().__init__()
        self.num_heads = config.num_heads
        self.query = nn.Linear(config.dim, config.dim, bias=False)
        self.key_value = nn.Linear(source_dim, 2 * config.dim, bias=False)
        self.distance = nn.Embedding(2 * _FAR + 1, config.num_heads)
        self.output = nn.Linear(config.dim, config.dim, bias=False)
        nn.init.zeros_(self.distance.weight)

    def keys_values(self, source: Tensor) -> Tensor:
        """What is attended to, [2, batch, heads, sources, head dim]."""
        both = self.key_value(source).unflatten(-1, (2, self.num_heads, -1))
        return both.permute(2, 0, 3, 1, 4)

    def forward(self, x: Tensor, keys_values: Tensor, away: Tensor, visible: Tensor) -> Tensor:
        """Attend.

        Args:
            x: [batch, steps, dim].
            keys_values: of :meth:`keys_values`.
            away: place of each source less that of each step, [batch or 1, steps, sources].
            visible: what each step may see, [batch or 1, steps, sources].

        Returns:
            [batch, steps, dim]; 0 where there is nothing to see.
        """
        queries = self.query(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        bias = self.distance(away.clamp(-_FAR, _FAR) + _FAR).permute(0, 3, 1, 2)
        blind = ~visible.any(dim=-1)
        bias = bias.masked_fill(~visible[:, None], -torch.inf)
        bias = bias.masked_fill(blind[:, None, :, None], 0.0)
        attended = F.scaled_dot_product_attention(
            queries, keys_values[0], keys_values[1], attn_mask=bias
        )
        attended = self.output(attended.transpose(1, 2).flatten(2))
        return attended.masked_fill(blind[..., None], 0.0)


class ProsodyLayer(nn.Module):
    """Self-attention, two cross-attentions, and two fully connected layers."""

    def __init__(self, config: ProsodyConfig) -> None:
        """Fresh weights."""
        super().__init__()
        dim = config.dim
        self.norms = nn.ModuleList(RMSNorm(dim, eps=1e-5) for _ in range(4))
        self.steps = DistanceAttention(config, source_dim=dim)
        self.linguistic = DistanceAttention(config, source_dim=dim)
        self.core = DistanceAttention(config, source_dim=dim) if config.core_dim else None
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, config.ffn_dim), nn.GELU(), nn.Linear(config.ffn_dim, dim)
        )
        self.dropout = nn.Dropout(config.dropout)
        self._start_at_what_is_spoken_of(config)

    def _start_at_what_is_spoken_of(self, config: ProsodyConfig) -> None:
        """A step speaks of what it read long before: training need not search for it.

        Of the core, half of the heads start at the word that is spoken of, so that the others can
        compare it with what stood before.
        """
        place = _FAR - min(config.look_ahead or 0, _FAR - _WORD_PHONES)
        with torch.no_grad():
            if config.look_ahead is not None:
                self.linguistic.distance.weight[place] = _SPOKEN_OF
            if self.core is not None:
                of_word = slice(place - _WORD_PHONES, place + 1)
                self.core.distance.weight[of_word, : config.num_heads // 2] = _SPOKEN_OF


class ProsodyModel(nn.Module):
    """Phones in; how long, how high, how loud and whether voiced each is, out."""

    def __init__(self, config: ProsodyConfig) -> None:
        """Fresh weights."""
        super().__init__()
        self.config, dim = config, config.dim
        self.codes = nn.Embedding(NUM_CODES, dim, padding_idx=0)
        self.flags = nn.Linear(NUM_FLAGS, dim)
        self.speaker = nn.Embedding(config.num_speakers, dim)
        self.style = nn.Embedding(config.num_styles, dim)
        self.phone_norm = RMSNorm(dim, eps=1e-5)
        self.end = nn.Parameter(torch.zeros(dim))
        self.said = nn.Linear(NUM_SAID + 1, dim)
        if config.core_dim is not None:
            self.core_norm = RMSNorm(config.core_dim, eps=1e-5)
            self.core_in = nn.Linear(config.core_dim, dim)
        self.layers = nn.ModuleList(ProsodyLayer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(dim, eps=1e-5)
        self.head = nn.Linear(dim, NUM_SAID)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, batch: ProsodyInput, lengths: Tensor, said: Tensor) -> Tensor:
        """What is said of all phones when what was said before is known.

        Args:
            batch: padded on the right.
            lengths: phones of each text, [batch].
            said: what is true of the phones, or was said, [batch, phones, NUM_SAID]; not looked at
                without a look-ahead.

        Returns:
            [batch, phones, NUM_SAID]: the measures, normalized, and the logit of a voice.
        """
        ahead = self.config.look_ahead
        phones = self.read(batch.phones, batch.speakers, batch.styles)
        beyond = torch.arange(phones.shape[1], device=phones.device) >= lengths[:, None]
        phones = torch.where(beyond[..., None], self.end, phones)
        if ahead is None:
            x = phones
        else:
            phones = torch.cat([phones, self.end.expand(len(phones), ahead, -1)], dim=1)
            x = phones + self.said(before(said, ahead + 1))
        places = torch.arange(x.shape[1], device=x.device)
        real = places < lengths[:, None]
        core = None if batch.states is None else self.core_in(self.core_norm(batch.states))
        x = self.dropout(x)
        for layer in self.layers:
            x = self._layer(layer, x, places, phones, real, core, batch.owners)
        out = self.head(self.norm(x))
        return out if ahead is None else out[:, ahead:]

    def read(self, phones: PhoneInput, speakers: Tensor, styles: Tensor) -> Tensor:
        """Linguistic features of phones as vectors [batch, phones, dim]."""
        x = self.codes(phones.codes).sum(dim=-2) + self.flags(phones.flags)
        return self.phone_norm(x + (self.speaker(speakers) + self.style(styles))[:, None])

    def _layer(
        self,
        layer: nn.Module,
        x: Tensor,
        places: Tensor,
        phones: Tensor,
        real: Tensor,
        core: Tensor | None,
        owned: Tensor | None,
    ) -> Tensor:
        """One layer over whole texts."""
        assert isinstance(layer, ProsodyLayer)
        away = (places[None, :] - places[:, None])[None]  # of all texts alike
        whole = self.config.look_ahead is None
        visible = real[:, None].expand(-1, len(places), -1) if whole else self._in_reach(away)
        normed = layer.norms[0](x)
        x = x + layer.dropout(layer.steps(normed, layer.steps.keys_values(normed), away, visible))
        linguistic = layer.linguistic.keys_values(phones)
        known = visible & real[:, None]
        x = x + layer.dropout(layer.linguistic(layer.norms[1](x), linguistic, away, known))
        if layer.core is not None:
            assert core is not None and owned is not None
            to_core = owned[:, None] - places[:, None]
            seen = owned[:, None] < NOBODY
            seen = seen.expand_as(to_core) if whole else seen & self._in_reach(to_core)
            keys_values = layer.core.keys_values(core)
            x = x + layer.dropout(layer.core(layer.norms[2](x), keys_values, to_core, seen))
        return x + layer.dropout(layer.feed_forward(layer.norms[3](x)))

    def _in_reach(self, away: Tensor) -> Tensor:
        return (away <= 0) & (away >= -self.config.memory)

    def normalized(self, measures: Tensor) -> Tensor:
        """Measures [..., 3] as the model says them, with a voice, [..., 4]; NaN becomes 0."""
        means, spreads = (measures.new_tensor(v) for v in (self.config.means, self.config.spreads))
        voiced = ~measures[..., 1].isnan()
        scaled = ((measures - means) / spreads).nan_to_num()
        return torch.cat([scaled, voiced[..., None].to(scaled)], dim=-1)

    def fed_back(self, out: Tensor) -> Tensor:
        """What is said of phones [..., 4] as the next steps read it: with a voice or without."""
        voiced = out[..., 3] >= 0
        said = torch.stack([out[..., 0], out[..., 1] * voiced, out[..., 2], voiced.to(out)], dim=-1)
        return said

    def measures(self, out: Tensor) -> Tensor:
        """Log duration, F0 and power [..., 3] of what the model says; F0 is NaN if unvoiced."""
        means, spreads = (out.new_tensor(v) for v in (self.config.means, self.config.spreads))
        measures = out[..., :NUM_MEASURES] * spreads + means
        measures[..., 1] = measures[..., 1].masked_fill(out[..., 3] < 0, torch.nan)
        return measures


def before(said: Tensor, delay: int) -> Tensor:
    """What each step knows of what was said, [batch, phones + delay - 1, NUM_SAID + 1].

    The step that reads phone t knows what was said of phone t - delay; the last value says whether
    there is such a phone.
    """
    known = F.pad(said, (0, 1), value=1.0)
    return F.pad(known, (0, 0, delay, 0))[:, : said.shape[1] + delay - 1]
