"""What is measured of sound that was made to be measured."""

import sys

import numpy as np
import pytest

from language.errors import InputError
from speech.prosody.measures import f0, measure

pytest.importorskip("parselmouth")
RATE = 22_050


def voice(frequencies, seconds, amplitude=0.2):
    """Harmonics of a course of F0."""
    number = round(seconds * RATE)
    course = np.interp(np.linspace(0, 1, number), np.linspace(0, 1, len(frequencies)), frequencies)
    phase = 2 * np.pi * np.cumsum(course) / RATE
    sound = sum(np.sin(k * phase) / k for k in range(1, 8))
    return (amplitude * sound / np.sqrt(np.mean(sound**2))).astype(np.float32)


@pytest.mark.parametrize("frequency", [80.0, 120.0, 210.0, 390.0])
def test_f0_of_a_steady_voice(frequency):
    (found,) = measure(voice([frequency], 0.5), RATE, [(0.1, 0.4)])
    assert np.exp(found[1]) == pytest.approx(frequency, rel=0.005)


def test_f0_of_a_glide_is_the_mean_of_logarithms():
    sound = voice([100.0, 200.0], 1.0)
    found = measure(sound, RATE, [(0.1, 0.4), (0.6, 0.9)])
    wanted = [np.log(100 + 100 * np.linspace(start, start + 0.3)).mean() for start in (0.1, 0.6)]
    assert found[:, 1] == pytest.approx(wanted, abs=0.01)


def test_power_is_the_mean_of_squares():
    sound = np.concatenate([voice([120.0], 0.3, amplitude) for amplitude in (0.1, 0.4)])
    found = measure(sound, RATE, [(0.0, 0.3), (0.3, 0.6)])
    assert np.exp(found[:, 2]) == pytest.approx([0.01, 0.16], rel=0.01)


def test_noise_and_silence_have_no_f0_and_durations_are_kept():
    noise = np.random.default_rng(0).normal(0, 0.1, round(0.3 * RATE)).astype(np.float32)
    sound = np.concatenate([noise, np.zeros_like(noise), voice([150.0], 0.3)])
    found = measure(sound, RATE, [(0.0, 0.28), (0.3, 0.55), (0.62, 0.9)])
    assert np.isnan(found[:2, 1]).all() and np.isfinite(found[2, 1])
    assert np.exp(found[:, 0]) == pytest.approx([0.28, 0.25, 0.28], rel=1e-4)
    assert np.isfinite(found[:, [0, 2]]).all()


def test_a_stop_between_vowels_has_not_their_pitch():
    gap = np.zeros(round(0.08 * RATE), np.float32)
    sound = np.concatenate([voice([150.0], 0.2), gap, voice([150.0], 0.2)])
    found = measure(sound, RATE, [(0.0, 0.2), (0.2, 0.28), (0.28, 0.48)])
    assert np.isnan(found[:, 1]).tolist() == [False, True, False]


def test_too_short_a_sound_has_no_frames():
    times, frequencies = f0(np.zeros(50, np.float32), RATE)
    assert len(times) == len(frequencies) == 0
    assert np.isnan(measure(np.zeros(50, np.float32), RATE, [(0.0, 0.002)])[0, 1])


def test_a_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "parselmouth", None)
    with pytest.raises(InputError, match="openherd\\[speak\\]"):
        f0(np.zeros(RATE, np.float32), RATE)
