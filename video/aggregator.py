"""The temporal aggregator: N consecutive frames become one (paper section 7.2).

A perceiver resampler (arXiv 2204.14198) over groups of frames: a few queries read all features of
their group's frames, layer by layer, and what they become stands for the whole group. Queries are
either learned ones, or one for each feature of a frame, which then starts from the mean of that
feature over the group: with no layer at all the aggregator is the mean of the frames.

Time is a table of embeddings spread over the clip, read between its entries. So the first frame and
the last one mean the same whether 16 frames are sampled or 64, and a table trained on 16 is
lengthened by reading it at 64 places.

Groups of different shape (the short last one of a clip, clips of other tiles) are run apart from
each other. Nothing is padded, so nothing can leak.

Letters: F frames of all clips, T tiles of a frame, P features of a tile, G frames of a group,
Q queries of a group.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from language.attention import attend
from language.layers.norm import RMSNorm


@dataclass(frozen=True, kw_only=True)
class AggregatorConfig:
    """How many frames become one, and through what."""

    feature_dim: int
    """Width of an image feature."""
    dim: int
    num_layers: int
    num_heads: int
    ffn_dim: int
    frames_per_group: int = 16
    """Frames that are merged into one: 16 in pre-training, 32 in fine-tuning."""
    num_latents: int = 0
    """Features that a group becomes; 0: as many as one frame has."""
    num_positions: int = 16
    """Entries of the table of time, spread over the clip."""
    norm_eps: float = 1e-5
    position_init: float = 0.02
    """Deviation of the fresh table of time."""

    def __post_init__(self) -> None:
        for key in ("dim", "num_heads", "ffn_dim", "frames_per_group", "num_positions"):
            if getattr(self, key) < 1:
                raise ValueError(f"video_aggregator.{key} must be 1 or more")
        if self.num_layers < 0 or self.num_latents < 0:
            raise ValueError("video_aggregator: num_layers and num_latents must be 0 or more")
        if self.dim % self.num_heads:
            raise ValueError(
                f"video_aggregator.dim ({self.dim}) must be a multiple of num_heads "
                f"({self.num_heads})"
            )


AGGREGATORS: dict[str, AggregatorConfig] = {
    "8b": AggregatorConfig(feature_dim=7680, dim=1536, num_layers=6, num_heads=16, ffn_dim=6144),
    "70b": AggregatorConfig(feature_dim=7680, dim=2048, num_layers=6, num_heads=16, ffn_dim=8192),
}
"""Free choices: the paper gives the sum alone, 0.6B beside the 8B core and 4.6B beside the 70B.

The video layers, built as the image adapter's, take 0.44B and 4.28B of these; six layers of these
widths fill the rest.
"""


class _Group(NamedTuple):
    """Consecutive frames of one clip that become one."""

    clip: int
    first: int
    """Its first frame, counted in the clip."""
    num_frames: int
    clip_length: int
    tiles: int
    """Of each frame."""
    start: int
    """Its first tile, counted over all clips."""


class PerceiverLayer(nn.Module):
    """Queries read the features and each other; then a feed-forward."""

    def __init__(self, config: AggregatorConfig) -> None:
        """One layer of the resampler."""
        super().__init__()
        dim, eps = config.dim, config.norm_eps
        self.head_dim = dim // config.num_heads
        self.query_norm = RMSNorm(dim, eps=eps)
        self.feature_norm = RMSNorm(dim, eps=eps)
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.feed_forward_norm = RMSNorm(dim, eps=eps)
        self.up = nn.Linear(dim, config.ffn_dim, bias=False)
        self.down = nn.Linear(config.ffn_dim, dim, bias=False)

    def forward(self, queries: Tensor, features: Tensor) -> Tensor:
        """Return the queries [groups, Q, dim] after reading ``features`` [groups, n, dim]."""
        normed = self.query_norm(queries)
        readable = torch.cat((self.feature_norm(features), normed), dim=1)
        query, key, value = (
            self._heads(matrix(x))
            for matrix, x in ((self.query, normed), (self.key, readable), (self.value, readable))
        )
        queries = queries + self.output(attend(query, key, value, mask=None))
        change = self.down(nn.functional.gelu(self.up(self.feed_forward_norm(queries))))
        return queries + change

    def weights(self, queries: Tensor, features: Tensor) -> Tensor:
        """How much of what each query reads comes from each feature, [groups, Q, n].

        Averaged over heads; what queries read of each other is left out, and the rest sums to 1.
        """
        query = self._heads(self.query(self.query_norm(queries)))
        key = self._heads(self.key(self.feature_norm(features)))
        return (query @ key.transpose(-1, -2) / self.head_dim**0.5).softmax(dim=-1).mean(dim=1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class TemporalAggregator(nn.Module):
    """Features of frames in, features of groups of frames out."""

    def __init__(self, config: AggregatorConfig) -> None:
        """Projection, table of time, queries and layers."""
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.feature_dim, config.dim)
        self.positions = nn.Parameter(torch.empty(config.num_positions, config.dim))
        self.latents = nn.Parameter(torch.empty(max(1, config.num_latents), config.dim))
        self.layers = nn.ModuleList(PerceiverLayer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.dim, eps=config.norm_eps)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights: normal by fan-in, what is added to the stream by depth, too."""
        depth = max(1, 2 * self.config.num_layers) ** -0.5
        for name, parameter in self.named_parameters():
            if name == "positions":
                nn.init.normal_(parameter, std=self.config.position_init)
            elif name == "latents":
                # With queries from frames the one latent is a bias on all of them.
                nn.init.normal_(parameter, std=1.0 if self.config.num_latents else 0.0)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 1:
                nn.init.ones_(parameter)
            else:
                scale = depth if name.endswith(("output.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=scale * parameter.shape[1] ** -0.5)

    def num_pieces(self, lengths: Tensor, tiles: Tensor) -> Tensor:
        """Pieces that :meth:`forward` makes of each clip, [clips]; arguments as there."""
        groups = (lengths + self.config.frames_per_group - 1) // self.config.frames_per_group
        return groups if self.config.num_latents else groups * tiles

    def forward(self, features: Tensor, *, lengths: Tensor, tiles: Tensor) -> Tensor:
        """Merge the frames of clips, group by group.

        Args:
            features: of all tiles of all frames of all clips in order, [tiles, P, feature_dim].
            lengths: frames of each clip, [clips] int64, 1 or more.
            tiles: tiles of each frame of each clip, [clips] int64.

        Returns:
            What the frames became, in pieces of equally many features, those of a clip together:
            [pieces, features of a piece, dim]. A group is as many pieces as its frames have tiles,
            or one where the queries are learned ones.
        """
        places, merged = [], []
        for groups in self._groups(lengths, tiles):
            pieces = self._merge(*self._read(groups, features))
            merged.append(pieces.flatten(0, 1))
            places += [
                (group.clip, group.first, piece)
                for group in groups
                for piece in range(pieces.shape[1])
            ]
        order = sorted(range(len(places)), key=places.__getitem__)
        return torch.cat(merged)[order]

    @torch.no_grad()
    def attention_maps(
        self, features: Tensor, *, lengths: Tensor, tiles: Tensor
    ) -> dict[tuple[int, int], Tensor]:
        """How much each query of a group reads of each feature of its frames.

        Averaged over layers and heads; without layers every frame counts alike.

        Args:
            features: as for :meth:`forward`.
            lengths: as for :meth:`forward`.
            tiles: as for :meth:`forward`.

        Returns:
            By clip and first frame of each group, weights [Q, G, T, P] that sum to 1 for a query.
        """
        maps: dict[tuple[int, int], Tensor] = {}
        for groups in self._groups(lengths, tiles):
            queries, timed = self._read(groups, features)
            stream, readable = queries.flatten(1, 2), timed.flatten(1, 3)
            read = []
            for layer in self.layers:
                assert isinstance(layer, PerceiverLayer)
                read.append(layer.weights(stream, readable))
                stream = layer(stream, readable)
            if not read:
                shape = (*stream.shape[:2], readable.shape[1])
                read.append(readable.new_full(shape, 1 / readable.shape[1]))
            weights = torch.stack(read).mean(dim=0).unflatten(2, timed.shape[1:4])
            maps |= {
                (group.clip, group.first): of for group, of in zip(groups, weights, strict=True)
            }
        return maps

    def _groups(self, lengths: Tensor, tiles: Tensor) -> "list[list[_Group]]":
        """All groups of all clips, those of one shape together."""
        shapes: dict[tuple[int, int], list[_Group]] = {}
        start = 0
        for clip, (length, size) in enumerate(zip(lengths.tolist(), tiles.tolist(), strict=True)):
            for first in range(0, length, self.config.frames_per_group):
                number = min(self.config.frames_per_group, length - first)
                group = _Group(clip, first, number, length, size, start + first * size)
                shapes.setdefault((number, size), []).append(group)
            start += length * size
        return list(shapes.values())

    def _read(self, groups: "list[_Group]", features: Tensor) -> tuple[Tensor, Tensor]:
        """The first queries of groups of one shape, and what they will read.

        Returns:
            Queries [groups, pieces, features of a piece, dim], and projected features with their
            time, [groups, G, T, P, dim].
        """
        number, tiles = groups[0].num_frames, groups[0].tiles
        start = torch.tensor([group.start for group in groups], device=features.device)
        index = start[:, None] + torch.arange(number * tiles, device=features.device)
        frames = features[index].unflatten(1, (number, tiles))
        instants = torch.tensor(
            [[(g.first + i) / max(1, g.clip_length - 1) for i in range(number)] for g in groups],
            dtype=torch.promote_types(torch.float32, self.positions.dtype),
            device=features.device,
        )
        projected = self.projection(frames.to(self.projection.weight.dtype))
        time = self.embed_time(instants).to(projected.dtype)  # [groups, G, dim]
        timed = projected + time[:, :, None, None]
        if not self.config.num_latents:
            return timed.mean(dim=1) + self.latents, timed
        middle = self.embed_time(instants.mean(dim=1)).to(projected.dtype)
        return (self.latents + middle[:, None]).unsqueeze(1), timed

    def _merge(self, queries: Tensor, timed: Tensor) -> Tensor:
        """What the queries [groups, pieces, features, dim] become, in the same shape."""
        stream, readable = queries.flatten(1, 2), timed.flatten(1, 3)
        for layer in self.layers:
            stream = layer(stream, readable)
        return self.norm(stream).unflatten(1, queries.shape[1:3])

    def embed_time(self, instants: Tensor) -> Tensor:
        """Embeddings [..., dim] of instants [...] from 0 to 1, between the table's entries."""
        return read_positions(self.positions, instants)


def read_positions(table: Tensor, instants: Tensor) -> Tensor:
    """Read a table [entries, dim] that spans 0 to 1 at ``instants`` [...], linearly between."""
    place = instants * (len(table) - 1)
    below = place.floor().clamp(0, max(0, len(table) - 2)).long()
    share = (place - below).unsqueeze(-1).to(table.dtype)
    above = (below + 1).clamp(max=len(table) - 1)
    return torch.lerp(table[below], table[above], share)


def lengthened(table: Tensor, *, num_positions: int) -> Tensor:
    """The table of time read at more places, where it can then learn finer differences.

    Args:
        table: [entries, dim].
        num_positions: entries wanted, such as 64 for the frames of fine-tuning (section 7.5).

    Returns:
        [num_positions, dim], equal to ``table`` at both ends and on the straight lines between.
    """
    return read_positions(table, torch.linspace(0, 1, num_positions, device=table.device))
