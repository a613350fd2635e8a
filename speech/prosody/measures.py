"""How phones were spoken, measured from sound: the targets of the prosody model (section 8.2)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from language.errors import InputError

FRAME_SECONDS = 0.005
LOWEST_F0, HIGHEST_F0 = 60.0, 500.0
"""In Hz; a voice's range."""
_FLOOR = 1e-8  # of power; what is softer is silence
_LEAST_VOICED = 0.4
"""Share of a phone's frames with a voice below which it has none: a frame looks at 50 ms of sound,
so that those at a phone's edges hear the neighbours."""
SHORTEST = 0.005
"""Seconds below which a phone is not taken to be."""
MEASURES = ("log duration", "log F0", "log power")


def measure(
    samples: NDArray[np.float32], rate: int, spans: Sequence[tuple[float, float]]
) -> NDArray[np.float32]:
    """What each phone is like.

    Args:
        samples: mono.
        rate: in Hz.
        spans: where each phone starts and ends, in seconds.

    Returns:
        [phones, 3]: the natural logarithms of the duration in seconds, of F0 in Hz as the mean over
        voiced frames, and of the mean power. A phone that is mostly unvoiced has no F0: NaN.
    """
    times, frequencies = f0(samples, rate)
    with np.errstate(divide="ignore"):
        pitches = np.log(frequencies)
    found = np.empty((len(spans), 3), np.float32)
    for row, (start, end) in zip(found, spans, strict=True):
        inside = pitches[(times >= start) & (times < end)]
        voiced = inside[np.isfinite(inside)]
        sound = samples[round(start * rate) : round(end * rate)].astype(np.float64)
        power = np.mean(sound**2) if len(sound) else 0.0
        row[0] = np.log(max(end - start, SHORTEST))
        has_voice = len(voiced) > _LEAST_VOICED * len(inside)
        row[1] = voiced.mean() if has_voice else np.nan
        row[2] = np.log(power + _FLOOR)
    return found


def f0(samples: NDArray[np.float32], rate: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The times in seconds and the F0 in Hz of frames; 0 where there is no voice.

    Raises:
        InputError: the extra ``speak`` is not installed.
    """
    parselmouth = praat()
    sound = parselmouth.Sound(samples.astype(np.float64), sampling_frequency=rate)
    if sound.duration < 3.5 / LOWEST_F0:  # what Praat needs to see
        return np.zeros(0), np.zeros(0)
    pitch = sound.to_pitch(time_step=FRAME_SECONDS, pitch_floor=LOWEST_F0, pitch_ceiling=HIGHEST_F0)
    return pitch.xs(), pitch.selected_array["frequency"]


def praat():  # type: ignore[no-untyped-def]  # noqa: ANN201
    """The library parselmouth.

    Raises:
        InputError: it is not installed.
    """
    try:
        import parselmouth
    except ImportError:
        raise InputError("speech", "needs the `speak` extra: pip install openherd[speak]") from None
    return parselmouth
