"""Small clips as lists of pictures, for tests of the filters."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = (192, 144)


def texture(seed: int, size: tuple[int, int] = SIZE, *, scale: int = 12) -> Image.Image:
    """A landscape of soft spots."""
    rng = np.random.default_rng(seed)
    width, height = size
    coarse = rng.integers(40, 216, (height // scale + 2, width // scale + 2, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def still(number: int = 6, *, seed: int = 0, size: tuple[int, int] = SIZE) -> list[Image.Image]:
    """The same picture again and again."""
    return [texture(seed, size)] * number


def panning(number: int = 6, *, step: float = 0.03, size: tuple[int, int] = SIZE):
    """A camera that goes over a large landscape, by a share of the width a frame."""
    wide = texture(1, (3 * size[0], size[1]), scale=size[0] // 12)
    pixels = round(step * size[0])
    return [wide.crop((i * pixels, 0, i * pixels + size[0], size[1])) for i in range(number)]


def passing(number: int = 6, *, step: int = 8) -> list[Image.Image]:
    """A patterned thing that crosses a still landscape."""
    ground, thing = texture(2), texture(3, (48, 48), scale=6)
    frames = []
    for index in range(number):
        frame = ground.copy()
        frame.paste(thing, (20 + index * step, 48))
        frames.append(frame)
    return frames


def noisy(frames: list[Image.Image], *, deviation: float, seed: int = 0) -> list[Image.Image]:
    """The frames with noise of their own, as compression and sensors make."""
    rng = np.random.default_rng(seed)
    out = []
    for frame in frames:
        pixels = np.asarray(frame, np.float32) + rng.normal(0, deviation, (*frame.size[::-1], 3))
        out.append(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)))
    return out


def brightened(frames: list[Image.Image], amounts: list[int]) -> list[Image.Image]:
    """The frames, brighter or darker each by its amount."""
    shifted = []
    for frame, amount in zip(frames, amounts, strict=True):
        pixels = np.asarray(frame, np.int16) + amount
        shifted.append(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)))
    return shifted


def written(frames: list[Image.Image], text: str, *, points: int, at=(10, 110)):
    """The frames with a text over each."""
    out = []
    for frame in frames:
        frame = frame.copy()
        pen = ImageDraw.Draw(frame)
        pen.text(at, text, font=ImageFont.load_default(points), fill="white", stroke_width=1,
                 stroke_fill="black")  # fmt: skip
        out.append(frame)
    return out
