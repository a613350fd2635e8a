"""A harness's texts as the tokens that a model reads, media among them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from language.chat import Dialog, MediaSlot, encode_dialog
from language.errors import InputError
from language.tokenizer import AUDIO_TOKEN, IMAGE_TOKEN, Tokenizer
from multimodal.processor import Processor
from multimodal.rows import Encoded

BEGIN = "<|begin_of_text|>"
PLACES = {"<image>": ("image", IMAGE_TOKEN), "<audio>": ("audio", AUDIO_TOKEN)}
"""What stands for a medium in lm-eval's texts: its kind, and the token that it becomes."""
_PLACE = re.compile("(" + "|".join(map(re.escape, PLACES)) + ")")
_MEDIUM_TOKEN = re.compile("(" + "|".join(map(re.escape, (IMAGE_TOKEN, AUDIO_TOKEN))) + ")")


@dataclass(frozen=True)
class Prompt:
    """Tokens, and the media that stand among them."""

    tokens: tuple[int, ...]
    media: tuple[MediaSlot, ...] = ()

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for prompts that read the same."""
        return (self.tokens, *((slot.position, id(slot.item)) for slot in self.media))

    def followed_by(self, tokens: Sequence[int]) -> "Prompt":
        """The prompt and more text behind it."""
        return Prompt((*self.tokens, *tokens), self.media)

    def last(self, number: int) -> "Prompt":
        """The last ``number`` tokens, which is how harnesses shorten what does not fit.

        One with media is left as it is: the processor refuses it if it is too long.
        """
        return self if self.media or len(self.tokens) <= number else Prompt(self.tokens[-number:])

    def row(self, processor: Processor) -> Encoded:
        """What goes into a batch.

        Raises:
            InputError: a medium is unusable, or there are more tokens than fit.
        """
        tokens = list(self.tokens)
        return processor.place([Dialog(tokens, [False] * len(tokens), list(self.media))])


class Texts:
    """Encodes a harness's texts as lm-eval's own model for Hugging Face's Llama 3 does.

    A text begins with one ``<|begin_of_text|>``. One that brings it came out of :meth:`dialog`, and
    there alone the names of special tokens are those tokens; anywhere else they are what was typed.
    """

    def __init__(self, tokenizer: Tokenizer, *, add_bos: bool = True) -> None:
        """``add_bos`` says whether texts that do not begin with the token are given it."""
        self.tokenizer = tokenizer
        self.add_bos = add_bos

    def encode(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        """Tokens of a text.

        Args:
            text: any, or what :meth:`dialog` gave with more behind it.
            add_bos: by default as the settings say.
        """
        if text.startswith(BEGIN):
            return self._with_special(text)
        begins = self.add_bos if add_bos is None else add_bos
        return [self.tokenizer.bos_id] * begins + self.tokenizer.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special ones by their names."""
        return self.tokenizer.decode(tokens)

    def with_media(self, text: str, media: Mapping[str, Sequence[Any]]) -> Prompt:
        """A text with media in their places, ``<image>`` and ``<audio>``.

        Args:
            text: as for :meth:`encode`.
            media: those of each kind, "image" and "audio", in the order of their places.

        Raises:
            InputError: there are more or fewer places than media.
        """
        left: dict[str, Iterator[Any]] = {kind: iter(items) for kind, items in media.items()}
        tokens: list[int] = []
        slots: list[MediaSlot] = []
        special = text.startswith(BEGIN)
        for number, part in enumerate(_PLACE.split(text)):
            if number % 2 == 0:
                first = number == 0
                encode = self._with_special if special else self.tokenizer.encode
                tokens += self.encode(part) if first else encode(part)
                continue
            kind, name = PLACES[part]
            item = next(left.get(kind, iter(())), None)
            if item is None:
                raise InputError("request", f"more places {part} than media")
            slots.append(MediaSlot(kind=kind, position=len(tokens), item=item))
            tokens.append(self.tokenizer.special_tokens[name])
        if any(item is not None for items in left.values() for item in items):
            raise InputError("request", "more media than places for them in its text")
        return Prompt(tuple(tokens), tuple(slots))

    def dialog(
        self, messages: Sequence[Mapping[str, Any]], *, add_header: bool, date: str | None
    ) -> str:
        """A dialog as one text that :meth:`encode` makes its tokens of.

        Args:
            messages: each with a role and a text.
            add_header: whether an answer is to begin; otherwise the last message is gone on with.
            date: as for `encode_dialog`.
        """
        texts = [str(message.get("content")) for message in messages]
        if messages and messages[0]["role"] != "system" and any(map(_PLACE.search, texts)):
            date = None  # as where the media are parts of the messages
        found = encode_dialog(messages, self.tokenizer, add_header=add_header, date=date)
        return self.decode(found.tokens if add_header else found.tokens[:-1])

    def _with_special(self, text: str) -> list[int]:
        """Tokens of a text with special ones by their names, but those of media: they have places.

        Those have no row in the core's table.
        """
        tokens: list[int] = []
        for number, part in enumerate(_MEDIUM_TOKEN.split(text)):
            tokens += self.tokenizer.encode(part, allow_special=number % 2 == 0)
        return tokens


def media_of(arguments: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Media of a request of lm-eval, as `Texts.with_media` takes them.

    Args:
        arguments: "visual" and "audio", each one medium, a list, or None; a recording is what
            `datasets` makes of it, with "array" and "sampling_rate".
    """
    heard = [
        (each["array"], each["sampling_rate"]) if isinstance(each, Mapping) else each
        for each in _listed(arguments.get("audio"))
    ]
    return {"image": _listed(arguments.get("visual")), "audio": heard}


def _listed(media: Any) -> list[Any]:
    return [] if media is None else list(media) if isinstance(media, list) else [media]
