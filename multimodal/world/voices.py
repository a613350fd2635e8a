"""Voices of the spoken world: espeak-ng reads the sentences when training data is made.

espeak-ng stands under the GPL, so nothing here is imported where the package is used: the library
and its data come with the extra ``speak`` and are opened inside the functions that make data.

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
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from language.errors import InputError
from multimodal.world.scenes import Split

Language = Literal["en", "es", "de"]

ACCENTS: dict[Language, tuple[str, ...]] = {
    "en": ("en-us", "en-gb-x-rp", "en"),
    "es": ("es", "es-419"),
    "de": ("de",),
}
"""Base voices; "en-gb" is an alias that the library of the wheel fails to load."""

# The variants of espeak-ng's own `voices/!v` that sound like a person. Left out are whispers
# (whisper, whisperf, caleb), creaks and tremors (croak, david, grandpa, Storm), robots and effects
# (robosoft*, UniRobot, anikaRobot, RicishayMax*, announcer, Demonic), a chipmunk (zac), voices that
# lack most of their formants (ian, steph*, anika, quincy), the bare synthesiser (klatt*) and near
# copies of others (Gene2, Henrique, Hugo, iven2).
TRAIN_VARIANTS = (
    *("", "m1", "m3", "m4", "m5", "m6", "m7", "Alex", "Andy", "Denis", "Diogo", "Gene", "Michael"),
    *("Mike", "Nguyen", "adam", "antonio", "edward", "john", "max", "travis"),
    *("f1", "f2", "f3", "f5", "Alicia", "belinda", "grandma", "linda", "shelby"),
)
HELD_OUT_VARIANTS = ("m2", "pedro", "sandro", "victor", "f4", "Andrea", "Annie", "aunty")

_SYNCHRONOUS = 2  # samples go to the callback, and nothing else runs beside
_OPTIONS = 1 | 2 | 0x8000  # events for phones; named in IPA; never exit() the process
_UTF8 = 1
_RATE, _VOLUME, _PITCH = 1, 2, 3
_QUIETER = 20  # of 100, at which some variants clip
_PHONE_EVENT = 7


@dataclass(frozen=True, kw_only=True)
class Voice:
    """Who speaks, and how."""

    name: str
    """Base voice and variant, as espeak-ng names them: ``en-us+f3``."""
    language: Language
    """What the voice reads."""
    rate: int = 170
    """Words a minute, 80 to 450."""
    pitch: int = 50
    """0 to 99; 50 is the speaker's own."""

    def __post_init__(self) -> None:
        if self.language not in ACCENTS:
            raise ValueError(f"language must be one of {[*ACCENTS]}, not {self.language!r}")
        if not 80 <= self.rate <= 450:
            raise ValueError(f"rate must be 80 to 450 words a minute, not {self.rate}")
        if not 0 <= self.pitch <= 99:
            raise ValueError(f"pitch must be 0 to 99, not {self.pitch}")


@dataclass(frozen=True)
class Phone:
    """A speech sound and when it starts."""

    symbol: str
    """In IPA, with its stress mark."""
    start_seconds: float


def voices(language: Language, split: Split) -> tuple[Voice, ...]:
    """All who speak a language in a split, at their own rate and pitch.

    Validation hears the voices of training; no speaker of the test split is in either.
    """
    variants = HELD_OUT_VARIANTS if split == "test" else TRAIN_VARIANTS
    return tuple(
        Voice(name=f"{accent}+{variant}" if variant else accent, language=language)
        for accent in ACCENTS[language]
        for variant in variants
    )


def speak(text: str, voice: Voice) -> tuple[NDArray[np.float32], int]:
    """Read a text aloud.

    Args:
        text: a sentence.
        voice: who reads it.

    Returns:
        Mono samples in [-1, 1], and their rate in Hz. The same text and voice give the same.

    Raises:
        InputError: the extra is not installed, or it has no such voice.
    """
    samples, rate, _ = speak_with_phones(text, voice)
    return samples, rate


def speak_with_phones(
    text: str, voice: Voice
) -> tuple[NDArray[np.float32], int, tuple[Phone, ...]]:
    """Read a text aloud and say when each phone starts; otherwise as `speak`."""
    library, data = espeak_paths()
    _, _, variant = voice.name.partition("+")
    # The library takes an unknown variant for none at all, without a word.
    if variant and not (data / "voices" / "!v" / variant).is_file():
        raise InputError(voice.name, "espeak-ng has no such voice")
    with _lock:
        espeak = ctypes.CDLL(str(library))
        try:
            return _synthesise(espeak, data, text, voice)
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
    espeak: ctypes.CDLL, data: Path, text: str, voice: Voice
) -> tuple[NDArray[np.float32], int, tuple[Phone, ...]]:
    pieces: list[NDArray[np.int16]] = []
    heard: list[tuple[bytes, int]] = []

    def collect(samples: Any, number: int, events: Any) -> int:
        if samples and number > 0:
            pieces.append(np.ctypeslib.as_array(samples, (number,)).copy())
        index = 0
        while events[index].type:  # a zero ends the list
            if events[index].type == _PHONE_EVENT:
                heard.append((events[index].id.string, events[index].sample))
            index += 1
        return 0  # go on

    def call(function: Callable[..., int], *arguments: Any) -> None:
        if code := function(*arguments):
            name = getattr(function, "__name__", "espeak-ng")
            raise InputError(voice.name, f"espeak-ng cannot speak so: {name} returned {code}")

    callback = _Callback(collect)
    rate = espeak.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _OPTIONS)
    if rate <= 0:
        raise InputError(data, "espeak-ng does not start with this data")
    espeak.espeak_SetSynthCallback(callback)
    call(espeak.espeak_ng_SetRandSeed, ctypes.c_long(zlib.crc32(text.encode())))
    call(espeak.espeak_SetVoiceByName, voice.name.encode())
    call(espeak.espeak_SetParameter, _RATE, voice.rate, 0)
    call(espeak.espeak_SetParameter, _PITCH, voice.pitch, 0)
    call(espeak.espeak_SetParameter, _VOLUME, _QUIETER, 0)
    encoded = text.encode() + b"\0"
    size = ctypes.c_size_t(len(encoded))
    call(espeak.espeak_Synth, encoded, size, 0, 0, 0, _UTF8, None, None)
    samples = np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
    phones = (Phone(symbol.decode(errors="ignore"), at / rate) for symbol, at in heard)
    waveform = samples.astype(np.float32) / np.float32(32768)
    return waveform, rate, tuple(phone for phone in phones if phone.symbol)
