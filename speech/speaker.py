"""A voice for text that comes while it is spoken (paper section 8.2): the whole way to sound.

    written pieces -> text normalization -> phones -> prosody -> synthesizer -> sound

Every part streams: a phrase is sounded when its last phone has its prosody, long before the text
ends. Text normalization and prosody look at the same embeddings of the same frozen core, computed
once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from language.directories import whole
from language.errors import InputError
from language.weights import read_format, write_json
from speech.embeddings import CoreEmbeddings, EmbeddedText
from speech.normalization.checkpoint import load_tagger
from speech.normalization.normalizer import Normalizer, Spoken
from speech.prosody.checkpoint import load_prosody
from speech.prosody.model import ProsodyModel, owners
from speech.prosody.phones import (
    PUNCTUATION,
    EspeakLexicon,
    Lexicon,
    PhoneInput,
    ProsodyPhone,
    Word,
    words_of,
)
from speech.prosody.stream import ProsodyStream

if TYPE_CHECKING:
    from speech.prosody.render import Synthesizer

FORMAT, VERSION = "openherd-speaker", 1
MAX_WORDS = 8
"""Longest phrase; one ends at punctuation, too."""
PAUSES = {",": 0.12, ";": 0.2, ":": 0.2, ".": 0.3, "?": 0.3, "!": 0.3}
"""Seconds of silence behind a mark."""


@dataclass(frozen=True)
class Phrase:
    """Words that are sounded together."""

    spans: tuple[Spoken, ...]
    """What was written, and how it was read."""
    words: tuple[Word, ...]
    phones: tuple[ProsodyPhone, ...]
    measures: Tensor
    """Log duration, log F0 and log power of each phone, [phones, 3]; see `speech.prosody`."""
    samples: NDArray[np.float32]
    """Mono, the pause behind the phrase included."""
    rate: int
    """In Hz."""


@dataclass
class _Waiting:
    """A phrase some of whose phones have no prosody yet."""

    spans: list[Spoken]
    words: list[Word]
    phones: list[ProsodyPhone]


class Speaker:
    """Reads text aloud."""

    def __init__(
        self,
        normalizer: Normalizer,
        prosody: ProsodyModel,
        synthesizer: "Synthesizer",
        *,
        embeddings: CoreEmbeddings | None = None,
        lexicon: Lexicon | None = None,
    ) -> None:
        """Put together what belongs together.

        Args:
            normalizer: with a look-ahead.
            prosody: with a look-ahead.
            synthesizer: makes the sound.
            embeddings: of the core that the prosody model sees, if it sees one.
            lexicon: says the phones of words; espeak-ng's by default.

        Raises:
            ValueError: the prosody model was trained on other embeddings, or reads whole texts.
        """
        given = None if embeddings is None else embeddings.dim
        if prosody.config.core_dim not in (None, given):
            raise ValueError(
                f"the prosody model sees embeddings of {prosody.config.core_dim} values, "
                f"the core gives {given or 'none'}"
            )
        if prosody.config.look_ahead is None or normalizer.tagger.config.look_ahead is None:
            raise ValueError("models without a look-ahead read whole texts, and cannot stream")
        self.normalizer, self.prosody, self.synthesizer = normalizer, prosody, synthesizer
        self.embeddings, self.lexicon = embeddings, lexicon or EspeakLexicon()

    def stream(
        self, pieces: Iterable[str], *, style: int = 0, speaker: int = 0
    ) -> Iterator[Phrase]:
        """Speak while the text comes.

        Args:
            pieces: of the text, cut anywhere.
            style: number of the prosody model's style.
            speaker: number of the prosody model's speaker.

        Yields:
            Phrases, each as soon as it can be sounded.
        """
        speech = self.begin(style=style, speaker=speaker)
        for piece in pieces:
            yield from speech.push(piece)
        yield from speech.finish()

    def begin(self, *, style: int = 0, speaker: int = 0) -> "Speech":
        """A text of which nothing is written yet; arguments as for :meth:`stream`."""
        return Speech(self, speaker_number=speaker, style=style)

    def speak(self, text: str, file: Path | str | None = None) -> NDArray[np.float32]:
        """Speak a whole text, and write it as WAV if a file is named.

        Returns:
            Mono samples at ``synthesizer.rate``.

        Raises:
            InputError: there is nothing in it that could be said, or the file cannot be written.
        """
        samples = [phrase.samples for phrase in self.stream([text])]
        if not samples:
            raise InputError("text", "holds nothing that could be said")
        sound = np.concatenate(samples)
        if file is not None:
            with WavFile(file, rate=self.synthesizer.rate) as out:
                out.write(sound)
        return sound


class WavFile:
    """A WAV file, mono, 16 bits, which is opened when there is sound for it and not before.

    So a text that cannot be spoken, or an answer that fails, replaces nothing.
    """

    def __init__(self, file: Path | str, *, rate: int) -> None:
        """Sound at ``rate`` Hz is to go to ``file``."""
        self._file, self._rate = file, rate
        self._out: soundfile.SoundFile | None = None

    def write(self, samples: NDArray[np.float32]) -> None:
        """Add samples.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            if self._out is None:
                self._out = soundfile.SoundFile(
                    str(self._file), "w", self._rate, 1, subtype="PCM_16", format="WAV"
                )
            self._out.write(samples)
        except (OSError, soundfile.SoundFileError) as error:
            raise InputError(self._file, f"cannot be written: {error}") from None

    def __enter__(self) -> "WavFile":
        return self

    def __exit__(self, *_: object) -> None:
        if self._out is not None:
            self._out.close()


class Speech:
    """One text on its way."""

    def __init__(self, speaker: Speaker, *, speaker_number: int = 0, style: int = 0) -> None:
        """See :meth:`Speaker.begin`."""
        self._speaker = speaker
        self._reader = speaker.normalizer.stream(embeddings=speaker.embeddings)
        self._prosody = ProsodyStream(speaker.prosody, speaker=speaker_number, style=style)
        self._spans: list[Spoken] = []  # of the phrase that is not closed
        self._is_quoted = False
        self._num_words = 0
        self._core: EmbeddedText | None = None  # tokens that belong to no phrase yet
        self._waiting: list[_Waiting] = []
        self._measures = torch.zeros(0, 3)  # of waiting phones

    def push(self, text: str) -> Iterator[Phrase]:
        """Phrases that can be sounded when ``text`` is written on."""
        return self._take(self._reader.push(text))

    def finish(self) -> Iterator[Phrase]:
        """Phrases that waited for more."""
        yield from self._take(self._reader.finish())
        self._close()
        self._measures = torch.cat([self._measures, self._prosody.finish()])
        yield from self._sounded()

    def _take(self, spans: list[Spoken]) -> Iterator[Phrase]:
        for core in self._reader.take_embedded():
            self._core = core if self._core is None else self._core + core
        for span in spans:
            num_words = sum(len(each.said.split()) for each in self._spans)
            if span.said and num_words >= MAX_WORDS:
                self._close()  # a mark would still have belonged to the phrase
            self._spans.append(span)
            if num_words and span.written in PUNCTUATION and not span.said:
                self._close()
        yield from self._sounded()

    def _close(self) -> None:
        """End the phrase: let the prosody model read its words."""
        words, self._is_quoted = words_of(self._spans, is_quoted=self._is_quoted)
        if not words:
            return  # a mark before any word goes with the next phrase
        spans, self._spans = self._spans, []
        phones = self._speaker.lexicon.phones(words, first_word=self._num_words)
        ends = [words[phone.word - self._num_words].end for phone in phones]
        read = PhoneInput.of(phones, words, first_word=self._num_words)
        said = self._prosody.append(read, self._seen(ends))
        self._num_words += len(words)
        self._measures = torch.cat([self._measures, said])
        self._waiting.append(_Waiting(spans, words, phones))

    def _seen(self, ends: list[int]) -> tuple[Tensor, list[int]] | None:
        """The core's tokens that end within the words, and what phone each is seen from."""
        if self._speaker.prosody.config.core_dim is None or self._core is None or not ends:
            return None
        number = sum(end <= ends[-1] for end in self._core.ends)
        states, core_ends = self._core.states[:number], self._core.ends[:number]
        self._core = EmbeddedText(self._core.states[number:], self._core.ends[number:])
        return states, owners(core_ends, ends)

    def _sounded(self) -> Iterator[Phrase]:
        """The phrases all of whose phones have their prosody."""
        while self._waiting and len(self._measures) >= len(self._waiting[0].phones):
            phrase = self._waiting.pop(0)
            number = len(phrase.phones)
            measures, self._measures = self._measures[:number], self._measures[number:]
            samples, rate = self._speaker.synthesizer.say(phrase.words, phrase.phones, measures)
            pause = PAUSES.get(phrase.words[-1].after[:1], 0.0)
            samples = np.concatenate([samples, np.zeros(round(pause * rate), np.float32)])
            said = tuple(phrase.spans), tuple(phrase.words), tuple(phrase.phones)
            yield Phrase(*said, measures, samples, rate)


def load_speaker(directory: Path | str, *, voice: str | None = None) -> Speaker:
    """The speaker of a directory.

    It holds ``config.json``, a core (``core``, or a directory that the config names), a tagger
    (``normalization``) and a prosody model (``prosody``).

    Raises:
        InputError: what is wrong with which file, or the extra ``speak`` is not installed.
    """
    from speech.prosody.render import EspeakSynthesizer

    directory = whole(Path(directory))
    file = directory / "config.json"
    config = read_format(file, name=FORMAT, version=VERSION, what="speaker")
    core = directory / str(config.get("core", "core"))
    tagger, rules = load_tagger(directory / "normalization")
    prosody = load_prosody(directory / "prosody")
    voice = voice or str(config.get("voice", "en-us"))
    try:
        embeddings = CoreEmbeddings.of(core, layer=int(config.get("core_layer", 0)))
        sees = tagger.config.core_dim is not None
        normalizer = Normalizer(tagger, rules, embeddings if sees else None)
        return Speaker(
            normalizer,
            prosody,
            EspeakSynthesizer(voice),
            embeddings=embeddings,
            lexicon=EspeakLexicon(voice),
        )
    except (TypeError, ValueError) as error:
        raise InputError(file, str(error)) from None


def write_speaker_config(directory: Path, *, core_layer: int, voice: str = "en-us") -> None:
    """Write what ties the parts of a speaker together."""
    config = {"format": FORMAT, "version": VERSION, "core_layer": core_layer, "voice": voice}
    write_json(directory / "config.json", config)
