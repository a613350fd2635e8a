"""Voices of the spoken world: espeak-ng reads the sentences when training data is made."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from multimodal.world.scenes import Split
from speech.espeak import Phone, synthesise

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
    said = synthesise(text, voice.name, rate=voice.rate, pitch=voice.pitch)
    return said.samples, said.rate, said.phones
