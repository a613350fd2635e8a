"""A picture as tiles of the best-fitting arrangement (paper section 7.2; Llama 3.2 Vision's rules).

A picture is laid on a canvas of `rows x columns` square tiles, at most `max_num_tiles` of them.
The canvas is the one that enlarges the picture least; where every canvas shrinks it, the one that
shrinks it least; among equals the smallest. The picture keeps its aspect ratio, stands at the top
left and is padded with black; a picture smaller than a tile is enlarged to it.

Letters: K tiles of one picture, S pixels of a tile's edge.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Arrangement = tuple[int, int]
"""Rows and columns of tiles."""


@dataclass(frozen=True, kw_only=True)
class TilesConfig:
    """How a picture becomes tiles."""

    tile_size: int
    """Edge of a square tile in pixels; equal to the encoder's `image_size`."""
    max_num_tiles: int = 4
    """Most tiles that a picture may take."""
    mean: tuple[float, float, float] = CLIP_MEAN
    """Mean of red, green and blue that is taken away, of values in 0..1."""
    std: tuple[float, float, float] = CLIP_STD
    """Deviation of red, green and blue that is divided by."""
    resampling: Literal["bilinear", "bicubic"] = "bilinear"
    """Filter of the resizing; the release's is bilinear."""

    def __post_init__(self) -> None:
        for key in ("tile_size", "max_num_tiles"):
            if getattr(self, key) < 1:
                raise ValueError(f"tiles.{key} must be 1 or more, not {getattr(self, key)}")
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("tiles: mean and std take three numbers each, and std positive ones")
        if self.resampling not in ("bilinear", "bicubic"):
            raise ValueError(
                f"tiles.resampling: {self.resampling!r} is neither 'bilinear' nor 'bicubic'"
            )


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """The tiles of one picture."""

    pixels: Tensor
    """`[K, 3, S, S]` float32, normalised, row by row."""
    arrangement: Arrangement
    """Rows and columns, whose product is K."""


MOST_TILES = 256
"""Bound of what a config may ask for."""


@lru_cache
def arrangements(max_num_tiles: int) -> list[Arrangement]:
    """All (rows, columns) of at most `max_num_tiles` tiles, in the release's order.

    Raises:
        ValueError: no tile at all, or more than MOST_TILES.
    """
    if not 1 <= max_num_tiles <= MOST_TILES:
        raise ValueError(f"max_num_tiles must be 1 to {MOST_TILES}, not {max_num_tiles}")
    return [
        (rows, columns)
        for rows in range(1, max_num_tiles + 1)
        for columns in range(1, max_num_tiles // rows + 1)
    ]


def arrangement_id(arrangement: Arrangement, *, max_num_tiles: int) -> int:
    """The release's aspect-ratio id: 1 for the first arrangement; 0 stands for no picture.

    Raises:
        ValueError: there is no such arrangement.
    """
    if arrangement not in arrangements(max_num_tiles):
        raise ValueError(f"no arrangement of at most {max_num_tiles} tiles is {arrangement}")
    return arrangements(max_num_tiles).index(arrangement) + 1


def best_arrangement(height: int, width: int, *, tile_size: int, max_num_tiles: int) -> Arrangement:
    """The canvas, in tiles, that fits a picture of `height` x `width` pixels best."""

    def rank(arrangement: Arrangement) -> tuple[bool, float, int]:
        rows, columns = arrangement
        scale = min(rows * tile_size / height, columns * tile_size / width)
        return scale < 1, scale if scale >= 1 else -scale, rows * columns

    return min(arrangements(max_num_tiles), key=rank)


def fitted_size(
    height: int, width: int, *, tile_size: int, arrangement: Arrangement
) -> tuple[int, int]:
    """Height and width in pixels of a picture as it stands on the canvas of `arrangement`."""
    rows, columns = arrangement
    target_height = min(max(height, tile_size), rows * tile_size)
    target_width = min(max(width, tile_size), columns * tile_size)
    scale_height, scale_width = target_height / height, target_width / width
    if scale_width < scale_height:
        return min(max(math.floor(height * scale_width), 1), target_height), target_width
    return target_height, min(max(math.floor(width * scale_height), 1), target_width)


def tile_picture(picture: Image.Image, config: TilesConfig) -> Tiles:
    """Cut an RGB picture into the tiles of its best-fitting arrangement.

    Args:
        picture: in mode RGB, of any size from one pixel up.
        config: tile size, most tiles and normalisation.

    Raises:
        ValueError: the picture is not RGB.
    """
    if picture.mode != "RGB":
        raise ValueError(f"tile_picture takes an RGB picture, not {picture.mode}: convert it first")
    size = config.tile_size
    rows, columns = best_arrangement(
        picture.height, picture.width, tile_size=size, max_num_tiles=config.max_num_tiles
    )
    height, width = fitted_size(
        picture.height, picture.width, tile_size=size, arrangement=(rows, columns)
    )
    pixels = transforms.pil_to_tensor(picture)  # [3, height, width] of bytes
    if pixels.shape[1:] != (height, width):
        mode = InterpolationMode(config.resampling)
        pixels = transforms.resize(pixels, [height, width], interpolation=mode, antialias=True)
    canvas = pixels.new_zeros(3, rows * size, columns * size)
    canvas[:, :height, :width] = pixels
    tiles = canvas.view(3, rows, size, columns, size).permute(
        1, 3, 0, 2, 4
    )  # [rows, columns, 3, S, S]
    tiles = tiles.reshape(rows * columns, 3, size, size)  # [K, 3, S, S]
    mean = 255 * torch.tensor(config.mean).view(3, 1, 1)
    std = 255 * torch.tensor(config.std).view(3, 1, 1)
    return Tiles(pixels=tiles.float().sub_(mean).div_(std), arrangement=(rows, columns))
