"""Messages with media as a batch: tokens, targets, tiles, samples, and who sees what.

A picture is one placeholder token in the text; its pixels stand beside it, and a mask says which
tokens see it (paper section 7.2; Llama 3.2 Vision's rule: from its own placeholder up to the next
picture, pictures that follow one another without text between them being seen together). Tokens and
mask are built together, row by row, so that they cannot disagree.

A recording is as many placeholder tokens as the speech parts will give embeddings for it, the two
special ones around it included (section 8.2); its samples stand beside the tokens.

A clip is one placeholder too, its frames sampled over its time and cut as pictures are; every
token after it sees it (section 7.2).

Several dialogues about the same pictures or clips become one row of packed documents: the media are
encoded once and no dialogue sees another.

Letters: T tokens of a row, M pictures or clips of a row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from language.chat import Dialog, MediaSlot, encode_dialog
from language.errors import InputError
from language.tokenizer import Tokenizer
from multimodal.batch import IGNORED, Batch
from multimodal.config import MultimodalConfig
from multimodal.rows import Encoded, FrameTiles, collate
from multimodal.watching import Watcher
from speech.adapter import SpeechAdapter
from speech.audio import read_audio
from speech.encoder import build_encoder
from vision.pictures import open_picture
from vision.tiles import Tiles, tile_picture

Message = dict[str, Any]

LONGEST_TOKEN = 256
"""Characters: no token of a Llama vocabulary stands for more."""

MAX_IMAGES = 64
"""Most pictures of one row."""

MAX_CLIPS = 16
"""Most clips of one row."""

MAX_RECORDINGS = 64
"""Most recordings of one row."""


class TooLongError(InputError):
    """More tokens than fit; training drops and counts such samples, and never cuts them."""


class Processor:
    """What turns messages into the tensors that a model with this config reads."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: MultimodalConfig,
        *,
        max_tokens: int | None = None,
        date: str | None = None,
    ) -> None:
        """Settings of the rows.

        Args:
            tokenizer: the model's.
            config: says how pictures are cut and who sees them, and how recordings are heard.
            max_tokens: longest row; by default as many tokens as the core has positions.
            date: for the date lines of dialogues; see `language.chat.template_date`.
        """
        self.tokenizer = tokenizer
        self.config = config
        self.max_tokens = max_tokens or config.language.max_positions
        self.date = date
        self.watcher: Watcher | None = None
        if config.video_aggregator is not None and config.tiles is not None:
            self.watcher = Watcher(tiles=config.tiles, clips=config.clips)
        self._hearing: tuple[Any, SpeechAdapter] | None = None
        if config.speech_encoder is not None and config.speech_adapter is not None:
            with torch.device("meta"):  # asked for numbers alone
                parts = build_encoder(config.speech_encoder), SpeechAdapter(config.speech_adapter)
            self._hearing = parts

    def __call__(self, messages: Sequence[Message]) -> Batch:
        """A prompt: the messages, and the header of the assistant's answer.

        Raises:
            InputError: a medium is unusable, or there are more tokens than fit.
        """
        return self.collate([self.encode(messages, train=False)])

    def encode(
        self, messages: Sequence[Message] | Sequence[Sequence[Message]], *, train: bool = True
    ) -> Encoded:
        """A dialogue, or several about the same pictures, as one row.

        Args:
            messages: a dialogue, or a list of dialogues. An image that several of them show is the
                same object, or the same path, in each.
            train: whether it ends with the assistant's last answer, which is what is learned;
                otherwise with the header of an answer to come.

        Raises:
            InputError: a picture is unusable, or a dialogue malformed.
            TooLongError: there are more tokens than fit.
        """
        several = bool(messages) and not isinstance(messages[0], Mapping)
        dialogues = cast(Sequence[Sequence[Message]], messages if several else [messages])
        if any(len(dialogue) == 0 for dialogue in dialogues):
            raise InputError("messages", "there are no messages")
        self._check_characters(sum(map(_num_characters, dialogues)))
        encoded = [
            encode_dialog(dialogue, self.tokenizer, add_header=not train, date=self.date)
            for dialogue in dialogues
        ]
        return self.place(encoded)

    def place(self, dialogues: Sequence[Dialog]) -> Encoded:
        """Dialogues that are tokens already, one placeholder a medium, as one row.

        Raises:
            InputError: a medium is unusable.
            TooLongError: there are more tokens than fit.
        """
        recordings: list[Tensor] = []
        read: dict[Any, Tensor] = {}
        placed = [self._with_recordings(dialogue, recordings, read) for dialogue in dialogues]
        row = self._row(
            [dialogue.tokens for dialogue in placed],
            [dialogue.loss_mask for dialogue in placed],
            [[slot for slot in dialogue.media if slot.kind != "audio"] for dialogue in placed],
        )
        if not recordings:
            return row
        spoken = row.tokens == self.tokenizer.audio_id
        return replace(row, recordings=tuple(recordings), spoken=spoken)

    def num_positions(self, num_samples: int) -> int:
        """Tokens that a recording of so many samples at 16 kHz takes, special ones included.

        Raises:
            InputError: this model cannot hear.
        """
        encoder, adapter = self._parts_that_hear()
        return int(adapter.num_tokens(encoder.num_frames(num_samples))) + 2

    @property
    def max_seconds(self) -> float:
        """Longest recording that is heard at once."""
        encoder, _ = self._parts_that_hear()
        return min(self.config.max_seconds, encoder.max_seconds)

    def _parts_that_hear(self, recording: Any = None) -> tuple[Any, SpeechAdapter]:
        if self._hearing is None:
            name = medium_name(recording)
            raise InputError(name, "a recording, but this model has no ears: no speech parts")
        return self._hearing

    def _with_recordings(
        self, dialog: Dialog, recordings: list[Tensor], read: dict[Any, Tensor]
    ) -> Dialog:
        """The dialog with as many placeholders as its recordings need, which are appended.

        Args:
            dialog: with one placeholder a recording.
            recordings: of the row, in order.
            read: samples of what was read for the row already, so that several dialogues about
                one recording or clip decode it once.
        """
        heard = [slot for slot in dialog.media if slot.kind == "audio"]
        if not heard:
            return dialog
        out, start = Dialog(), 0
        for slot in dialog.media:
            out.tokens += dialog.tokens[start : slot.position]
            out.loss_mask += dialog.loss_mask[start : slot.position]
            start = slot.position
            if slot.kind != "audio":
                out.media.append(replace(slot, position=len(out.tokens)))
                continue
            if len(recordings) == MAX_RECORDINGS:
                raise InputError("messages", f"more than {MAX_RECORDINGS} recordings in one row")
            self._parts_that_hear(slot.item)
            identity = _identity(slot.item)
            if identity not in read:
                read[identity] = read_audio(slot.item, max_seconds=self.max_seconds)
            samples = read[identity]
            recordings.append(samples)
            out.add([self.tokenizer.audio_id] * self.num_positions(len(samples)), learned=False)
            start += 1
        out.tokens += dialog.tokens[start:]
        out.loss_mask += dialog.loss_mask[start:]
        return out

    def encode_caption(
        self,
        medium: Any,
        text: str | None = None,
        *,
        kind: Literal["image", "video"] = "image",
    ) -> Encoded:
        """A picture or clip and the text that goes with it, as in pre-training (section 7.4).

        Args:
            medium: anything that `open_picture` takes, or a clip.
            text: the caption; without it the row is a prompt for one.
            kind: which of the two it is.

        Raises:
            InputError: the medium is unusable.
            TooLongError: there are more tokens than fit.
        """
        tokenizer = self.tokenizer
        tokens = [tokenizer.image_id, tokenizer.bos_id]
        if text is not None:
            self._check_characters(len(text))
            tokens += tokenizer.encode(text) + [tokenizer.special_tokens["<|end_of_text|>"]]
        loss_mask = [False, False] + [True] * (len(tokens) - 2)
        return self._row([tokens], [loss_mask], [[MediaSlot(kind=kind, position=0, item=medium)]])

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Pad rows to the longest and put their pictures one after another."""
        return collate(rows, pad_id=self.tokenizer.pad_id)

    def _row(
        self, dialogues: list[list[int]], loss_masks: list[list[bool]], media: list[list[MediaSlot]]
    ) -> Encoded:
        """Pack tokens, whether they are learned, and what is looked at, of each dialogue."""
        num_tokens = sum(map(len, dialogues))
        if num_tokens > self.max_tokens:
            raise TooLongError(
                "messages", f"{num_tokens:,} tokens, at most {self.max_tokens:,} fit"
            )
        targets = np.full(num_tokens, IGNORED, dtype=np.int64)
        starts = [0, *accumulate(map(len, dialogues))]
        for start, tokens, loss_mask in zip(starts, dialogues, loss_masks, strict=False):
            learned = np.array(loss_mask[1:], dtype=bool)
            targets[start : start + len(tokens) - 1][learned] = np.array(tokens[1:])[learned]
        pictures, visible = self._seen("image", media, starts)
        clips, visible_clips = self._seen("video", media, starts)
        return Encoded(
            tokens=np.concatenate([np.array(tokens, dtype=np.int64) for tokens in dialogues]),
            targets=targets,
            documents=np.repeat(np.arange(len(dialogues)), [len(d) for d in dialogues]),
            images=tuple(map(self._tiles, pictures)),
            visible=visible,
            clips=tuple(map(self._frames, clips)),
            visible_clips=visible_clips if clips else None,
        )

    def _seen(
        self, kind: str, media: list[list[MediaSlot]], starts: list[int]
    ) -> tuple[list[Any], NDArray[np.bool_]]:
        """Pictures or clips of a row, each once, and which of them each token sees, [T, M].

        Args:
            kind: of the two.
            media: of each dialogue.
            starts: first token of each dialogue, and the row's length.
        """
        slots = [[slot for slot in dialogue if slot.kind == kind] for dialogue in media]
        found = {_identity(slot.item): slot.item for dialogue in slots for slot in dialogue}
        most, word = (MAX_CLIPS, "clips") if kind == "video" else (MAX_IMAGES, "pictures")
        if len(found) > most:
            raise InputError("messages", f"{len(found)} {word}, at most {most} fit")
        until_next = kind == "image" and self.config.visibility == "until_next"
        columns = {identity: column for column, identity in enumerate(found)}
        visible = np.zeros((starts[-1], len(found)), dtype=bool)
        for start, end, dialogue in zip(starts, starts[1:], slots, strict=False):
            seen = spans([slot.position for slot in dialogue], end - start, until_next=until_next)
            for (first, last), slot in zip(seen, dialogue, strict=True):
                visible[start + first : start + last, columns[_identity(slot.item)]] = True
        return list(found.values()), visible

    def _tiles(self, picture: Any) -> Tiles:
        if self.config.tiles is None:
            name = medium_name(picture)
            raise InputError(name, "a picture, but this model reads text alone")
        return tile_picture(open_picture(picture), self.config.tiles)

    def _frames(self, clip: Any) -> FrameTiles:
        if self.watcher is None:
            raise InputError(medium_name(clip), "a clip, but this model has no video parts")
        return self.watcher(clip)

    def _check_characters(self, num_characters: int) -> None:
        """Refuse hopelessly long text before any memory is taken for it."""
        if num_characters > self.max_tokens * LONGEST_TOKEN:
            raise TooLongError(
                "messages",
                f"{num_characters:,} characters, more than {self.max_tokens:,} tokens hold",
            )


def medium_name(medium: Any, otherwise: str = "messages") -> str:
    """What a refusal calls a medium: its path, if it came as one."""
    return str(medium) if isinstance(medium, str | Path) else otherwise


def spans(positions: list[int], length: int, *, until_next: bool) -> list[tuple[int, int]]:
    """First token that sees each picture, and the first after it that does not.

    Args:
        positions: of the pictures' placeholders, rising.
        length: tokens of the dialogue.
        until_next: whether the next picture ends it, pictures without text between them together.
    """
    found: list[tuple[int, int]] = []
    stop = length
    following = length
    for position in reversed(positions):
        if until_next and following > position + 1:
            stop = following
        found.append((position, stop))
        following = position
    return found[::-1]


def _identity(picture: Any) -> Any:
    """What tells two media apart without looking at them: a path, or the object itself."""
    return str(picture) if isinstance(picture, str | Path) else id(picture)


def _num_characters(messages: Sequence[Message]) -> int:
    total = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        parts = content if isinstance(content, list) else [{"text": content}]
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        total += sum(len(text) for text in texts if isinstance(text, str))
    return total
