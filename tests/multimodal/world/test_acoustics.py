"""Rooms and noise, measured by other means than they are made with."""

import numpy as np
import pytest

from multimodal.world import acoustics
from multimodal.world.acoustics import (
    SAMPLE_RATE,
    add_noise,
    level_db,
    music_like,
    noise,
    normalise_level,
    resample,
    reverberate,
    silence,
    tone,
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def loudest_hz(waveform: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)[power.argmax()])


@pytest.mark.parametrize("colour", acoustics.COLOURS)
@pytest.mark.parametrize("snr", [-5, 10, 30])
def test_noise_has_the_asked_distance_to_the_signal(colour, snr):
    clean = tone(1.3, hz=440)
    added = add_noise(clean, snr_db=snr, rng=generator(), colour=colour) - clean
    measured = 10 * np.log10(np.sum(clean.astype(float) ** 2) / np.sum(added.astype(float) ** 2))
    assert measured == pytest.approx(snr, abs=0.05)


@pytest.mark.parametrize(("colour", "octave_db"), [("white", 0), ("pink", -3.01), ("brown", -6.02)])
def test_power_of_coloured_noise_falls_by_the_octave(colour, octave_db):
    wave = noise(30, rng=generator(), colour=colour)
    assert level_db(wave) == pytest.approx(0, abs=0.01)
    density = np.abs(np.fft.rfft(wave)) ** 2
    hertz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    bands = [density[(hertz >= low) & (hertz < 2 * low)].mean() for low in (125, 250, 500, 1000)]
    assert np.diff(10 * np.log10(bands)) == pytest.approx([octave_db] * 3, abs=0.5)


def test_noise_on_silence_or_nothing_changes_nothing():
    for still in (silence(0.5), silence(0)):
        assert np.array_equal(add_noise(still, snr_db=10, rng=generator()), still)
        assert np.array_equal(normalise_level(still, level=-20), still)
        assert np.array_equal(reverberate(still, rt60=0.3, rng=generator()), still)


@pytest.mark.parametrize("rt60", [0.15, 0.3, 0.6])
def test_a_room_decays_as_fast_as_asked(rt60):
    click = silence(1)
    click[0] = 1
    room = reverberate(click, rt60=rt60, rng=generator()).astype(float)
    # Schroeder: the energy still to come falls along a line; its slope from -5 to -25 dB.
    tail = room[round(0.012 * SAMPLE_RATE) :]
    remaining = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1] / np.sum(tail**2) + 1e-12)
    first, last = (int(np.argmax(remaining < level)) for level in (-5, -25))
    assert 3 * (last - first) / SAMPLE_RATE == pytest.approx(rt60, rel=0.15)


@pytest.mark.parametrize("ratio", [0, 10])
def test_the_direct_path_has_the_asked_share(ratio):
    click = silence(1)
    click[0] = 1
    room = reverberate(click, rt60=0.3, direct_to_reverberant_db=ratio, rng=generator())
    assert room[0] == pytest.approx(1, abs=1e-4)
    assert np.abs(room[1:32]).max() < 1e-6, "no echo within two milliseconds"
    assert -10 * np.log10(np.sum(room[32:].astype(float) ** 2)) == pytest.approx(ratio, abs=0.1)


def test_speech_starts_where_it_did():
    dry = np.concatenate([silence(0.2), tone(0.5, hz=300), silence(0.3)])
    wet = reverberate(dry, rt60=0.4, rng=generator())
    start = round(0.2 * SAMPLE_RATE)
    assert wet.shape == dry.shape and wet.dtype == np.float32
    assert np.abs(wet[:start]).max() < 1e-6
    assert wet[start : start + 32] == pytest.approx(dry[start : start + 32], abs=1e-5)
    assert level_db(wet[-round(0.25 * SAMPLE_RATE) :]) > -60, "it rings on"


def test_a_room_is_a_convolution():
    click = silence(0.5)
    click[0] = 1
    room = reverberate(click, rt60=0.2, rng=generator(3))
    speech = generator(4).standard_normal(3000).astype(np.float32)
    expected = np.convolve(speech, room)[: len(speech)]
    assert reverberate(speech, rt60=0.2, rng=generator(3)) == pytest.approx(expected, abs=1e-4)


def test_level_is_met_and_never_clips():
    wave = 0.01 * noise(1, rng=generator())
    for level in (-40, -20):
        assert level_db(normalise_level(wave, level=level)) == pytest.approx(level, abs=0.01)
    assert np.abs(normalise_level(wave, level=0)).max() == pytest.approx(0.99, abs=1e-4)


@pytest.mark.parametrize("hz", [110, 1000, 5000])
def test_a_tone_has_its_frequency(hz):
    wave = tone(1.0, hz=hz, harmonics=4)
    assert loudest_hz(wave) == pytest.approx(hz, abs=2)
    assert np.abs(wave).max() <= 0.5
    quiet = tone(1.0, hz=hz, beeps_hz=2)
    assert level_db(quiet[5000:7000]) < level_db(quiet[1000:3000]) - 40, "half of it is a pause"


def test_music_sounds_from_start_to_end_and_is_no_fixed_tune():
    first, second = (music_like(3, rng=generator(seed)) for seed in (0, 1))
    assert len(first) == 3 * SAMPLE_RATE and np.abs(first).max() == pytest.approx(0.5)
    for wave in (first, second):
        assert min(level_db(piece) for piece in np.split(wave, 3)) > -45
    assert not np.array_equal(first, second)


def test_the_same_generator_gives_the_same():
    for make in (
        lambda rng: music_like(1, rng=rng),
        lambda rng: noise(1, rng=rng, colour="pink"),
        lambda rng: reverberate(tone(1, hz=200), rt60=0.3, rng=rng),
        lambda rng: add_noise(tone(1, hz=200), snr_db=5, rng=rng),
    ):
        assert np.array_equal(make(generator(7)), make(generator(7)))
        assert not np.array_equal(make(generator(7)), make(generator(8)))


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_resampling_keeps_time_and_pitch(rate):
    times = np.arange(rate) / rate
    wave = resample(np.sin(2 * np.pi * 1234 * times).astype(np.float32), rate=rate)
    assert len(wave) == SAMPLE_RATE and wave.dtype == np.float32
    expected = np.sin(2 * np.pi * 1234 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    assert wave[500:-500] == pytest.approx(expected[500:-500], abs=0.01)
