"""Rooms, noise and sounds that are no speech, for the recordings of the world.

Waveforms are mono float32 at 16 kHz; all that is random comes from the generator that is given.
"""

import math
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from speech import audio
from speech.audio import SAMPLE_RATE

Waveform = NDArray[np.float32]
Colour = Literal["white", "pink", "brown"]
COLOURS: tuple[Colour, ...] = get_args(Colour)

_SLOPES: dict[Colour, float] = {"white": 0.0, "pink": 0.5, "brown": 1.0}
"""Amplitude falls with frequency to this power: 0, 3 and 6 dB an octave."""
_LOWEST_HZ = 20.0
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))
"""Semitones of major, minor and pentatonic."""


def resample(waveform: Waveform, *, rate: int) -> Waveform:
    """Bring a waveform of ``rate`` Hz to 16 kHz, as recordings are when a model hears them."""
    return audio.resample(torch.from_numpy(waveform), rate).numpy()


def level_db(waveform: Waveform) -> float:
    """Root mean square in dB of full scale; ``-inf`` for digital silence."""
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0
    return 10 * math.log10(power) if power else -math.inf


def normalise_level(waveform: Waveform, *, level: float, peak: float = 0.99) -> Waveform:
    """Scale to a level.

    Args:
        waveform: samples; digital silence stays as it is.
        level: root mean square in dB of full scale.
        peak: no sample gets larger than this: the level is missed rather than the sound clipped.
    """
    current = level_db(waveform)
    if math.isinf(current):
        return waveform
    gain = min(10 ** ((level - current) / 20), peak / float(np.abs(waveform).max()))
    return waveform * np.float32(gain)


def noise(seconds: float, *, rng: np.random.Generator, colour: Colour = "white") -> Waveform:
    """Stationary Gaussian noise of unit power."""
    return _noise(_num_samples(seconds), rng, colour)


def add_noise(
    waveform: Waveform, *, snr_db: float, rng: np.random.Generator, colour: Colour = "white"
) -> Waveform:
    """Add noise whose power over the whole waveform is ``snr_db`` below the waveform's own."""
    current = level_db(waveform)
    if math.isinf(current):
        return waveform
    hiss = _noise(len(waveform), rng, colour)
    return waveform + hiss * np.float32(10 ** ((current - snr_db) / 20))


def reverberate(
    waveform: Waveform,
    *,
    rt60: float,
    rng: np.random.Generator,
    direct_to_reverberant_db: float = 6.0,
    rate: int = SAMPLE_RATE,
) -> Waveform:
    """Place a recording in a room: a direct path, then noise that dies away exponentially.

    The direct path has no delay and nothing comes before it, so that speech starts where it did;
    the length stays, and what rings beyond the end is cut.

    Args:
        waveform: samples.
        rt60: seconds until the reverberation has fallen by 60 dB.
        rng: draws the room.
        direct_to_reverberant_db: energy of the direct path over that of the rest.
        rate: samples a second.
    """
    times = np.arange(max(1, round(rt60 * rate))) / rate
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / rt60)
    first_echo = max(1, round(rng.uniform(0.002, 0.010) * rate))
    tail[:first_echo] = 0
    energy = float(np.square(tail).sum())
    if not energy or not len(waveform):
        return waveform
    room = tail * math.sqrt(10 ** (-direct_to_reverberant_db / 10) / energy)
    room[0] = 1
    size = 1 << (len(waveform) + len(room) - 2).bit_length()
    heard = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(room, size), size)
    return heard[: len(waveform)].astype(np.float32)


def silence(seconds: float) -> Waveform:
    """Digital silence."""
    return np.zeros(_num_samples(seconds), np.float32)


def tone(seconds: float, *, hz: float, harmonics: int = 1, beeps_hz: float = 0.0) -> Waveform:
    """A steady tone, or one that beeps.

    Args:
        seconds: length.
        hz: fundamental.
        harmonics: partials with falling amplitude; 1 for a pure tone. None is beyond 8 kHz.
        beeps_hz: how often a second it is switched on and off; 0 for never.
    """
    times = np.arange(_num_samples(seconds)) / SAMPLE_RATE
    wave = np.zeros(len(times))
    for partial in range(1, harmonics + 1):
        if partial * hz < SAMPLE_RATE / 2:
            wave += np.sin(2 * np.pi * partial * hz * times) / partial
    if beeps_hz:
        # A steep sine rather than a square: switching in one sample clicks.
        wave *= 0.5 + 0.5 * np.tanh(8 * np.sin(2 * np.pi * beeps_hz * times))
    return (0.5 * wave / max(1.0, float(np.abs(wave).max(initial=0)))).astype(np.float32)


def music_like(seconds: float, *, rng: np.random.Generator) -> Waveform:
    """Plucked or held notes of a scale over a bass, with a beat in half of all cases."""
    length = _num_samples(seconds)
    mix = np.zeros(length)
    beat = 60 / rng.uniform(70, 150)
    scale = _SCALES[rng.integers(len(_SCALES))]
    root = rng.uniform(90, 220)
    brightness, decay = rng.uniform(0.8, 2.0), rng.uniform(1.0, 8.0)
    has_drum = rng.random() < 0.5
    for step in range(math.ceil(seconds / beat)):
        start = round(step * beat * SAMPLE_RATE)
        for _ in range(rng.integers(1, 4)):
            semitones = scale[rng.integers(len(scale))] + 12 * rng.integers(0, 3)
            _add(mix, start, _note(root * 2 ** (semitones / 12), 2 * beat, brightness, decay))
        if step % 2 == 0:
            _add(mix, start, 1.5 * _note(root / 2, 2 * beat, 2.0, 2.0))
        if has_drum:
            hit = rng.standard_normal(round(0.08 * SAMPLE_RATE))
            _add(mix, start, 0.5 * hit * np.exp(-np.arange(len(hit)) / (0.02 * SAMPLE_RATE)))
    return (0.5 * mix / max(1e-9, float(np.abs(mix).max(initial=0)))).astype(np.float32)


def _note(hz: float, seconds: float, brightness: float, decay: float) -> NDArray[np.float64]:
    times = np.arange(_num_samples(seconds)) / SAMPLE_RATE
    wave = np.zeros(len(times))
    for partial in range(1, 8):
        if partial * hz < SAMPLE_RATE / 2:
            wave += np.sin(2 * np.pi * partial * hz * times) / partial**brightness
    attack = np.minimum(1, times / 0.01)
    release = np.minimum(1, (seconds - times) / 0.05)
    return wave * attack * release * np.exp(-decay * times)


def _add(mix: NDArray[np.float64], start: int, sound: NDArray[np.float64]) -> None:
    mix[start : start + len(sound)] += sound[: max(0, len(mix) - start)]


def _noise(length: int, rng: np.random.Generator, colour: Colour) -> Waveform:
    wave = rng.standard_normal(length)
    if not length:
        return wave.astype(np.float32)
    if slope := _SLOPES[colour]:
        # A length with small factors: transforms of prime lengths are slow.
        padded = rng.standard_normal(1 << (length - 1).bit_length())
        frequencies = np.fft.rfftfreq(len(padded), 1 / SAMPLE_RATE)
        shape = np.maximum(frequencies, _LOWEST_HZ) ** -slope
        wave = np.fft.irfft(np.fft.rfft(padded) * shape, len(padded))[:length]
    return (wave / np.sqrt(np.mean(np.square(wave)))).astype(np.float32)


def _num_samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
