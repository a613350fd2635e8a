"""Llama 3's dialog format (paper section 4.1.1): messages as tokens, and which of them are learned.

    <|begin_of_text|><|start_header_id|>user<|end_header_id|>

    <|image|>What is this?<|eot_id|><|start_header_id|>assistant<|end_header_id|>

    A cup.<|eot_id|>

The tokens are those of the published chat templates. Where the templates of the releases differ: a
content that is one text is trimmed (Llama 3.x Instruct); texts in a list of parts, among pictures,
stand as they are (Llama 3.2 Vision). A tool's result is written as JSON, also where it is a text.

Three rules are our own, on purpose. A text that spells a special token stays text, so that nobody
can forge a turn. The date lines of the system message stand only where a date is given. A call of a
built-in tool, or of the code interpreter, has Meta's notation whether or not tools were announced.

A chat template in a model's directory is not executed: it is a program, and one that makes a string
in which typed and real special tokens cannot be told apart.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from language.errors import InputError
from language.tokenizer import Tokenizer

ROLES = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "ipython",
    "ipython": "ipython",
}
"""Roles of messages, and the names that stand in their headers."""
PLACEHOLDERS = {"image": "<|image|>", "audio": "<|audio|>", "video": "<|image|>"}
"""Token that stands for a medium of each kind; a clip's frames are pictures, and stand as one."""
MEDIA_KINDS = tuple(PLACEHOLDERS)
"""Types of parts that have a placeholder ``<|type|>``; no other special token can be asked for."""
BUILT_IN_TOOLS = ("brave_search", "wolfram_alpha")
"""Tools that Llama 3.1 calls in its own notation, behind ``<|python_tag|>``."""
CODE_INTERPRETER = "code_interpreter"
"""The tool whose call is the code itself, behind ``<|python_tag|>``."""
DATE_LINES = "Cutting Knowledge Date: December 2023\nToday Date: {date}\n\n"
TEMPLATE_DATE = "26 Jul 2024"
"""What the template of Llama 3.1 takes for today."""
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
MAX_TEMPLATE_BYTES = 1 << 20
_HEADER_GAP = "\n\n"


@dataclass(frozen=True, kw_only=True)
class MediaSlot:
    """Where a medium stands in the tokens."""

    kind: str
    """One of MEDIA_KINDS."""
    position: int
    """Index of its placeholder among the tokens."""
    item: Any
    """What the message holds: a path, bytes, a picture; None where the sample brings its own."""


@dataclass
class Dialog:
    """Messages as one sequence of tokens."""

    tokens: list[int] = field(default_factory=list)
    loss_mask: list[bool] = field(default_factory=list)
    """True on what the assistant says, its closing token included."""
    media: list[MediaSlot] = field(default_factory=list)

    def add(self, tokens: Sequence[int], *, learned: bool) -> None:
        """Append tokens that are all learned or all not."""
        self.tokens += tokens
        self.loss_mask += [learned] * len(tokens)


@dataclass(frozen=True)
class _Special:
    """A special token among the texts of a turn."""

    name: str


@dataclass(frozen=True)
class _Medium:
    """A picture, or another medium, among the texts of a turn."""

    kind: str
    item: Any


@dataclass
class _Turn:
    """What stands between a header and the header that follows it."""

    role: str
    pieces: list[str | _Special | _Medium]


def template_date(directory: Path) -> str | None:
    """The date that the chat template in a model's directory would write.

    The template is only searched for two words. Llama 3.1's writes a day of its own, later ones
    the day of use; those of Llama 3, and a directory without a template, write none.
    """
    for name in TEMPLATE_FILES:
        file = directory / name
        if file.is_file():
            with file.open(errors="replace") as stream:
                text = stream.read(MAX_TEMPLATE_BYTES)
            if "Cutting Knowledge Date" in text:
                today = datetime.date.today().strftime("%d %b %Y")
                return today if "strftime_now" in text else TEMPLATE_DATE
    return None


def encode_dialog(
    messages: Sequence[Mapping[str, Any]],
    tokenizer: Tokenizer,
    *,
    add_header: bool,
    date: str | None = None,
) -> Dialog:
    """Encode a dialog.

    Args:
        messages: each with ``role`` and ``content``: a text, or a list of parts of type ``text`` or
            of a medium (``{"type": "image", "image": ...}``). An assistant's may have
            ``tool_calls`` instead; a tool's content may be any JSON value.
        tokenizer: Llama 3's.
        add_header: whether the header of an answer to come stands at the end.
        date: today's date, as the templates of 3.1 and later put it before the system message;
            where there are pictures and no system message it is left out, as there.

    Raises:
        InputError: a message is malformed, or holds a medium that no placeholder stands for.
    """
    turns = [_turn(message, source=f"message {i}") for i, message in enumerate(messages, start=1)]
    if date is not None:
        lines = DATE_LINES.format(date=date)
        if turns and turns[0].role == "system":
            turns[0].pieces.insert(0, lines)
        elif not any(isinstance(piece, _Medium) for turn in turns for piece in turn.pieces):
            turns.insert(0, _Turn("system", [lines, _Special("<|eot_id|>")]))
    dialog = Dialog()
    dialog.add([tokenizer.bos_id], learned=False)
    for turn in turns:
        _add_turn(dialog, turn, tokenizer)
    if add_header:
        _add_turn(dialog, _Turn("assistant", []), tokenizer)
    return dialog


def _add_turn(dialog: Dialog, turn: _Turn, tokenizer: Tokenizer) -> None:
    """Add header and content; texts that stand together are encoded together."""
    special, is_learned = tokenizer.special_tokens, turn.role == "assistant"
    dialog.add([special["<|start_header_id|>"]], learned=False)
    dialog.add(tokenizer.encode(turn.role), learned=False)
    dialog.add([special["<|end_header_id|>"]], learned=False)
    text, num_given = _HEADER_GAP, len(_HEADER_GAP)
    for piece in turn.pieces:
        if isinstance(piece, str):
            text += piece
            continue
        _add_text(dialog, text, tokenizer, learned=is_learned, num_given=num_given)
        text, num_given = "", 0
        if isinstance(piece, _Special):
            dialog.add([special[piece.name]], learned=is_learned)
        else:
            slot = MediaSlot(kind=piece.kind, position=len(dialog.tokens), item=piece.item)
            dialog.media.append(slot)
            dialog.add([special[PLACEHOLDERS[piece.kind]]], learned=False)
    _add_text(dialog, text, tokenizer, learned=is_learned, num_given=num_given)


def _add_text(
    dialog: Dialog, text: str, tokenizer: Tokenizer, *, learned: bool, num_given: int
) -> None:
    """Add a text whose first ``num_given`` bytes belong to the header, and are never learned."""
    tokens, covered, first = tokenizer.encode(text), 0, 0
    while covered < num_given:
        covered += len(tokenizer.token_bytes(tokens[first]))
        first += 1
    dialog.add(tokens[:first], learned=False)
    dialog.add(tokens[first:], learned=learned)


def _turn(message: Any, *, source: str) -> _Turn:
    role = message.get("role") if isinstance(message, Mapping) else None
    if not isinstance(role, str) or role not in ROLES:
        raise InputError(source, f"its role must be one of {', '.join(ROLES)}")
    role = ROLES[role]
    if calls := message.get("tool_calls"):
        if role != "assistant":
            raise InputError(source, "only the assistant calls tools")
        return _Turn(role, _call(calls, source=source))
    content = message.get("content")
    if role == "ipython":
        return _Turn(role, [_json(content, source=source), _Special("<|eot_id|>")])
    if isinstance(content, str):
        return _Turn(role, [content.strip(), _Special("<|eot_id|>")])
    if not isinstance(content, list):
        raise InputError(source, "its content must be a text or a list of parts")
    parts = [piece for part in content for piece in _pieces(part, source=source)]
    return _Turn(role, [*parts, _Special("<|eot_id|>")])


def _pieces(part: Any, *, source: str) -> list[str | _Medium]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return [part["text"]]
    if kind in MEDIA_KINDS:
        media: list[str | _Medium] = [_Medium(kind, part.get(kind))]
        if kind == "video" and part.get("sound"):
            media.append(_Medium("audio", part.get(kind)))
        return media
    if kind == "text" or not isinstance(kind, str):
        raise InputError(source, "each part needs a type, and a text part its text")
    raise InputError(source, f"this model takes no part of type {kind!r}")


def _call(calls: Any, *, source: str) -> list[str | _Special | _Medium]:
    """Write the one tool call of a message."""
    try:
        (call,) = calls
        call = call.get("function", call)
        name, arguments = call["name"], call.get("arguments", {})
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        name = arguments = None
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise InputError(
            source, "tool_calls must hold one call with a name and a mapping of arguments"
        )
    if name == CODE_INTERPRETER:
        code = str(arguments.get("code", ""))
        return [_Special("<|python_tag|>"), code, _Special("<|eom_id|>")]
    if name in BUILT_IN_TOOLS:
        given = ", ".join(f'{key}="{value}"' for key, value in arguments.items())
        return [_Special("<|python_tag|>"), f"{name}.call({given})", _Special("<|eom_id|>")]
    given = _json(arguments, source=source)
    return [f'{{"name": "{name}", "parameters": {given}}}', _Special("<|eot_id|>")]


def _json(value: Any, *, source: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(source, f"holds what JSON cannot: {error}") from None
