"""Pictures of prosody show both courses, and break where there is no pitch."""

import math

import numpy as np
import pytest
from PIL import Image

from language.errors import InputError
from speech.prosody.corpus import MeasuredText, words_in
from speech.prosody.phones import FileLexicon
from speech.prosody.plots import SAID, TRUE, draw


@pytest.fixture
def text():
    words = words_in("red car")
    phones = FileLexicon(["red ɹ ˈɛ d", "car k ˈɑː ɹ"]).phones(words)
    rows = [(-2.0 - 0.1 * n, 4.7 + 0.05 * n if n != 3 else math.nan, -6.0 - n) for n in range(6)]
    return MeasuredText("made", "red car", words, tuple(phones), tuple(rows))


def number_of(image, colour):
    return int((np.asarray(image) == colour).all(axis=-1).sum())


def test_both_courses_are_drawn(text, tmp_path):
    said = text.targets().double().numpy() + np.array([0.2, 0.1, 1.0])
    draw(text, said, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert number_of(image, TRUE) > 500 and number_of(image, SAID) > 500
        before = number_of(image, SAID)
    said[2:, 1] = np.nan
    draw(text, said, tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        assert number_of(image, SAID) < before


def test_what_cannot_be_drawn_is_refused(text, tmp_path):
    said = text.targets().double().numpy()
    with pytest.raises(ValueError, match="want what is said"):
        draw(text, said[:2], tmp_path / "a.png")
    with pytest.raises(InputError, match="cannot be written"):
        draw(text, said, tmp_path / "none" / "a.png")
