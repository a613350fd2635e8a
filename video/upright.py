"""A decoded frame as it is meant to be seen: upright, square pixels, 8-bit RGB, on white.

The file says how: a display matrix (turned or mirrored), the shape of a pixel, the colour matrix
and range. Where it does not say, FFmpeg's defaults hold: no turn, square pixels, BT.601, limited
range. High dynamic range is scaled to 8 bits as it is, without tone mapping, and interlaced frames
stay as they are stored.
"""

from fractions import Fraction
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from language.errors import InputError
from vision.pictures import MAX_ASPECT_RATIO

MAX_PIXELS = 8_192 * 4_352
"""Largest frame that is decoded, 8K: a decoder may hold 16 of them, 0.9 GB in all."""

TURNS = {
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
"""What a display matrix (a, b, c, d) does: a stored point (p, q) is shown at (ap + cq, bp + dq)."""

SCALING = Interpolation.BILINEAR
"""Unless a frame is stretched FFmpeg converts it directly, ten times as fast as with rounding."""


class UprightFrames:
    """Converts the frames of one clip; the scaler is set up once."""

    def __init__(self, *, pixel_shape: Fraction | None, name: str) -> None:
        """Take a pixel's width through its height, or None where it is square."""
        self._pixel_shape = pixel_shape if pixel_shape and pixel_shape > 0 else Fraction(1)
        self._name = name
        self._scaler = VideoReformatter()
        self._matrix: tuple[int, int, int, int] | None = None  # of the first frame: all are turned

    def __call__(self, frame: VideoFrame) -> Image.Image:
        """Return the picture.

        Raises:
            InputError: it is too large or too thin.
        """
        width, height = square_pixels(frame.width, frame.height, self._pixel_shape)
        check_size(width, height, name=self._name)
        has_alpha = any(component.is_alpha for component in frame.format.components)
        has_alpha = has_alpha or frame.format.name == "pal8"
        rgb = self._scaler.reformat(
            frame,
            width=width,
            height=height,
            format="rgba" if has_alpha else "rgb24",
            interpolation=SCALING,
            threads=1,
        )
        plane, mode = rgb.planes[0], "RGBA" if has_alpha else "RGB"
        picture = Image.new(mode, (width, height), None)  # not filled, as frombytes would do
        picture.frombytes(memoryview(plane), "raw", mode, plane.line_size, 1)
        if has_alpha:
            ground = Image.new("RGBA", picture.size, "white")
            ground.alpha_composite(picture)
            picture = ground.convert("RGB")
        if self._matrix is None:
            self._matrix = display_matrix(frame)
        turn = TURNS.get(self._matrix)
        return picture if turn is None else picture.transpose(turn)


def square_pixels(width: int, height: int, pixel_shape: Fraction) -> tuple[int, int]:
    """Width and height once one side has been stretched so that pixels are square."""
    if pixel_shape > 1:
        return round(width * pixel_shape), height
    return width, round(height / pixel_shape)


def check_size(width: int, height: int, *, name: str) -> None:
    """Raise InputError for a frame that is too large or too thin."""
    if width < 1 or height < 1:
        raise InputError(name, f"frames of {width} x {height} pixels, nothing to see")
    if width * height > MAX_PIXELS:
        raise InputError(
            name, f"frames of {width} x {height} pixels, more than the {MAX_PIXELS:,} allowed"
        )
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise InputError(name, f"frames of {width} x {height} pixels, too thin")


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Signs of (a, b, c, d) where the matrix turns by right angles; otherwise no turn."""
    upright = (1, 0, 0, 1)
    # PyAV's side data and its frame keep each other in memory: so the side data of a tiny copy.
    tiny = VideoReformatter().reformat(frame, width=16, height=16, format="gray", threads=1)
    try:
        side_data: Any = tiny.side_data
        values = np.frombuffer(side_data[Type.DISPLAYMATRIX], np.int32, count=9)
    except (KeyError, ValueError):
        return upright
    a, b, c, d = (int(values[place]) for place in (0, 1, 3, 4))
    largest = max(abs(a), abs(b), abs(c), abs(d))
    if not largest:
        return upright
    signs = [0 if 2 * abs(x) < largest else (1 if x > 0 else -1) for x in (a, b, c, d)]
    matrix = (signs[0], signs[1], signs[2], signs[3])
    return matrix if matrix in TURNS else upright
