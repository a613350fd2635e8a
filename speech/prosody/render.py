"""From what is said of phones to sound (paper section 8.2): a flat voice, bent as it says.

A synthesizer gets words, their phones and the measures that the prosody model gives them, phrase by
phrase, so that the first words sound before the last ones are written. The one here has espeak-ng
say a phrase in a flat voice and gives each phone its duration and pitch by PSOLA (Moulines and
Charpentier 1990), its power by a gain. Any other that takes phones with their prosody can stand in
its place.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from speech.espeak import Utterance, synthesise
from speech.prosody.measures import FRAME_SECONDS, HIGHEST_F0, LOWEST_F0, SHORTEST, praat
from speech.prosody.phones import ProsodyPhone, Word

_LONGEST = 2.0  # seconds of a phone
_GAINS = 0.05, 8.0  # smallest and largest
_RAMP = 0.01  # seconds in which one phone's gain becomes the next one's
_SOUNDING = 1e-8  # power above which a phone is made louder or softer

Sound = tuple[NDArray[np.float32], int]
"""Mono samples in [-1, 1], and their rate in Hz."""


class Synthesizer(Protocol):
    """What speaks phones as it is told to."""

    rate: int
    """Of its sound, in Hz."""

    def say(self, words: Sequence[Word], phones: Sequence[ProsodyPhone], measures: Tensor) -> Sound:
        """Speak whole words.

        Args:
            words: one after the other.
            phones: all of theirs; the words' numbers count on from that of the first phone.
            measures: log duration in s, log F0 in Hz (NaN: as it comes), log power of each phone,
                [phones, 3].
        """


class EspeakSynthesizer:
    """espeak-ng, bent."""

    rate = 22_050

    def __init__(self, voice: str = "en-us") -> None:
        """A voice as espeak-ng names it."""
        self.voice = voice

    def say(self, words: Sequence[Word], phones: Sequence[ProsodyPhone], measures: Tensor) -> Sound:
        """See :meth:`Synthesizer.say`.

        Raises:
            InputError: the extra `speak` is not installed, or there is no such voice.
            ValueError: there is not a row of measures for each phone.
        """
        if measures.shape != (len(phones), 3):
            raise ValueError(
                f"want measures [{len(phones)}, 3], not {[*measures.shape]}: a row for each phone"
            )
        said = synthesise(" ".join(word.sounded for word in words), self.voice)
        assert said.rate == self.rate
        if not phones or not said.phones:
            return np.zeros(0, np.float32), said.rate
        wanted = measures.double().numpy()
        durations = np.exp(wanted[:, 0]).clip(SHORTEST, _LONGEST)
        spans = _spans(said, words, phones, durations)
        cut = said.samples[round(spans[0, 0] * said.rate) : round(spans[-1, 1] * said.rate)]
        bent = psola(cut, said.rate, spans - spans[0, 0], durations, np.exp(wanted[:, 1]))
        ends = np.cumsum(durations)
        loud = with_power(bent, said.rate, np.stack([ends - durations, ends], 1), wanted[:, 2])
        return loud, said.rate


def psola(
    samples: NDArray[np.float32],
    rate: int,
    spans: NDArray[np.float64],
    durations: NDArray[np.float64],
    frequencies: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Sound whose phones have other durations and another pitch.

    Args:
        samples: mono.
        rate: in Hz.
        spans: where each phone starts and ends in them, in seconds, [phones, 2]; without gaps.
        durations: seconds that each is to take, [phones].
        frequencies: mean F0 in Hz that each is to have, [phones]; NaN keeps what there is.

    Returns:
        Samples, of the durations' sum.
    """
    call = praat().praat.call
    total = len(samples) / rate
    sound = praat().Sound(samples.astype(np.float64), sampling_frequency=rate)
    if total < 3.5 / LOWEST_F0:  # Praat's least
        return _fitted(samples, round(durations.sum() * rate))
    bent = call(sound, "To Manipulation", FRAME_SECONDS, LOWEST_F0, HIGHEST_F0)
    _replace(call, bent, "Duration", total, _steps(spans, durations / (spans[:, 1] - spans[:, 0])))
    heard = np.isfinite(frequencies)
    if heard.any():
        # A phone's mean is held through most of it: what bends is between phones.
        clipped = frequencies[heard].clip(LOWEST_F0, HIGHEST_F0)
        _replace(call, bent, "Pitch", total, _steps(spans[heard], clipped, margin=0.2))
    made = call(bent, "Get resynthesis (overlap-add)")
    return _fitted(made.values[0].astype(np.float32), round(durations.sum() * rate))


def with_power(
    samples: NDArray[np.float32],
    rate: int,
    spans: NDArray[np.float64],
    log_powers: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Sound whose phones have other mean powers; silence stays silence.

    Args:
        samples: mono.
        rate: in Hz.
        spans: where each phone starts and ends, in seconds, [phones, 2]; without gaps.
        log_powers: natural logarithm of the mean of squares that each is to have, [phones].
    """
    gains = np.ones(len(spans))
    places = np.round(spans * rate).astype(int)
    for index, (start, end) in enumerate(places):
        power = np.mean(samples[start:end].astype(np.float64) ** 2) if end > start else 0.0
        if power > _SOUNDING:
            gains[index] = np.sqrt(np.exp(log_powers[index]) / power).clip(*_GAINS)
    half = np.minimum(_RAMP, 0.5 * (spans[:, 1] - spans[:, 0])) / 2
    times = np.stack([spans[:, 0] + half, spans[:, 1] - half], axis=1)
    course = np.interp(np.arange(len(samples)) / rate, times.ravel(), gains.repeat(2))
    return (samples * course).clip(-1.0, 1.0).astype(np.float32)


def _spans(
    said: Utterance,
    words: Sequence[Word],
    phones: Sequence[ProsodyPhone],
    durations: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Where each phone starts and ends in what espeak-ng said, [phones, 2], without gaps.

    A lexicon may name other phones than those that espeak-ng has for these words: then time is
    shared out by what they ask for, in a word if the words agree, else in the whole.
    """
    starts = np.array([phone.start_seconds for phone in said.phones])
    end = said.phones[-1].end_seconds
    if len(starts) == len(phones):
        return _edges(np.append(starts, end))
    asked = np.array([phone.word for phone in phones])
    owner = np.array([phone.word for phone in said.phones])
    if len(set(asked)) != len(set(owner)):
        asked, owner = np.zeros_like(asked), np.zeros_like(owner)
    bounds = [starts[owner == word][0] for word in sorted(set(owner))] + [end]
    edges = [bounds[0]]
    for start, stop, word in zip(bounds, bounds[1:], sorted(set(asked)), strict=False):
        shares = np.cumsum(durations[asked == word])
        edges += [*(start + (stop - start) * shares / shares[-1])]
    return _edges(np.array(edges))


def _edges(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spans between edges, each of some length."""
    edges = np.maximum.accumulate(edges + 1e-4 * np.arange(len(edges)))
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _steps(
    spans: NDArray[np.float64], values: NDArray[np.float64], *, margin: float = 1e-4
) -> list[tuple[float, float]]:
    """Points of a line that is level within spans; ``margin`` is the share left at either side."""
    points = []
    for (start, end), value in zip(spans, values, strict=True):
        inset = margin * (end - start)
        points += [(start + inset, value), (end - inset, value)]
    return points


def _replace(
    call: Any, bent: Any, kind: str, total: float, points: Sequence[tuple[float, float]]
) -> None:
    tier = call(f"Create {kind}Tier", kind.lower(), 0.0, total)
    for time, value in points:
        call(tier, "Add point", float(time), float(value))
    call([bent, tier], f"Replace {kind.lower()} tier")


def _fitted(samples: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """Samples, cut or followed by silence."""
    return np.pad(samples[:number], (0, max(0, number - len(samples))))
