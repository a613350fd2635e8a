"""Every kind of picture arrives upright, as 8-bit RGB; whatever is none is refused in one line."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from language.errors import InputError
from vision import pictures
from vision.pictures import find_pictures, open_picture


def quadrants(size: int = 32) -> Image.Image:
    """A picture whose four quarters differ: red, green / blue, white."""
    half = size // 2
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[:half, :half] = (255, 0, 0)
    pixels[:half, half:] = (0, 255, 0)
    pixels[half:, :half] = (0, 0, 255)
    pixels[half:, half:] = (255, 255, 255)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def close(image: Image.Image, wanted: Image.Image, *, tolerance: float) -> bool:
    difference = np.asarray(image, np.float32) - np.asarray(wanted, np.float32)
    return bool(np.abs(difference).mean() <= tolerance)


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {"quality": 95, "subsampling": 0}),
        ("JPEG", "CMYK", {"quality": 95, "subsampling": 0}),
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("GIF", "RGB", {}),
    ],
)
def test_formats_give_the_same_picture(kind, mode, options):
    data = encoded(quadrants().convert(mode), kind, **options)
    image = open_picture(data)
    assert image.mode == "RGB"
    assert close(image, quadrants(), tolerance=4 if kind == "JPEG" else 0)


def test_greyscale_jpeg_is_grey_in_three_channels():
    image = open_picture(encoded(Image.new("L", (8, 8), 77), "JPEG", quality=95))
    assert image.mode == "RGB" and image.getpixel((3, 3)) == (77, 77, 77)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(orientation):
    # What a camera stores: the upright picture, turned the other way, with a note how to turn it.
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = quadrants().resize((48, 32))
    stored = upright.transpose(inverse[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = open_picture(encoded(stored, "PNG", exif=exif))
    assert image.size == (48, 32)
    assert close(image, upright, tolerance=0)


def test_transparent_parts_lie_on_white():
    see_through = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    see_through.putpixel((1, 0), (0, 0, 0, 0))
    image = open_picture(encoded(see_through, "PNG"))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (255, 255, 255)]
    half = open_picture(encoded(Image.new("LA", (1, 1), (0, 128)), "PNG"))
    assert abs(half.getpixel((0, 0))[0] - 127) <= 1


def test_transparent_palette_entry_lies_on_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        image = open_picture(encoded(palette, kind, transparency=0))
        assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 0, 0)]


def sixteen_bit_png(samples: np.ndarray) -> bytes:
    """A PNG by the specification: colour type 0 (grey) or 2 (RGB), 16 bits, no filter."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, 2 if samples.ndim == 3 else 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("channels", [(), (3,)])
def test_sixteen_bit_png_is_scaled_not_clipped(channels):
    samples = np.random.default_rng(0).integers(0, 65_536, (9, 7, *channels), np.uint16)
    pixels = np.asarray(open_picture(sixteen_bit_png(samples)), np.float64)
    wanted = samples.astype(np.float64) / 257
    if not channels:
        pixels = pixels[..., 0]
    assert np.abs(pixels - wanted).max() <= 1.0


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert open_picture(data).getpixel((2, 2)) == (255, 0, 0)


def test_path_bytes_image_and_array_agree(tmp_path: Path):
    path = tmp_path / "a picture.png"
    quadrants().save(path)
    array = np.asarray(quadrants())
    for source in (path, str(path), path.read_bytes(), quadrants(), array, array / np.float32(255)):
        assert close(open_picture(source), quadrants(), tolerance=0)
    assert close(open_picture(array.astype(np.uint16) * 257), quadrants(), tolerance=0)
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for source in (grey, grey[:, :, None]):
        assert np.array_equal(np.asarray(open_picture(source))[..., 1], grey)


def test_a_given_image_is_left_as_it_is():
    given_image = Image.new("RGBA", (3, 3), (1, 2, 3, 4))
    open_picture(given_image)
    assert given_image.mode == "RGBA" and given_image.getpixel((0, 0)) == (1, 2, 3, 4)


def test_very_thin_and_very_large():
    assert open_picture(Image.new("L", (1, 2_000))).size == (1, 2_000)
    assert open_picture(encoded(Image.new("L", (11_000, 9_000)), "PNG")).size == (11_000, 9_000)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (b"", "empty"),
        (b"just words", "not a JPEG, PNG, WebP or GIF"),
        (encoded(quadrants(), "BMP"), "not a JPEG, PNG, WebP or GIF"),
        (encoded(quadrants(), "PPM"), "not a JPEG, PNG, WebP or GIF"),
        (encoded(Image.new("1", (1, 30_000)), "PNG"), "too thin"),
        (np.zeros((4, 4, 2), np.uint8), "shape [4, 4, 2]"),
        (np.zeros((0, 4), np.uint8), "empty picture"),
        (np.full((4, 4), np.nan), "outside 0..1"),
        (np.full((4, 4), 200), "int64, want uint8, uint16 or float"),
        (np.zeros((4, 4), np.complex64), "complex64"),
        (7, "int is not a picture"),
    ],
)
def test_refusals(source, fault):
    with pytest.raises(InputError) as caught:
        open_picture(source, name="x.png")
    assert str(caught.value).startswith("x.png: ") and fault in str(caught.value)


def test_refusals_of_paths(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    for path, fault in [
        (tmp_path / "none.png", "no such file"),
        (tmp_path, "a folder"),
        (tmp_path / "pipe.png", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("a\0b.png", "cannot be read"),
    ]:
        with pytest.raises(InputError, match=fault):
            open_picture(path)


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    """The header alone decides: the body here would not even decode."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    body = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(InputError, match="more than the .* pixels"):
        open_picture(data)
    monkeypatch.setattr(pictures, "MAX_BYTES", 10)
    with pytest.raises(InputError, match="bytes, more than"):
        open_picture(encoded(quadrants(), "PNG"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_truncated_at_any_place(kind):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    for length in range(1, len(data) // 2, 37):
        with pytest.raises(InputError):
            open_picture(data[:length])


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_bytes_give_a_picture_or_one_line(kind, edits):
    data = bytearray(encoded(quadrants(), kind))
    for place, value in edits:
        data[place % len(data)] = value
    try:
        assert open_picture(bytes(data)).mode == "RGB"
    except InputError as error:
        assert "\n" not in str(error)


def test_folders_are_searched_by_name(tmp_path: Path):
    (tmp_path / "b").mkdir()
    for name in ("c.JPG", "a.webp", "b/d.png", "notes.txt"):
        (tmp_path / name).touch()
    names = [str(p.relative_to(tmp_path)) for p in find_pictures(tmp_path)]
    assert names == ["a.webp", "b/d.png", "c.JPG"]
    assert find_pictures(tmp_path / "gone.png") == [tmp_path / "gone.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="without pictures"):
        find_pictures(tmp_path / "empty")
