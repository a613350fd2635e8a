"""Pictures of prosody: what is said of phones beside what was measured (paper section 8.2)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from language.errors import InputError
from speech.prosody.corpus import MeasuredText

SAID, TRUE = (214, 86, 32), (60, 90, 160)
_INK, _GRID = (40, 40, 40), (225, 225, 225)
_PANELS = ("duration, ms", "F0, Hz", "power, dB")
_LEFT, _TOP, _HEIGHT, _GAP, _SLOT = 130, 40, 130, 26, 30
"""Pixels: of the margins, of a panel, between panels, and of a phone's place."""


def draw(text: MeasuredText, said: NDArray[np.float64], file: Path) -> None:
    """Write a PNG with a panel for durations, F0 and power, the phones and words below.

    Args:
        text: with what was measured.
        said: what a model says of it, [phones, 3], as the measures are; NaN where there is no F0.
        file: of the picture.

    Raises:
        ValueError: there is not a row for each phone.
        InputError: the file cannot be written.
    """
    true = text.targets().double().numpy()
    if said.shape != true.shape:
        raise ValueError(f"want what is said as {[*true.shape]}, not {[*said.shape]}")
    width = _LEFT + _SLOT * len(text.phones) + 20
    height = _TOP + 3 * (_HEIGHT + _GAP) + 50
    image = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(image), _font()
    pen.text((_LEFT, 10), "measured", fill=TRUE, font=font)
    pen.text((_LEFT + 90, 10), "said by the model", fill=SAID, font=font)
    for panel, name in enumerate(_PANELS):
        top = _TOP + panel * (_HEIGHT + _GAP)
        pen.text((8, top), name, fill=_INK, font=font)
        rows = [_in_units(values[:, panel], panel) for values in (true, said)]
        _draw_panel(pen, rows, top=top, font=font, as_bars=panel == 0)
    _draw_words(pen, text, top=_TOP + 3 * (_HEIGHT + _GAP) - 10, font=font)
    try:
        image.save(file, format="PNG")
    except OSError as error:
        raise InputError(file, f"cannot be written ({error})") from None


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """One that has IPA, if the system has it; else boxes stand for what Pillow's own lacks."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", 13)
    except OSError:
        return ImageFont.load_default(13)


def _in_units(values: NDArray[np.float64], panel: int) -> NDArray[np.float64]:
    """Of natural logarithms, milliseconds, Hz, or decibels of full scale."""
    return (1000 * np.exp(values), np.exp(values), values * 10 / np.log(10))[panel]


def _draw_panel(
    pen: ImageDraw.ImageDraw,
    rows: list[NDArray[np.float64]],
    *,
    top: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    as_bars: bool,
) -> None:
    """What was measured, and what is said: bars, or lines that break where there is nothing."""
    both = np.concatenate(rows)
    low = 0.0 if as_bars else float(np.nanmin(both))
    high = float(np.nanmax(both))
    scale = (_HEIGHT - 10) / max(high - low, 1e-9)
    right = _LEFT + _SLOT * len(rows[0])
    for value in (low, high):
        y = top + _HEIGHT - (value - low) * scale
        pen.line([(_LEFT, y), (right, y)], fill=_GRID)
        pen.text((_LEFT - 40, y - 8), f"{value:.0f}", fill=_INK, font=font)
    for number, (values, colour) in enumerate(zip(rows, (TRUE, SAID), strict=True)):
        points = [
            (_LEFT + _SLOT * (index + 0.5), top + _HEIGHT - (value - low) * scale)
            for index, value in enumerate(values)
        ]
        for index, (x, y) in enumerate(points):
            if not np.isfinite(y):
                continue
            if as_bars:
                left = x - 11 + 11 * number
                pen.rectangle([left, y, left + 10, top + _HEIGHT], fill=colour)
                continue
            pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)
            if index and np.isfinite(points[index - 1][1]):
                pen.line([points[index - 1], (x, y)], fill=colour, width=2)


def _draw_words(
    pen: ImageDraw.ImageDraw,
    text: MeasuredText,
    *,
    top: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    for index, phone in enumerate(text.phones):
        x = _LEFT + _SLOT * index
        pen.text((x + 6, top), phone.symbol, fill=_INK, font=font)
        if index == 0 or text.phones[index - 1].word != phone.word:
            pen.line([(x, _TOP), (x, top + 40)], fill=_GRID)
            pen.text((x + 4, top + 20), text.words[phone.word].text, fill=_INK, font=font)
