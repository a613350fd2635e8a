"""A picture from wherever it comes: file, bytes, PIL image or array, always as upright RGB.

What arrives is untrusted. Only named formats are decoded, sizes are bounded by the header before
memory is taken, and whatever is wrong becomes one `InputError` that names the file and the fault.
Nothing is guessed: EXIF rotation is applied, transparency lies on white, 16 bit is scaled to 8.
"""

import io
import os
import stat
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from language.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""Pillow's decoders that untrusted bytes may reach."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")
"""Names that count as pictures when a folder is searched."""

MAX_BYTES = 2**29
"""Largest file that is read."""

MAX_PIXELS = 2**27
"""Largest picture that is decoded: 0.5 GB in memory."""

MAX_ASPECT_RATIO = 2_000
"""Beyond it less than a pixel of the shorter side would be left on any canvas of tiles."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""

Picture = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
"""Everything that `open_picture` accepts."""


def open_picture(source: Picture, *, name: str | None = None) -> Image.Image:
    """Return the picture as upright 8-bit RGB.

    Args:
        source: a path; the bytes of a file; a PIL image; or an array `[height, width]` or
            `[height, width, 1 | 3 | 4]` of uint8, uint16 or float in 0..1.
        name: what an error calls the picture; the path by default.

    Raises:
        InputError: if it cannot be read, is no JPEG, PNG, WebP or GIF, or is out of bounds.
    """
    if isinstance(source, np.ndarray):
        return _flatten(_from_array(source, name=name or "array"))
    if isinstance(source, Image.Image):
        return _decode(source, name=name or "picture")
    if isinstance(source, bytes | bytearray | memoryview):
        return _open(io.BytesIO(source), name=name or "picture", num_bytes=len(source))
    if isinstance(source, str | os.PathLike):
        return _open_file(source, name=name or os.fspath(source))
    raise InputError(name or "picture", f"{type(source).__name__} is not a picture")


def find_pictures(
    path: str | os.PathLike[str], *, suffixes: tuple[str, ...] = SUFFIXES
) -> list[Path]:
    """List the picture files under a folder, by name; a path that is no folder is itself the list.

    Args:
        path: a folder or a file.
        suffixes: endings of the names that count.

    Raises:
        InputError: if the folder holds none.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return [path]
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    except OSError as error:
        raise InputError(path, f"cannot be read ({_reason(error)})") from None
    if not found:
        raise InputError(path, f"a folder without pictures ({', '.join(suffixes)})")
    return found


def _open_file(path: str | os.PathLike[str], *, name: str) -> Image.Image:
    try:
        status = os.stat(path)
        file = open(path, "rb") if stat.S_ISREG(status.st_mode) else None
    except FileNotFoundError:
        raise InputError(name, "no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(name, f"cannot be read ({_reason(error)})") from None
    if file is None:
        is_folder = stat.S_ISDIR(status.st_mode)
        raise InputError(name, "a folder, not a picture" if is_folder else "not a regular file")
    with file:
        return _open(file, name=name, num_bytes=status.st_size)


def _open(file: IO[bytes], *, name: str, num_bytes: int) -> Image.Image:
    if num_bytes == 0:
        raise InputError(name, "empty file")
    if num_bytes > MAX_BYTES:
        raise InputError(name, f"{num_bytes:,} bytes, more than the {MAX_BYTES:,} allowed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise InputError(name, "not a JPEG, PNG, WebP or GIF picture") from None
    except Image.DecompressionBombError:
        raise InputError(name, f"more than the {MAX_PIXELS:,} pixels allowed") from None
    except Exception as error:  # Pillow's parsers raise nearly anything on hostile bytes
        raise InputError(name, f"broken or truncated picture ({_reason(error)})") from None
    with image:
        return _decode(image, name=name)


def _decode(image: Image.Image, *, name: str) -> Image.Image:
    _check_size(image.size, name=name)
    try:
        image.load()
    except Exception as error:  # as above
        raise InputError(name, f"broken or truncated picture ({_reason(error)})") from None
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a broken note beside a sound picture: shown as it lies
        orientation = None
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if image.mode == "I" and ((values >= 0) & (values <= 65_535)).all():
            values = values.astype(np.uint16)  # Pillow holds 16 bits in 32 in some formats
        upright = _flatten(_from_array(values, name=name))
    else:
        upright = _flatten(image)
    if orientation in UPRIGHT:
        upright = upright.transpose(UPRIGHT[orientation])
    return upright


def _flatten(image: Image.Image) -> Image.Image:
    """Convert to RGB, transparent parts shown on white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def _from_array(array: np.ndarray, *, name: str) -> Image.Image:
    """Turn an array of any accepted depth into an 8-bit picture of as many channels."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]  # [height, width]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise InputError(
            name, f"shape {list(array.shape)}, want [height, width] or [height, width, 3 | 4]"
        )
    _check_size((array.shape[1], array.shape[0]), name=name)
    if array.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(array))
    if np.issubdtype(array.dtype, np.floating):
        scale, low, high = 255.0, 0.0, 1.0
    elif array.dtype == np.uint16:
        scale, low, high = 1 / 257, 0.0, 65_535.0
    else:
        raise InputError(name, f"values of type {array.dtype}, want uint8, uint16 or float")
    if not ((array >= low) & (array <= high)).all():  # not a number is neither
        raise InputError(name, f"{array.dtype} values outside {low:g}..{high:g}")
    return Image.fromarray(np.round(array * np.float32(scale)).astype(np.uint8))


def _check_size(size: tuple[int, int], *, name: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InputError(name, f"{width} x {height} pixels, an empty picture")
    if width * height > MAX_PIXELS:
        raise InputError(name, f"{width} x {height} pixels, more than the {MAX_PIXELS:,} allowed")
    if max(size) > MAX_ASPECT_RATIO * min(size):
        raise InputError(
            name,
            f"{width} x {height} pixels, too thin: one side may be at most "
            f"{MAX_ASPECT_RATIO:,} times the other",
        )


def _reason(error: Exception) -> str:
    """Return an exception's words, without the file name that OSError repeats, on one line."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(words.split()) or type(error).__name__
