"""Recordings of any length as text: transcribed in their language, or translated (section 8.2).

A recording is cut where nobody speaks, each piece answers the prompt that the model was trained
with, and pieces are answered side by side. Nothing is cut off silently: what is left out, since it
holds no words, or could be cut short, stands in the transcript's remarks.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from language.errors import InputError
from language.generation import GenerationConfig, generate
from language.repetition import cut_repetition
from language.tokenizer import TextStream
from multimodal.languages import language_name
from multimodal.model import MultimodalLlama
from multimodal.processor import Processor
from multimodal.prompts import spoken_request
from multimodal.session import MultimodalSession
from multimodal.transcript import Transcript, TranscriptSegment
from speech.audio import SAMPLE_RATE, Audio, stream_audio
from speech.segmentation import Segment, SegmentationConfig, speech_segments

NUM_IDENTIFIED = 3
"""Pieces at the start of a recording that are asked for its language."""


class TooLongError(InputError):
    """A recording goes on for longer than is read."""


@dataclass(frozen=True, kw_only=True)
class TranscriptionConfig:
    """How recordings are cut and answered."""

    segmentation: SegmentationConfig = SegmentationConfig()
    """Where they are cut."""
    batch_size: int = 16
    """Pieces that are answered side by side."""
    temperature: float = 0.0
    """Of the answers, whatever the model's own directory says of dialogue: 0 is the likeliest."""
    min_confidence: float = -1.0
    """Mean log-probability of a token below which a piece counts as without words."""


@dataclass(kw_only=True)
class Piece:
    """What becomes known of a recording while it is read: some text, or the end of a segment."""

    text: str = ""
    """Characters that follow those before."""
    segment: TranscriptSegment | None = None
    """The segment that ends here; its text is what it is, whatever was shown of it before."""


@dataclass
class Hearing:
    """One recording being transcribed or translated."""

    model: MultimodalLlama
    processor: Processor
    generation: GenerationConfig
    config: TranscriptionConfig
    source: Audio
    language: str | None
    """English name of the language that is spoken; None is found out by asking the model."""
    to: str | None = None
    """English name of the language to translate into; None transcribes."""
    max_seconds: float = math.inf
    """Longest recording that is read."""
    segments: list[TranscriptSegment] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0
    """How much of the recording was read so far."""
    is_complete: bool = False
    """Whether the recording was read to its end."""
    _fault: InputError | None = None

    def pieces(self) -> Iterator[Piece]:
        """Read the recording to its end.

        Raises:
            InputError: it is unusable, or from some place on; what came before is answered first.
            TooLongError: it goes on after ``max_seconds``.
        """
        cut = self._cut()
        while batch := list(islice(cut, self.config.batch_size)):
            if self.language is None and self.to is None:
                self.language = self._identified(batch[:NUM_IDENTIFIED])
            yield from self._answered(batch)
        self._end()

    def transcript(self) -> Transcript:
        """All that was said, after :meth:`pieces` has ended."""
        return Transcript(
            text=" ".join(segment.text for segment in self.segments),
            segments=tuple(self.segments),
            language=self.language,
            duration=self.seconds,
            remarks=tuple(self.remarks),
        )

    def _cut(self) -> Iterator[Segment]:
        """The recording in pieces that the model can hear."""
        cutting = self.config.segmentation
        limit = min(cutting.max_seconds, self.processor.max_seconds)
        chunks = self._counted(stream_audio(self.source))
        return speech_segments(chunks, replace(cutting, max_seconds=limit))

    def _end(self) -> None:
        if self._fault is not None:
            raise self._fault
        self.is_complete = True

    def _counted(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The chunks, as far as they can be read: a fault is kept until those are answered."""
        try:
            for chunk in chunks:
                self.seconds += len(chunk) / SAMPLE_RATE
                if self.seconds > self.max_seconds:
                    raise TooLongError("recording", f"longer than {self.max_seconds:g} seconds")
                yield chunk
        except TooLongError:
            raise
        except InputError as fault:
            self._fault = fault

    def _identified(self, batch: Sequence[Segment]) -> str | None:
        """The language that the model names most often, longer pieces counting for more."""
        prompt = self.model.config.speech_prompts.identify
        votes: dict[str, float] = {}
        answers = _Answers(self, batch, prompt)
        for _ in answers.steps():
            pass
        for index, segment in enumerate(batch):
            try:
                name = language_name(answers.whole(index).strip().rstrip("."))
            except InputError:
                continue  # no language: the model was never taught to name them
            votes[name] = votes.get(name, 0.0) + segment.end - segment.start
        if not votes:
            return None
        return max(votes, key=lambda name: votes[name])

    def _answered(self, batch: Sequence[Segment]) -> Iterator[Piece]:
        """Answers in the order of the pieces: the first still unfinished one as it is written."""
        answers = _Answers(self, batch, self._prompt())
        shown = 0  # the piece whose text is being shown
        for texts in answers.steps():
            while shown < len(batch):
                if texts[shown]:
                    yield Piece(text=texts[shown])
                    texts[shown] = ""
                if not answers.ended[shown]:
                    break
                yield Piece(segment=self._judged(batch[shown], answers, shown))
                shown += 1
        for index in range(shown, len(batch)):
            if answers.unseen[index]:
                yield Piece(text=answers.unseen[index])
            yield Piece(segment=self._judged(batch[index], answers, index))

    def _prompt(self) -> str:
        prompts = self.model.config.speech_prompts
        if self.to is not None:
            return prompts.translate.format(language=self.to)
        return prompts.transcribe.format(language=self.language or "English")

    def _judged(self, segment: Segment, answers: "_Answers", index: int) -> TranscriptSegment:
        """The segment as it is kept: without text where there were no words in it."""
        text = answers.whole(index).strip()
        start, end = segment.speech_start, segment.speech_end
        place = f"{start:.1f} to {end:.1f} s"
        if text and answers.confidence(index) < self.config.min_confidence:
            self.remarks.append(f"{place}: no words made out")
            text = ""
        if answers.repeats(index):
            self.remarks.append(f"{place}: the answer repeats itself, and is cut")
        elif not answers.ended[index]:
            self.remarks.append(f"{place}: the answer is longer than fits, and may be cut short")
        kept = TranscriptSegment(start=start, end=end, text=text)
        if text:
            self.segments.append(kept)
        return kept


def heard_together(hearings: Sequence[Hearing]) -> list[Transcript]:
    """Transcripts of recordings whose pieces are answered side by side.

    Args:
        hearings: of one model, and of one language or translation, which must be known.

    Raises:
        InputError: a recording is unusable.
    """
    pieces = [(hearing, segment) for hearing in hearings for segment in hearing._cut()]
    size = hearings[0].config.batch_size if hearings else 1
    for start in range(0, len(pieces), size):
        batch = pieces[start : start + size]
        first = hearings[0]
        answers = _Answers(first, [segment for _, segment in batch], first._prompt())
        for _ in answers.steps():
            pass
        for index, (hearing, segment) in enumerate(batch):
            hearing._judged(segment, answers, index)
    for hearing in hearings:
        hearing._end()
    return [hearing.transcript() for hearing in hearings]


class _Answers:
    """The answers to pieces of a recording, written side by side."""

    def __init__(self, hearing: Hearing, batch: Sequence[Segment], prompt: str) -> None:
        self._hearing = hearing
        self._prompt, self._batch = prompt, batch
        self._scores: list[list[float]] = [[] for _ in batch]  # of each token, and of the end
        self._tokens: list[list[int]] = [[] for _ in batch]
        self.texts = [""] * len(batch)
        self.unseen = [""] * len(batch)
        """Text of each that :meth:`steps` has not given out yet."""
        self.ended = [False] * len(batch)
        """Whether each came to its end, and neither into a loop nor to the most tokens."""
        self._is_over = [False] * len(batch)

    def confidence(self, index: int) -> float:
        """Mean log-probability of what is kept of a piece's tokens, and of its end."""
        scores = self._scores[index][: len(self._kept(index)) + self.ended[index]]
        return sum(scores) / max(len(scores), 1)

    def repeats(self, index: int) -> bool:
        """Whether a piece's answer ends in a loop."""
        return len(self._kept(index)) < len(self._tokens[index])

    def whole(self, index: int) -> str:
        """A piece's answer, without what it says again and again."""
        if not self.repeats(index):
            return self.texts[index]
        return self._hearing.processor.tokenizer.decode(self._kept(index), skip_special=True)

    def _kept(self, index: int) -> list[int]:
        settings = self._hearing.generation
        return cut_repetition(
            self._tokens[index], max_loop=settings.max_loop, num_loops=settings.num_loops
        )

    @torch.no_grad()
    def steps(self) -> Iterator[list[str]]:
        """New text of every piece after each token; what is taken out of the list is seen."""
        hearing = self._hearing
        rows = [
            hearing.processor.encode(
                spoken_request((segment.samples, SAMPLE_RATE), self._prompt), train=False
            )
            for segment in self._batch
        ]
        weight = hearing.model.language.embedding.weight
        batch = hearing.processor.collate(rows).to(weight.device, dtype=weight.dtype)
        num_tokens = batch.tokens.shape[1]
        room = hearing.model.config.language.max_positions - num_tokens
        settings = hearing.generation
        settings = replace(settings, max_new_tokens=max(1, min(room, settings.max_new_tokens)))
        session = _Scored(
            hearing.model,
            batch_size=len(rows),
            max_length=num_tokens + settings.max_new_tokens,
        )
        streams = [TextStream(hearing.processor.tokenizer) for _ in rows]
        scored = None
        for step in generate(session, session.prefill(batch), settings):
            scored = session.logits
            self._score(scored, step, settings)
            for index, token in enumerate(step):
                if token is not None:
                    self._tokens[index].append(token)
                    self._add(index, streams[index].push(token))
            yield self.unseen
        if session.logits is not scored:  # the step at which the last of them ended
            self._score(session.logits, [None] * len(rows), settings)
        for index, stream in enumerate(streams):
            self._add(index, stream.finish())

    def _add(self, index: int, text: str) -> None:
        self.texts[index] += text
        self.unseen[index] += text

    def _score(
        self, logits: Tensor, step: Sequence[int | None], settings: GenerationConfig
    ) -> None:
        """Add what the tokens of a step were held for; a row that just ended, its closing one."""
        shares = logits.float().log_softmax(dim=-1)
        for index, token in enumerate(step):
            if self._is_over[index]:
                continue
            if token is not None:
                self._scores[index].append(float(shares[index, token]))
                continue
            self._is_over[index] = True
            stops = [stop for stop in settings.stop_ids if stop < shares.shape[-1]]
            end = float(shares[index, stops].logsumexp(dim=-1))
            self.ended[index] = not self.repeats(index)
            self._scores[index].append(end)


class _Scored(MultimodalSession):
    """A session that keeps the logits that the latest tokens are drawn from."""

    logits: Tensor

    def prefill(self, batch: Any) -> Tensor:
        """See :class:`MultimodalSession`."""
        self.logits = super().prefill(batch)
        return self.logits

    def append(self, tokens: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """See :class:`MultimodalSession`."""
        self.logits = super().append(tokens, lengths=lengths)
        return self.logits


def named(language: str | None) -> str | None:
    """The English name of a language given by name or code; None stays None.

    Raises:
        InputError: there is no such language.
    """
    return None if language is None else language_name(language)
