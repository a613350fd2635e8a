"""Where a token stands: its tile's place in the batch, and gated embeddings of its position.

Tile and position embeddings are those of Llama 3.2 Vision: the position within a tile has one
common table and, behind a gate, a table for each tile of each arrangement; behind gates of their
own, a vector for each tile of each arrangement is added before the local and before the global
blocks.

Letters: I pictures, N real tiles of all pictures, K most tiles of one picture, C tiles as
computed (N, or I * K where pictures are padded), P tokens of a tile, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.tiles import arrangement_id, arrangements


@dataclass(frozen=True, kw_only=True)
class TileLayout:
    """Where a batch's tiles are computed: pictures of equally many tiles stand together."""

    counts: list[int]
    """Tiles of each picture, in order of computing."""
    slots: Tensor
    """`[N]`: the place of each given tile among those computed."""
    ids: Tensor
    """`[C]`: the arrangement's id of each tile computed."""
    index: Tensor
    """`[C]`: the number of each tile computed within its picture."""

    in_order: bool
    """Whether the tiles are computed just as they are given."""

    @classmethod
    def of(cls, arrangements: Tensor, *, max_num_tiles: int, padded: bool) -> "TileLayout":
        """Lay out pictures of `arrangements` `[I, 2]`, each `padded` to `max_num_tiles` or not."""
        shapes = [(rows, columns) for rows, columns in arrangements.tolist()]
        given = [rows * columns for rows, columns in shapes]
        order = sorted(range(len(shapes)), key=given.__getitem__)
        ids: list[int] = []
        index: list[int] = []
        starts = [0] * len(shapes)
        for picture in order:
            computed = max_num_tiles if padded else given[picture]
            starts[picture] = len(ids)
            ids += [arrangement_id(shapes[picture], max_num_tiles=max_num_tiles)] * computed
            index += range(computed)
        slots = [
            start + tile for start, num in zip(starts, given, strict=True) for tile in range(num)
        ]
        device = arrangements.device
        return cls(
            counts=[given[picture] for picture in order],
            slots=torch.tensor(slots, device=device),
            ids=torch.tensor(ids, device=device),
            index=torch.tensor(index, device=device),
            in_order=slots == list(range(len(ids))),
        )

    def place(self, tiles: Tensor) -> Tensor:
        """Tiles as given `[N, ...]` to tiles as computed `[C, ...]`, padded ones being zeros."""
        if self.in_order:
            return tiles
        return tiles.new_zeros(len(self.ids), *tiles.shape[1:]).index_copy(0, self.slots, tiles)

    def take(self, tiles: Tensor) -> Tensor:
        """Tiles as computed `[C, ...]` to tiles as given `[N, ...]`."""
        return tiles if self.in_order else tiles.index_select(0, self.slots)

    def groups(self) -> list[tuple[int, int]]:
        """How many pictures have how many tiles, in order of computing."""
        return [(self.counts.count(tiles), tiles) for tiles in sorted(set(self.counts))]


class TileEmbedding(nn.Module):
    """A gated vector for each tile of each arrangement; the gate starts closed."""

    def __init__(self, dim: int, *, max_num_tiles: int) -> None:
        super().__init__()
        num_ids = len(arrangements(max_num_tiles)) + 1  # id 0 is the release's "no picture"
        self.embedding = nn.Parameter(dim**-0.5 * torch.randn(num_ids, max_num_tiles, dim))
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, layout: TileLayout) -> Tensor:
        """One vector for each tile computed, `[C, D]`."""
        return self.gate.tanh() * self.embedding[layout.ids, layout.index]


class PositionEmbedding(nn.Module):
    """Positions within a tile; a gate fades from the common table to each tile's own."""

    def __init__(self, dim: int, *, num_tokens: int, max_num_tiles: int, per_tile: bool) -> None:
        super().__init__()
        scale, shape = dim**-0.5, (num_tokens, dim)
        self.table = nn.Parameter(scale * torch.randn(shape))
        self.per_tile = per_tile
        if per_tile:
            num_ids = len(arrangements(max_num_tiles)) + 1
            self.tile_table = nn.Parameter(scale * torch.randn(num_ids, max_num_tiles, *shape))
            self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, layout: TileLayout) -> Tensor:
        """`[C, P, D]`, or `[P, D]` where all tiles share it."""
        if not self.per_tile:
            return self.table
        gate = self.gate.tanh()
        return (1 - gate) * self.table + gate * self.tile_table[layout.ids, layout.index]


def resize_positions(table: Tensor, *, num_patches: int, class_token: bool) -> Tensor:
    """Resize position tables `[..., P, D]` to `num_patches` of a square tile (bicubic).

    The class token's position, the first where there is one, stays what it is.
    """
    prefix, patches = table.split([int(class_token), table.shape[-2] - class_token], dim=-2)
    if patches.shape[-2] == num_patches:
        return table
    old, new = round(patches.shape[-2] ** 0.5), round(num_patches**0.5)
    grid = patches.reshape(-1, old, old, table.shape[-1]).permute(0, 3, 1, 2)  # [..., D, old, old]
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", antialias=True)
    patches = grid.flatten(2).transpose(1, 2).reshape(*table.shape[:-2], num_patches, -1)
    return torch.cat([prefix, patches], dim=-2)
