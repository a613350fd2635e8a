"""Messages with media as a batch: tokens, targets, tiles, samples, and who sees what.

A picture is one placeholder token in the text; its pixels stand beside it, and a mask says which
tokens see it (paper section 7.2; Llama 3.2 Vision's rule: from its own placeholder up to the next
picture, pictures that follow one another without text between them being seen together). Tokens and
mask are built together, row by row, so that they cannot disagree.

A recording is as many placeholder tokens as the speech parts will give embeddings for it, the two
special ones around it included (section 8.2); its samples stand beside the tokens.

Several dialogues about the same pictures become one row of packed documents: the pictures are
encoded once and no dialogue sees another.

Letters: T tokens of a row, M pictures of a row.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import get_worker_info

from language.chat import Dialog, MediaSlot, encode_dialog
from language.errors import InputError
from language.tokenizer import Tokenizer
from multimodal.batch import IGNORED, Batch, Images, Recordings
from multimodal.config import MultimodalConfig
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

MAX_RECORDINGS = 64
"""Most recordings of one row."""


class TooLongError(InputError):
    """More tokens than fit; training drops and counts such samples, and never cuts them."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One row of a batch, not yet padded."""

    tokens: NDArray[np.int64]
    """[T]."""
    targets: NDArray[np.int64]
    """Token wanted after each position, [T]; IGNORED where there is no loss."""
    documents: NDArray[np.int64]
    """Number of the dialogue that each token belongs to, [T]."""
    images: tuple[Tiles, ...]
    """The M pictures."""
    visible: NDArray[np.bool_]
    """Which pictures each token sees, [T, M]."""
    recordings: tuple[Tensor, ...] = ()
    """Samples of the recordings, each [samples] float32."""
    spoken: NDArray[np.bool_] | None = None
    """Which tokens are places of speech embeddings, [T]; None where there is no recording."""


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
        recordings: list[Tensor] = []
        placed = [self._with_recordings(dialogue, recordings) for dialogue in encoded]
        row = self._row(
            [dialogue.tokens for dialogue in placed],
            [dialogue.loss_mask for dialogue in placed],
            [[(slot.position, slot.item) for slot in dialogue.media] for dialogue in placed],
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

    def _parts_that_hear(self) -> tuple[Any, SpeechAdapter]:
        if self._hearing is None:
            raise InputError("messages", "a recording, but this model has no ears: no speech parts")
        return self._hearing

    def _with_recordings(self, dialog: Dialog, recordings: list[Tensor]) -> Dialog:
        """The dialog with as many placeholders as its recordings need, which are appended."""
        heard = [slot for slot in dialog.media if slot.kind == "audio"]
        if not heard:
            return dialog
        out, start = Dialog(), 0
        for slot in dialog.media:
            out.tokens += dialog.tokens[start : slot.position]
            out.loss_mask += dialog.loss_mask[start : slot.position]
            start = slot.position
            if slot.kind != "audio":
                moved = MediaSlot(kind=slot.kind, position=len(out.tokens), item=slot.item)
                out.media.append(moved)
                continue
            if len(recordings) == MAX_RECORDINGS:
                raise InputError("messages", f"more than {MAX_RECORDINGS} recordings in one row")
            samples = read_audio(slot.item, max_seconds=self.max_seconds)
            recordings.append(samples)
            out.add([self.tokenizer.audio_id] * self.num_positions(len(samples)), learned=False)
            start += 1
        out.tokens += dialog.tokens[start:]
        out.loss_mask += dialog.loss_mask[start:]
        return out

    def encode_caption(self, picture: Any, text: str | None = None) -> Encoded:
        """A picture and the text that goes with it, as the base model is trained (section 7.4).

        Args:
            picture: anything that `open_picture` takes.
            text: the caption; without it the row is a prompt for one.

        Raises:
            InputError: the picture is unusable.
            TooLongError: there are more tokens than fit.
        """
        tokenizer = self.tokenizer
        tokens = [tokenizer.image_id, tokenizer.bos_id]
        if text is not None:
            self._check_characters(len(text))
            tokens += tokenizer.encode(text) + [tokenizer.special_tokens["<|end_of_text|>"]]
        loss_mask = [False, False] + [True] * (len(tokens) - 2)
        return self._row([tokens], [loss_mask], [[(0, picture)]])

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Pad rows to the longest and put their pictures one after another."""
        return collate(rows, pad_id=self.tokenizer.pad_id)

    def _row(
        self,
        dialogues: list[list[int]],
        loss_masks: list[list[bool]],
        media: list[list[tuple[int, Any]]],
    ) -> Encoded:
        """Pack tokens, whether they are learned, and (position, picture) of each dialogue."""
        num_tokens = sum(map(len, dialogues))
        if num_tokens > self.max_tokens:
            raise TooLongError(
                "messages", f"{num_tokens:,} tokens, at most {self.max_tokens:,} fit"
            )
        pictures = {_identity(item): item for slots in media for _, item in slots}
        if len(pictures) > MAX_IMAGES:
            raise InputError("messages", f"{len(pictures)} pictures, at most {MAX_IMAGES} fit")
        columns = {identity: column for column, identity in enumerate(pictures)}
        visible = np.zeros((num_tokens, len(pictures)), dtype=bool)
        targets = np.full(num_tokens, IGNORED, dtype=np.int64)
        start = 0
        for tokens, loss_mask, slots in zip(dialogues, loss_masks, media, strict=True):
            stop = start + len(tokens)
            learned = np.array(loss_mask[1:], dtype=bool)
            targets[start : stop - 1][learned] = np.array(tokens[1:])[learned]
            spans = self._spans([position for position, _ in slots], length=len(tokens))
            for (first, last), (_, item) in zip(spans, slots, strict=True):
                visible[start + first : start + last, columns[_identity(item)]] = True
            start = stop
        return Encoded(
            tokens=np.concatenate([np.array(tokens, dtype=np.int64) for tokens in dialogues]),
            targets=targets,
            documents=np.repeat(np.arange(len(dialogues)), [len(d) for d in dialogues]),
            images=tuple(self._tiles(picture) for picture in pictures.values()),
            visible=visible,
        )

    def _spans(self, positions: list[int], *, length: int) -> list[tuple[int, int]]:
        """First token that sees each picture, and the first after it that does not."""
        spans: list[tuple[int, int]] = []
        stop = length
        following = length
        for position in reversed(positions):
            if self.config.visibility == "until_next" and following > position + 1:
                stop = following
            spans.append((position, stop))
            following = position
        return spans[::-1]

    def _tiles(self, picture: Any) -> Tiles:
        if self.config.tiles is None:
            raise InputError("messages", "a picture, but this model reads text alone")
        return tile_picture(open_picture(picture), self.config.tiles)

    def _check_characters(self, num_characters: int) -> None:
        """Refuse hopelessly long text before any memory is taken for it."""
        if num_characters > self.max_tokens * LONGEST_TOKEN:
            raise TooLongError(
                "messages",
                f"{num_characters:,} characters, more than {self.max_tokens:,} tokens hold",
            )


def collate(rows: Sequence[Encoded], *, pad_id: int) -> Batch:
    """Pad rows to the longest and put their pictures and recordings one after another."""
    length = max(len(row.tokens) for row in rows)
    num_images = max(len(row.images) for row in rows)

    def padded(values: list[NDArray[Any]], fill: int) -> Tensor:
        out = np.full((len(rows), length), fill, dtype=np.int64)
        for line, value in zip(out, values, strict=True):
            line[: len(value)] = value
        return torch.from_numpy(out)

    batch = Batch(
        tokens=padded([row.tokens for row in rows], pad_id),
        lengths=torch.tensor([len(row.tokens) for row in rows]),
        targets=padded([row.targets for row in rows], IGNORED),
    )
    if any(row.documents[-1] > 0 for row in rows):
        batch.documents = padded([row.documents for row in rows], -1)
    if num_images:
        visible = np.zeros((len(rows), length, num_images), dtype=bool)
        for line, row in zip(visible, rows, strict=True):
            line[: len(row.tokens), : len(row.images)] = row.visible
        images = [(i, tiles) for i, row in enumerate(rows) for tiles in row.images]
        batch.visible = torch.from_numpy(visible)
        batch.images = Images(
            tiles=_joined([tiles.pixels for _, tiles in images]),
            arrangements=torch.tensor([tiles.arrangement for _, tiles in images]),
            rows=torch.tensor([i for i, _ in images]),
        )
    if any(row.recordings for row in rows):
        recordings = [(i, samples) for i, row in enumerate(rows) for samples in row.recordings]
        none = np.zeros(0, dtype=bool)
        spoken = [none if row.spoken is None else row.spoken for row in rows]
        batch.spoken = padded(spoken, 0).bool()
        batch.recordings = Recordings(
            waveforms=pad_sequence([samples for _, samples in recordings], batch_first=True),
            lengths=torch.tensor([len(samples) for _, samples in recordings]),
            rows=torch.tensor([i for i, _ in recordings]),
        )
    return batch


def _joined(pixels: list[Tensor]) -> Tensor:
    """All tiles, one after another; in a loader's worker written where the trainer reads them."""
    if get_worker_info() is None:
        return torch.cat(pixels)
    shape = (sum(map(len, pixels)), *pixels[0].shape[1:])
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * pixels[0].element_size())
    return torch.cat(pixels, out=pixels[0].new_empty(0).set_(storage).view(shape))


def _identity(picture: Any) -> Any:
    """What tells two pictures apart without looking at them: a path, or the object itself."""
    return str(picture) if isinstance(picture, str | Path) else id(picture)


def _num_characters(messages: Sequence[Message]) -> int:
    total = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        parts = content if isinstance(content, list) else [{"text": content}]
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        total += sum(len(text) for text in texts if isinstance(text, str))
    return total
