"""espeak-ng as a voice: sound, with when each word and each phone of it starts.

espeak-ng stands under the GPL, so it comes with the extra ``speak`` and is opened inside functions.

The library keeps a state between calls (phases, the position in its tables of random numbers)
that no function of its own resets, so that the same sentence never sounds the same twice. It is
therefore opened afresh for each text, which takes half a millisecond: what is heard is a function
of text and voice alone.
"""

import _ctypes
import ctypes
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from language.errors import InputError

_SYNCHRONOUS = 2  # samples go to the callback, and nothing else runs beside
_OPTIONS = 1 | 2 | 0x8000  # events for phones; named in IPA; never exit() the process
_UTF8, _SSML = 1, 0x10
_RATE, _VOLUME, _PITCH = 1, 2, 3
_QUIETER = 20  # of 100, at which some variants clip
_WORD_EVENT, _PHONE_EVENT = 1, 7


@dataclass(frozen=True)
class Phone:
    """A speech sound and when it starts."""

    symbol: str
    """In IPA, with its stress mark."""
    start_seconds: float
    word: int = 0
    """Number of the word it belongs to, from 0, as espeak-ng counts them."""
    end_seconds: float = 0.0
    """Where the next sound, or a pause, starts."""


@dataclass(frozen=True)
class Utterance:
    """What was said."""

    samples: NDArray[np.float32]
    """Mono, in [-1, 1]."""
    rate: int
    """In Hz."""
    phones: tuple[Phone, ...]
    word_starts: tuple[int, ...]
    """Where each word starts in the text, in characters; of SSML, where it starts in that."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate


def synthesise(
    text: str, voice: str, *, rate: int = 170, pitch: int = 50, ssml: bool = False
) -> Utterance:
    """Read a text aloud.

    Args:
        text: a sentence.
        voice: base voice and variant as espeak-ng names them, such as ``en-us+f3``.
        rate: words a minute, 80 to 450.
        pitch: 0 to 99; 50 is the speaker's own.
        ssml: whether ``text`` is SSML.

    Raises:
        InputError: the extra is not installed, or it has no such voice.
    """
    library, data = espeak_paths()
    _, _, variant = voice.partition("+")
    # The library takes an unknown variant for none at all, without a word.
    if variant and not (data / "voices" / "!v" / variant).is_file():
        raise InputError(voice, "espeak-ng has no such voice")
    with _lock:
        espeak = ctypes.CDLL(str(library))
        try:
            return _synthesise(espeak, data, text, voice, rate, pitch, ssml)
        finally:
            espeak.espeak_Terminate()
            _ctypes.dlclose(espeak._handle)  # the next call finds the library as new


def espeak_paths() -> tuple[Path, Path]:
    """The library and the folder of its data.

    Raises:
        InputError: the extra is not installed.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise InputError("speech", "needs the `speak` extra: pip install openherd[speak]") from None
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


_lock = threading.Lock()  # the library has one state for the whole process


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def _synthesise(
    espeak: ctypes.CDLL, data: Path, text: str, voice: str, words: int, pitch: int, ssml: bool
) -> Utterance:
    pieces: list[NDArray[np.int16]] = []
    heard: list[tuple[bytes, int, int]] = []
    word_starts: list[int] = []

    def collect(samples: Any, number: int, events: Any) -> int:
        if samples and number > 0:
            pieces.append(np.ctypeslib.as_array(samples, (number,)).copy())
        index = 0
        while events[index].type:  # a zero ends the list
            event = events[index]
            if event.type == _WORD_EVENT:
                word_starts.append(event.text_position - 1)
            elif event.type == _PHONE_EVENT:
                heard.append((event.id.string, event.sample, len(word_starts) - 1))
            index += 1
        return 0  # go on

    def call(function: Callable[..., int], *arguments: Any) -> None:
        if code := function(*arguments):
            name = getattr(function, "__name__", "espeak-ng")
            raise InputError(voice, f"espeak-ng cannot speak so: {name} returned {code}")

    callback = _Callback(collect)
    rate = espeak.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _OPTIONS)
    if rate <= 0:
        raise InputError(data, "espeak-ng does not start with this data")
    espeak.espeak_SetSynthCallback(callback)
    call(espeak.espeak_ng_SetRandSeed, ctypes.c_long(zlib.crc32(text.encode())))
    call(espeak.espeak_SetVoiceByName, voice.encode())
    call(espeak.espeak_SetParameter, _RATE, words, 0)
    call(espeak.espeak_SetParameter, _PITCH, pitch, 0)
    call(espeak.espeak_SetParameter, _VOLUME, _QUIETER, 0)
    encoded = text.encode() + b"\0"
    size, flags = ctypes.c_size_t(len(encoded)), _UTF8 | (_SSML if ssml else 0)
    call(espeak.espeak_Synth, encoded, size, 0, 0, 0, flags, None, None)
    samples = np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
    ends = [at for _, at, _ in heard[1:]] + [len(samples)]
    phones = [
        Phone(symbol.decode(errors="ignore"), at / rate, max(word, 0), end / rate)
        for (symbol, at, word), end in zip(heard, ends, strict=True)
    ]
    return Utterance(
        samples.astype(np.float32) / np.float32(32768),
        rate,
        tuple(phone for phone in phones if phone.symbol),
        tuple(word_starts),
    )
