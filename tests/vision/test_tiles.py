"""Tiles equal those of transformers' image processor, for pictures of any size."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.mllama.image_processing_mllama import (
    MllamaImageProcessor,
    get_all_supported_aspect_ratios,
)

from vision.tiles import (
    CLIP_MEAN,
    CLIP_STD,
    TilesConfig,
    arrangement_id,
    arrangements,
    best_arrangement,
    fitted_size,
    tile_picture,
)


def noise(height: int, width: int) -> Image.Image:
    generator = np.random.default_rng(height * 4099 + width)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


sizes = st.one_of(st.integers(1, 40), st.integers(1, 300))


@given(height=sizes, width=sizes, tile_size=st.sampled_from([28, 32, 50]), most=st.integers(1, 6))
@settings(max_examples=120, deadline=None)
@example(height=1, width=3000, tile_size=28, most=4)
@example(height=3000, width=1, tile_size=28, most=4)
@example(height=1, width=1, tile_size=28, most=4)
@example(height=3, width=500, tile_size=28, most=4)
@example(height=64, width=64, tile_size=32, most=4)
@example(height=369, width=369, tile_size=50, most=1)  # 50 x 49: rounding of the release
def test_tiles_equal_the_oracle(height: int, width: int, tile_size: int, most: int) -> None:
    oracle = MllamaImageProcessor(
        size={"height": tile_size, "width": tile_size},
        max_image_tiles=most,
        image_mean=list(CLIP_MEAN),
        image_std=list(CLIP_STD),
    )
    picture = noise(height, width)
    expected = oracle([[picture]], return_tensors="pt")
    tiles = tile_picture(picture, TilesConfig(tile_size=tile_size, max_num_tiles=most))
    count = expected["num_tiles"][0][0]
    assert tiles.pixels.shape == (count, 3, tile_size, tile_size)
    assert tiles.pixels.dtype == torch.float32
    assert arrangement_id(tiles.arrangement, max_num_tiles=most) == expected["aspect_ratio_ids"]
    torch.testing.assert_close(
        tiles.pixels, expected["pixel_values"][0, 0, :count], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("tile_size", [448, 560])
def test_release_sizes_equal_the_oracle(tile_size: int) -> None:
    oracle = MllamaImageProcessor(
        size={"height": tile_size, "width": tile_size},
        image_mean=list(CLIP_MEAN),
        image_std=list(CLIP_STD),
    )
    for height, width in [(480, 640), (1200, 300), (1, 30000)]:
        picture = noise(height, width)
        expected = oracle([[picture]], return_tensors="pt")
        pixels = tile_picture(picture, TilesConfig(tile_size=tile_size)).pixels
        torch.testing.assert_close(
            pixels, expected["pixel_values"][0, 0, : len(pixels)], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("most", range(1, 9))
def test_arrangements_are_those_of_the_release(most: int) -> None:
    assert arrangements(most) == get_all_supported_aspect_ratios(most)


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), most=st.integers(1, 12))
@settings(max_examples=1000, deadline=None)
def test_a_picture_fits_on_its_canvas(height: int, width: int, most: int) -> None:
    rows, columns = best_arrangement(height, width, tile_size=100, max_num_tiles=most)
    fitted = fitted_size(height, width, tile_size=100, arrangement=(rows, columns))
    assert rows * columns <= most
    assert 1 <= fitted[0] <= 100 * rows and 1 <= fitted[1] <= 100 * columns
    original = (height, width)
    wanted = [original[1 - side] * fitted[side] / original[side] for side in (0, 1)]
    # one side sets the scale; the other follows from it, cut off (perhaps by rounding) to 1 or more
    assert any(-1 - 1e-6 <= fitted[1 - side] - max(wanted[side], 1) <= 1e-6 for side in (0, 1))


def test_only_rgb_is_taken() -> None:
    with pytest.raises(ValueError, match="RGB"):
        tile_picture(Image.new("L", (4, 4)), TilesConfig(tile_size=8))
