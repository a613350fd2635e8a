"""Scenes as pictures: shapes drawn by Pillow, everyday things from the Noto emoji set.

The emoji (Apache-2.0, Google) are not shipped. `icons.json` of the npm package
`@iconify-json/noto` is looked for in `$OPENHERD_EMOJI` or the user's cache, and fetched by `npm`
once; resvg draws it. Worlds of shapes alone need neither.
"""

import cmath
import io
import json
import math
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

from PIL import Image, ImageDraw

from language.errors import InputError
from multimodal.world.scenes import COLOURS, SHAPES, THINGS, Item, Scene

EMOJI_PACKAGE = "@iconify-json/noto@1.2.9"
_SPRITE = 256
_OVERSAMPLING = 2
NUM_STRANGERS = 400
_LOOKALIKES = """
    ball baseball basketball beverage blossom blowfish boat bouquet circle fish flower hibiscus
    home house houses kitten poodle rose ship stars sunflower tea tree volleyball
""".split()
_VARIANTS = """
    beard button clock couple facing family flag hair kiss man men people person skin tone1 tone2
    tone3 tone4 tone5 woman women
""".split()
_UNWANTED = {*THINGS, *SHAPES, *_LOOKALIKES, *_VARIANTS}
"""Words of the names of icons that are no strangers, or hardly differ from another."""
_CORNERS = {
    "star": [cmath.rect((0.98, 0.4)[i % 2], math.pi * (i / 5 - 0.5)) for i in range(10)],
}
"""Corners around the middle, of a shape that reaches from -1 to 1; down is positive."""


def draw(scene: Scene, *, edge: int) -> Image.Image:
    """Draw a scene as a square RGB picture of ``edge`` pixels."""
    return draw_items(ground(scene.ground, edge), scene.items)


def draw_items(picture: Image.Image, items: Iterable[Item]) -> Image.Image:
    """Draw things onto a square picture, which is returned."""
    edge = picture.width
    for item in items:
        drawn = sprite(item, round(item.edge * edge))
        left = round(item.x * edge - drawn.width / 2)
        top = round(item.y * edge - drawn.height / 2)
        picture.paste(drawn, (left, top), drawn)
    return picture


def ground(seed: int, edge: int) -> Image.Image:
    """A pale ground whose four corners differ a little."""
    rng = random.Random(seed)
    base = [rng.randint(196, 240) for _ in range(3)]
    corners = Image.new("RGB", (2, 2))
    for x in range(2):
        for y in range(2):
            corners.putpixel((x, y), tuple(value + rng.randint(-14, 14) for value in base))
    return corners.resize((edge, edge), Image.Resampling.BICUBIC)


def sprite(item: Item, edge: int) -> Image.Image:
    """The item as it stands in the picture, RGBA, turned; not to be drawn on."""
    return _turned(item.kind, item.colour, item.angle, edge)


@lru_cache(maxsize=256)
def _turned(kind: str, colour: str | None, angle: float, edge: int) -> Image.Image:
    if colour is None:
        size = edge * _OVERSAMPLING
        image = emoji(kind).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=1.0)
        return image.rotate(angle, Image.Resampling.BILINEAR).reduce(_OVERSAMPLING)
    return _shape(kind, COLOURS[colour], angle, edge)


def _shape(kind: str, colour: tuple[int, int, int], angle: float, edge: int) -> Image.Image:
    rim = tuple(int(0.72 * value) for value in colour)
    size = edge * _OVERSAMPLING
    canvas = Image.new("RGBA", (size, size), (*rim, 0))
    pen = ImageDraw.Draw(canvas)
    middle, width = size / 2, max(1, round(size * 0.04))
    if kind == "circle":
        box = [middle * (1 + end) for end in (-0.92, -0.92, 0.92, 0.92)]
        pen.ellipse(box, fill=(*colour, 255), outline=(*rim, 255), width=width)
    else:
        turn = cmath.rect(1, math.radians(-angle))
        turned = [turn * corner for corner in _CORNERS[kind]]
        corners = [(middle * (1 + corner.real), middle * (1 + corner.imag)) for corner in turned]
        pen.polygon(corners, fill=(*colour, 255), outline=(*rim, 255), width=width)
    return canvas.reduce(_OVERSAMPLING)


@cache
def emoji(kind: str) -> Image.Image:
    """The icon of a thing or stranger, RGBA, cropped to what is drawn and made square."""
    import resvg_py

    icons = _icons()
    body = icons["icons"][THINGS.get(kind, kind)]["body"]
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    svg = f'<svg {names} viewBox="0 0 128 128">{body}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=svg, width=_SPRITE, height=_SPRITE)
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    image = image.crop(image.getbbox())
    square = Image.new("RGBA", (max(image.size),) * 2)
    square.paste(image, ((square.width - image.width) // 2, (square.height - image.height) // 2))
    return square


@lru_cache
def strangers() -> tuple[str, ...]:
    """Icons of things that the world has no word for, and that are unlike those that it names."""
    icons = sorted(_icons()["icons"])
    unlike = [icon for icon in icons if not _UNWANTED.intersection(icon.split("-"))]
    return tuple(unlike[:: max(1, len(unlike) // NUM_STRANGERS)][:NUM_STRANGERS])


@lru_cache
def _icons() -> dict:
    return json.loads(_icons_file().read_text())


def _icons_file() -> Path:
    """Where the emoji set lies, fetched on first use.

    Raises:
        InputError: it is not there and there is no `npm` or no network to fetch it by.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = Path(os.environ.get("OPENHERD_EMOJI", cache / "openherd" / "noto"))
    file = folder / "icons.json"
    if file.exists():
        return file
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(file, f"no such file, and no npm to fetch {EMOJI_PACKAGE} by")
    with tempfile.TemporaryDirectory() as scratch:
        fetched = subprocess.run(
            [npm, "pack", EMOJI_PACKAGE], cwd=scratch, capture_output=True, text=True
        )
        archives = list(Path(scratch).glob("*.tgz"))
        if fetched.returncode or len(archives) != 1:
            raise InputError(file, f"no such file, and `npm pack {EMOJI_PACKAGE}` failed")
        with tarfile.open(archives[0]) as archive:
            member = archive.extractfile("package/icons.json")
            assert member is not None, "the package holds its icons"
            folder.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".partial-{os.getpid()}")  # others may fetch it, too
            partial.write_bytes(member.read())
            partial.replace(file)
    return file
