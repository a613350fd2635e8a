"""What recordings become: waveforms for pre-training, or dialogues with the core (section 8.2).

A recording with a transcript is used for one of the tasks that its record allows: it is repeated,
translated, or its language named. Which one, how fast it is played, and what is cropped where all
is too long, is drawn from `Sample.draw`: another choice in each pass, and the same one whichever
process makes the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from torch import Tensor

from language.errors import InputError
from multimodal.batch import Batch
from multimodal.data.jsonl import JsonlSource
from multimodal.data.order import uniform
from multimodal.data.recordings import Excerpt, Recording
from multimodal.data.samples import Dialogue, Extent, Sample, Source, dialogues
from multimodal.data.shards import ShardSource
from multimodal.data.tasks import Task, without_targets
from multimodal.data.transcripts import transcript
from multimodal.processor import Processor, TooLongError
from multimodal.prompts import spoken_request
from multimodal.rows import Encoded
from speech.audio import SAMPLE_RATE, audio_duration, read_audio
from speech.augmentation import change_speed
from speech.decoding import SLACK_SECONDS
from speech.recordings import SpeechBatch

SECONDS_PER_CHARACTER = 0.02
"""What a row without recordings counts as: four characters a token, 80 ms of speech a token."""

SPEED, CHOICE, CROP, RECORDING, DIALOGUE = range(5)
"""Keep what is drawn from one number apart."""


class TimedTask(Task, Protocol):
    """A task whose rows last some time."""

    def duration(self, extent: Extent, draw: int) -> tuple[int, float]:
        """Recordings in the row, 1 at least, and seconds that each takes up at most."""


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """A row of pre-training."""

    waveform: Tensor
    """[samples]."""
    text: str | None
    """What is said in all of it, if known."""


class SpeechPretrainingTask:
    """Waveforms, with or without what is said in them."""

    def __init__(self, *, max_seconds: float = 60.0) -> None:
        """Of longer recordings take ``max_seconds`` from anywhere."""
        self.max_seconds = max_seconds

    def duration(self, extent: Extent, draw: int) -> tuple[int, float]:
        """One recording; one of unknown length counts as the longest."""
        if not extent.seconds:
            return 1, self.max_seconds
        seconds = extent.seconds[_chosen(len(extent.seconds), draw, RECORDING)]
        return 1, min(seconds or self.max_seconds, self.max_seconds)

    def cost(self, extent: Extent) -> float:
        """Seconds."""
        return self.duration(extent, 0)[1]

    def encode(self, sample: Sample) -> Utterance:
        """A recording, the one or any, or as much of it as is allowed.

        Raises:
            InputError: the sample is unusable.
        """
        if not sample.recordings:
            raise InputError(sample.name, "no recording")
        found = list(sample.recordings.values())
        recording = found[_chosen(len(found), sample.draw, RECORDING)]
        said = _said(sample) if len(found) == 1 else None
        seconds = _seconds(recording, name=sample.name)
        if seconds <= self.max_seconds:
            _check_said(sample, seconds)
            return Utterance(
                waveform=_decoded(recording, max_seconds=self.max_seconds, name=sample.name),
                text=said,
            )
        start = uniform(sample.draw, CROP) * (seconds - self.max_seconds)
        part = _part(recording, start=start, duration=self.max_seconds)
        return Utterance(
            waveform=_decoded(part, max_seconds=self.max_seconds, name=sample.name), text=None
        )

    def collate(self, rows: Sequence[Utterance]) -> SpeechBatch:
        """A batch; with texts where every row has its own."""
        texts = [row.text for row in rows if row.text is not None]
        return SpeechBatch.of(
            [row.waveform for row in rows], texts if len(texts) == len(rows) else None
        )

    def without_loss(self, row: Utterance) -> Utterance:
        """The row itself: every recording of a batch takes part in the loss."""
        return row


class SpeechTask:
    """Recordings that are transcribed, translated, identified or talked about."""

    def __init__(
        self,
        processor: Processor,
        *,
        transcribe: float = 1.0,
        translate: float = 1.0,
        identify: float = 0.0,
        language: str | None = None,
        max_seconds: float | None = None,
        max_row_seconds: float = float("inf"),
        speeds: Sequence[float] = (1.0,),
    ) -> None:
        """Settings of the tasks.

        Args:
            processor: of the model; its config holds the prompts.
            transcribe: how often, relative to the other tasks that a record allows, a recording
                is to be transcribed.
            translate: the same for its translation, into any of the languages that are given.
            identify: the same for the name of its language.
            language: spoken where a record names none.
            max_seconds: longest recording; longer ones are refused. The model's by default.
            max_row_seconds: most that the recordings of one dialogue may last together.
            speeds: factors, one of which each recording is played by.
        """
        self.processor = processor
        self.weights = {"transcribe": transcribe, "translate": translate, "identify": identify}
        if min(self.weights.values()) < 0 or not any(self.weights.values()):
            raise ValueError("weights of tasks must not be negative, nor all of them 0")
        if not speeds or min(speeds) <= 0:
            raise ValueError(f"speeds must be factors above 0, at least one, not {speeds}")
        self.language = language
        self.max_seconds = processor.max_seconds if max_seconds is None else max_seconds
        self.max_row_seconds = max_row_seconds
        self.speeds = tuple(speeds)

    def duration(self, extent: Extent, draw: int) -> tuple[int, float]:
        """All recordings of a dialogue; one of unknown length counts as the longest allowed."""
        if not extent.seconds:
            return 1, SECONDS_PER_CHARACTER * extent.num_characters
        longest = max(seconds or self.max_seconds for seconds in extent.seconds)
        longest = min(longest, self.max_seconds)
        return len(extent.seconds), longest / self._speed(draw, longest)

    def cost(self, extent: Extent) -> float:
        """Seconds."""
        number, seconds = self.duration(extent, 0)
        return number * seconds

    def encode(self, sample: Sample) -> Encoded:
        """A row.

        Raises:
            InputError: the sample is unusable.
            TooLongError: a recording lasts longer than allowed, or there are too many tokens.
        """
        dialogue = self._dialogue(sample)
        files = _played(dialogue)
        if len({id(file) for file in files}) < len(files):
            raise InputError(sample.name, "a recording is played more than once in a dialogue")
        heard = self._heard(files, sample)
        try:
            return self.processor.encode(_with_sound(dialogue, heard))
        except InputError as error:
            raise type(error)(sample.name, error.fault) from None

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """A batch."""
        return self.processor.collate(rows)

    def without_loss(self, row: Encoded) -> Encoded:
        """The row without targets."""
        return without_targets(row)

    def _dialogue(self, sample: Sample) -> Dialogue:
        """The sample's own dialogue, one of several; or one made of its recording's transcript."""
        if "messages" in sample.record or "dialogues" in sample.record:
            found = dialogues(sample)
            return found[_chosen(len(found), sample.draw, DIALOGUE)]
        if len(sample.recordings) != 1:
            number = len(sample.recordings) or "no"
            raise InputError(sample.name, f"{number} recordings beside a transcript, want one")
        prompt, answer = self._request(sample)
        (recording,) = sample.recordings.values()
        return spoken_request(recording, prompt, answer)

    def _request(self, sample: Sample) -> tuple[str, str]:
        """What is asked of a recording, and the answer."""
        said = transcript(sample.record, name=sample.name, language=self.language)
        prompts, weights = self.processor.config.speech_prompts, self.weights
        choices: list[tuple[float, str, str]] = []
        if sample.record.get("no_speech") is True:  # whatever is asked, there is nothing to say
            language = said.language or "English"
            for task in ("transcribe", "translate", "identify"):
                prompt = getattr(prompts, task).format(language=language)
                choices.append((weights[task], prompt, ""))
        elif said.text is not None and said.language is not None:
            prompt = prompts.transcribe.format(language=said.language)
            choices.append((weights["transcribe"], prompt, said.text))
        for language, text in said.translations.items():
            weight = weights["translate"] / len(said.translations)
            choices.append((weight, prompts.translate.format(language=language), text))
        if said.language is not None and not sample.record.get("no_speech"):
            choices.append((weights["identify"], prompts.identify, said.language))
        choices = [choice for choice in choices if choice[0] > 0]
        if not choices and said.text is not None and said.language is None:
            raise InputError(sample.name, "no language: the record has no lang, give data.language")
        if not choices:
            raise InputError(sample.name, "nothing to learn: no text for any of the tasks")
        place = uniform(sample.draw, CHOICE) * sum(weight for weight, _, _ in choices)
        ends = accumulate(weight for weight, _, _ in choices[:-1])
        _, prompt, answer = choices[sum(place >= end for end in ends)]
        return prompt, answer

    def _heard(self, files: list[Recording], sample: Sample) -> list[Tensor]:
        """Waveforms of the recordings, all at the same speed."""
        lengths = [_seconds(file, name=sample.name) for file in files]
        if not lengths:
            return []
        longest = max(lengths)
        if longest > self.max_seconds:
            raise TooLongError(
                sample.name, f"lasts {longest:,.1f} s, at most {self.max_seconds:g} s fit"
            )
        speed = self._speed(sample.draw, longest)
        together = len(sample.recordings) * longest / speed
        if together > self.max_row_seconds:
            raise TooLongError(
                sample.name,
                f"takes {together:,.1f} s, {len(sample.recordings)} x {longest / speed:,.1f} s; "
                f"at most {self.max_row_seconds:g} s fit",
            )
        _check_said(sample, longest)
        waveforms = [
            _decoded(file, max_seconds=self.max_seconds, name=sample.name) for file in files
        ]
        return [change_speed(w, speed) if speed != 1 else w for w in waveforms]

    def _speed(self, draw: int, seconds: float) -> float:
        """The factor that is drawn, or 1 where the recording would become too long by it."""
        speed = self.speeds[_chosen(len(self.speeds), draw, SPEED)]
        return speed if seconds / speed <= self.max_seconds else 1.0


def open_speech(path: str, *, name: str, cache: Path) -> Source:
    """Shards, or JSONL and manifests, told apart by the ending of the path."""
    if path.rstrip("}").endswith((".jsonl", ".json")):
        return JsonlSource(path, name=name, cache=cache)
    return ShardSource(path, name=name, cache=cache)


def _chosen(count: int, draw: int, what: int) -> int:
    return int(uniform(draw, what) * count)


def _seconds(recording: Recording, *, name: str) -> float:
    """How long a recording lasts."""
    if not isinstance(recording, Excerpt):
        return audio_duration(recording, name=name)
    if recording.duration is not None:
        return recording.duration
    return max(0.0, audio_duration(recording.source, name=name) - recording.start)


def _part(recording: Recording, *, start: float, duration: float) -> Excerpt:
    if isinstance(recording, Excerpt):
        return replace(recording, start=recording.start + start, duration=duration)
    return Excerpt(source=recording, start=start, duration=duration)


def _decoded(recording: Recording, *, max_seconds: float, name: str) -> Tensor:
    """The waveform, [samples]; refused where there is more of it than its header says."""
    limit = max_seconds + SLACK_SECONDS
    if isinstance(recording, Excerpt):
        return read_audio(
            recording.source,
            start=recording.start,
            duration=recording.duration,
            max_seconds=limit,
            name=name,
        )
    return read_audio(recording, max_seconds=limit, name=name)


def _check_said(sample: Sample, seconds: float) -> None:
    """Batches were planned by what the record says; more than that would not fit."""
    said = sample.record.get("duration")
    if isinstance(said, int | float) and 0 < said < seconds - SLACK_SECONDS:
        raise InputError(sample.name, f"lasts {seconds:.2f} s, its record says {said:g} s")


def _said(sample: Sample) -> str | None:
    """What is said, if the record can be read; sound alone is enough for pre-training."""
    try:
        return transcript(sample.record, name=sample.name).text
    except InputError:
        return None


def _played(dialogue: Dialogue) -> list[Recording]:
    return [
        part["audio"]
        for message in dialogue
        if isinstance(message.get("content"), list)
        for part in message["content"]
        if part.get("type") == "audio"
    ]


def _with_sound(dialogue: Dialogue, waveforms: Sequence[Tensor]) -> Dialogue:
    """The dialogue with decoded recordings in the places of files."""
    following = iter(waveforms)
    return [
        {
            **message,
            "content": [
                {"type": "audio", "audio": (next(following), SAMPLE_RATE)}
                if part.get("type") == "audio"
                else part
                for part in message["content"]
            ],
        }
        if isinstance(message.get("content"), list)
        else message
        for message in dialogue
    ]
