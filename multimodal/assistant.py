"""A model and its processor, ready to be asked: the Python interface that the command stands on.

Answers come in pieces of whole characters. A dialogue that goes on (`stream`) reads its new turn
alone; questions and captions each start anew, so that no answer depends on what was asked before.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image

from language.chat import template_date
from language.errors import InputError
from language.generation import GenerationConfig, generate
from language.tokenizer import TextStream, load_tokenizer
from multimodal.attention_map import attention_map, draw_attention, with_answer
from multimodal.batch import Batch
from multimodal.checkpoint import companions_of, save_model
from multimodal.conversation import Conversation
from multimodal.frames_sheet import draw_sheet, frames_attention
from multimodal.locations import find_model, load_weights, torch_device
from multimodal.media import Medium, Watched, content_of, kind_of, turn
from multimodal.model import MultimodalLlama
from multimodal.processor import Message, Processor
from multimodal.rows import Encoded
from multimodal.session import MultimodalSession
from multimodal.speaking import open_speaker
from multimodal.transcript import Transcript
from multimodal.transcription import Hearing, TranscriptionConfig, heard_together, named
from speech.audio import Audio
from video.frames import Clip
from vision.pictures import Picture, open_picture

CAPTION_REQUESTS = {"image": "Describe the picture.", "video": "Describe the clip."}
"""What is asked for a caption."""

BATCH_SIZE = 16
"""Most pictures of a list that are answered side by side."""


def load(
    model: str | Path = "tiny",
    *,
    core: str | Path | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> "Assistant":
    """Load a model with all that is needed to use it.

    Args:
        model: "tiny", which ships with the package; a directory of ours, of Hugging Face's Llama
            3.x or Llama 3.2 Vision, or of Meta's, told apart by content; a name on the hub.
        core: the core that `model` belongs to, where that is an adapter alone.
        device: "auto" is a GPU if there is one.
        dtype: of the weights; "auto" is bfloat16 on a GPU and float32 without one.

    Raises:
        InputError: what is wrong with which file.
    """
    directory = find_model(model)
    core_directory = None if core is None else find_model(core)
    weights = load_weights(directory, core=core_directory, device=torch_device(device), dtype=dtype)
    return Assistant(weights, companions=companions_of(core_directory or directory))


class Assistant:
    """Captions, answers, transcribes, translates and talks."""

    def __init__(self, model: MultimodalLlama, *, companions: Path) -> None:
        """Put a model to use.

        Args:
            model: in eval mode.
            companions: directory of its tokenizer and of what else lies beside weights.

        Raises:
            InputError: there is no tokenizer, or one of another model.
        """
        tokenizer = load_tokenizer(companions)
        vocab_size = model.config.language.vocab_size
        if tokenizer.vocab_size > vocab_size:
            raise InputError(
                companions,
                f"its tokenizer has {tokenizer.vocab_size:,} tokens, the model {vocab_size:,}",
            )
        self.model = model
        self.processor = Processor(tokenizer, model.config, date=template_date(companions))
        self.generation = GenerationConfig.from_directory(companions, tokenizer=tokenizer)
        # Training knows no date lines: with them the prompts would not be those of the training.
        self._listener = Processor(tokenizer, model.config)
        self.transcription = TranscriptionConfig()
        """How recordings are cut and answered."""
        self.companions = companions
        self._conversation = Conversation(model)

    def configure(self, **settings: Any) -> None:
        """Change how answers are drawn: fields of `GenerationConfig`, as `temperature=0.7`.

        Raises:
            InputError: a value out of range.
        """
        try:
            self.generation = replace(self.generation, **settings)
        except ValueError as error:
            raise InputError("generation", str(error)) from None

    @overload
    def caption(self, medium: Medium, *, request: str | None = ...) -> str: ...

    @overload
    def caption(self, medium: list[Medium], *, request: str | None = ...) -> list[str]: ...

    def caption(
        self, medium: Medium | list[Medium], *, request: str | None = ""
    ) -> str | list[str]:
        """Say what a picture or a clip shows.

        Args:
            medium: a path, bytes, a PIL image, an array, or a `Clip`; or a list of them.
            request: what is asked, by default for a description; None continues the picture as a
                model does that has only been pre-trained on captions, and was never taught to
                answer.

        Returns:
            The caption, or a list of them.

        Raises:
            InputError: a medium is unusable.
        """
        if isinstance(medium, list):
            return self._answers(self._caption_prompt(each, request) for each in medium)
        return "".join(self.stream_caption(medium, request=request))

    @overload
    def ask(self, medium: Medium, question: str, *, sound: bool = ...) -> str: ...

    @overload
    def ask(self, medium: list[Medium], question: str, *, sound: bool = ...) -> list[str]: ...

    def ask(
        self, medium: Medium | list[Medium], question: str, *, sound: bool = False
    ) -> str | list[str]:
        """Answer a question about a picture or clip, or about each of a list.

        Args:
            medium: as for `caption`.
            question: what is asked.
            sound: whether a clip is heard, too.

        Raises:
            InputError: a medium is unusable, or the question too long.
        """
        if isinstance(medium, list):
            return self.answer_all(self._turn(each, question, sound=sound) for each in medium)
        return "".join(self.stream_answer(medium, question, sound=sound))

    def stream_caption(self, medium: Medium, *, request: str | None = "") -> Iterator[str]:
        """Yield a caption in pieces; see `caption`."""
        yield from self._stream(self._caption_prompt(medium, request), Conversation(self.model))

    def stream_answer(self, medium: Medium, question: str, *, sound: bool = False) -> Iterator[str]:
        """Yield an answer in pieces; see `ask`."""
        prompt = self._prompt(self._turn(medium, question, sound=sound))
        yield from self._stream(prompt, Conversation(self.model))

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """Yield the answer to a dialogue in pieces.

        A dialogue that continues the last one reads only what is new.

        Args:
            messages: each with `role` and `content`, which is a text or a list of parts:
                `{"type": "text", "text": ...}`, `{"type": "image", "image": picture}`,
                `{"type": "video", "video": clip}` (with `"sound": True` it is heard, too),
                `{"type": "audio", "audio": recording}`.

        Raises:
            InputError: a message is malformed, a medium unusable, or all of it too long.
        """
        prompt = self._prompt(messages)
        # Another stream that starts before this one ends gets a conversation of its own.
        conversation, self._conversation = self._conversation, Conversation(self.model)
        try:
            yield from self._stream(prompt, conversation)
        finally:
            self._conversation = conversation

    def transcribe(self, recording: Audio, *, language: str | None = None) -> Transcript:
        """Write down what a recording says.

        Args:
            recording: a path, bytes, or an array with its rate; of any length.
            language: English name or code of the language that is spoken; the model is asked for
                it by default.

        Returns:
            The text, its segments with their times, and the language.

        Raises:
            InputError: the recording is unusable, the language unknown, or the model cannot hear.
        """
        return self._heard(self.hearing(recording, language=language))

    def translate(self, recording: Audio, *, to: str = "English") -> Transcript:
        """Say in another language what a recording says.

        Args:
            recording: a path, bytes, or an array with its rate; of any length.
            to: English name or code of the language to translate into.

        Raises:
            InputError: the recording is unusable, the language unknown, or the model cannot hear.
        """
        return self._heard(self.hearing(recording, to=to))

    def hear_all(
        self, recordings: Iterable[Audio], *, language: str | None = None, to: str | None = None
    ) -> list[Transcript]:
        """Transcripts, or with ``to`` translations, of recordings that are heard side by side.

        Args:
            recordings: each as for `transcribe`.
            language: that is spoken in all of them; needed, unless they are translated.
            to: the language to translate into.

        Raises:
            InputError: as `transcribe` and `translate` do, about the first that is at fault.
        """
        if language is None and to is None:
            return [self.transcribe(recording) for recording in recordings]
        return heard_together([self.hearing(each, language=language, to=to) for each in recordings])

    def hearing(
        self, recording: Audio, *, language: str | None = None, to: str | None = None
    ) -> Hearing:
        """A transcription, or with ``to`` a translation, whose text can be read as it is written.

        Raises:
            InputError: a language is unknown, or the model cannot hear.
        """
        if self.model.config.speech_encoder is None:
            raise InputError(self.companions, "this model cannot hear: it has no speech parts")
        return Hearing(
            model=self.model,
            processor=self._listener,
            generation=replace(self.generation, temperature=self.transcription.temperature),
            config=self.transcription,
            source=recording,
            language=named(language),
            to=named(to),
        )

    def answer_all(
        self, dialogues: Iterable[Sequence[Message]], *, batch_size: int = BATCH_SIZE
    ) -> list[str]:
        """Answer dialogues that have nothing to do with each other, some at a time.

        Args:
            dialogues: each as for `stream`.
            batch_size: how many at a time.

        Raises:
            InputError: as for `stream`, about the first that is at fault.
        """
        return self._answers((self._prompt(each) for each in dialogues), batch_size=batch_size)

    def look(self, picture: Picture, question: str) -> tuple[str, Image.Image]:
        """Answer a question, and draw what was looked at while answering.

        Returns:
            The answer, and the picture with the cross-attention weights laid over it.

        Raises:
            InputError: the picture is unusable.
        """
        shown = open_picture(picture)
        said, seen = self.answered(shown, question)
        weights = attention_map(self.model, seen, num_tokens=max(1, len(said)))
        tiles = self.model.config.tiles
        assert tiles is not None, "the processor refused the picture"
        return self._text(said), draw_attention(shown, weights, tiles)

    def watch(self, clip: Clip, question: str, *, sound: bool = False) -> tuple[str, Image.Image]:
        """Answer a question about a clip, and draw its sampled frames on a sheet.

        Args:
            clip: as for a `{"type": "video"}` part.
            question: what is asked.
            sound: whether the clip is heard, too.

        Returns:
            The answer, and the frames with their times and where the answer's attention lay.

        Raises:
            InputError: the clip is unusable, or the model has no video parts.
        """
        said, seen = self.answered(Watched(clip), question, sound=sound)
        weights = frames_attention(self.model, seen, num_tokens=max(1, len(said)))
        watcher = self.processor.watcher
        assert watcher is not None, "the processor refused the clip"
        frames = list(watcher.reader(clip, watcher.clips.num_frames))
        return self._text(said), draw_sheet(frames, weights, watcher.frame_tiles)

    def answered(
        self, medium: Medium, question: str, *, sound: bool = False
    ) -> tuple[list[int], Batch]:
        """An answer's tokens, and the row with those that gave it, for a look inside.

        These are the prompt's last token and all of the answer but its own last.

        Raises:
            InputError: as for `ask`.
        """
        batch = self._batch([self._prompt(self._turn(medium, question, sound=sound))])
        said = list(self._tokens(batch, Conversation(self.model)))
        return said, with_answer(batch, said[:-1])

    def speak(self, text: str, file: str | Path) -> None:
        """Read a text aloud into a WAV file.

        Raises:
            InputError: nothing could be said, or the extra ``speak`` is not installed.
        """
        open_speaker(beside=self.companions).speak(text, file)

    def save(self, directory: str | Path) -> None:
        """Write model, tokenizer and what lies beside them as a directory that `load` reads.

        Raises:
            InputError: something stands there that would be lost.
        """
        save_model(self.model, directory, self.processor.tokenizer, companions=self.companions)

    def _heard(self, hearing: Hearing) -> Transcript:
        for _ in hearing.pieces():
            pass
        return hearing.transcript()

    def _prompt(self, messages: Sequence[Message]) -> Encoded:
        return self.processor.encode(messages, train=False)

    def _turn(self, medium: Medium, text: str, *, sound: bool = False) -> list[Message]:
        return turn(medium, text, watches=self.processor.watcher is not None, sound=sound)

    def _caption_prompt(self, medium: Medium, request: str | None) -> Encoded:
        kind = kind_of(medium, watches=self.processor.watcher is not None)
        if request is None:
            return self.processor.encode_caption(content_of(medium), kind=kind)
        return self._prompt(self._turn(medium, request or CAPTION_REQUESTS[kind]))

    def _batch(self, rows: list[Encoded]) -> Batch:
        weight = self.model.language.embedding.weight
        return self.processor.collate(rows).to(weight.device, dtype=weight.dtype)

    def _settings(self, num_tokens: int) -> GenerationConfig:
        """How to draw after a prompt of so many tokens: no further than positions go."""
        room = self.model.config.language.max_positions - num_tokens
        if room < 1:
            raise InputError("messages", f"{num_tokens:,} tokens leave no room for an answer")
        return replace(self.generation, max_new_tokens=min(room, self.generation.max_new_tokens))

    def _tokens(self, batch: Batch, conversation: Conversation) -> Iterator[int]:
        settings = self._settings(batch.tokens.shape[1])
        session, logits = conversation.read(batch, max_new_tokens=settings.max_new_tokens)
        for (token,) in generate(session, logits, settings):
            assert token is not None, "generation ends with its only row"
            conversation.extend(token)
            yield token

    def _stream(self, prompt: Encoded, conversation: Conversation) -> Iterator[str]:
        text = TextStream(self.processor.tokenizer)
        for token in self._tokens(self._batch([prompt]), conversation):
            if piece := text.push(token):
                yield piece
        if rest := text.finish():
            yield rest

    def _answers(self, prompts: Iterator[Encoded], *, batch_size: int = BATCH_SIZE) -> list[str]:
        """Answer prompts in batches; each row's answer is the one that it gets alone."""
        answers = []
        while rows := list(islice(prompts, batch_size)):
            batch = self._batch(rows)
            settings = self._settings(batch.tokens.shape[1])
            session = MultimodalSession(
                self.model,
                batch_size=len(batch.tokens),
                max_length=batch.tokens.shape[1] + settings.max_new_tokens,
            )
            steps = list(generate(session, session.prefill(batch), settings))
            for row in range(len(batch.tokens)):
                answers.append(self._text([step[row] for step in steps]))
        return answers

    def _text(self, tokens: Sequence[int | None]) -> str:
        text = TextStream(self.processor.tokenizer)
        return "".join(text.push(t) for t in tokens if t is not None) + text.finish()
