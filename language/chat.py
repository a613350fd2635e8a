"""Llama 3's dialog format (paper section 4.1.1): messages as tokens, and which of them are learned.

    <|begin_of_text|><|start_header_id|>user<|end_header_id|>

    <|image|>What is this?<|eot_id|><|start_header_id|>assistant<|end_header_id|>

    A cup.<|eot_id|>

The tokens are those of the published chat templates of Llama 3.x Instruct and Llama 3.2 Vision,
with texts trimmed as there. Three rules differ, on purpose: a text that spells a special token
stays text, the system message has the templates' date lines only where a date is given, and what a
tool says as a text is given as it is, not in quotes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
BUILT_IN_TOOLS = ("brave_search", "wolfram_alpha")
"""Tools that Llama 3.1 calls in its own notation, behind ``<|python_tag|>``."""
CODE_INTERPRETER = "code_interpreter"
"""The tool whose call is the code itself, behind ``<|python_tag|>``."""
DATE_LINES = "Cutting Knowledge Date: December 2023\nToday Date: {date}\n\n"


@dataclass(frozen=True, kw_only=True)
class MediaSlot:
    """Where a medium stands in the tokens."""

    kind: str
    """``image``, or another kind that the tokenizer has a placeholder for."""
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
            ``tool_calls``; a tool's content may be any JSON value.
        tokenizer: Llama 3's.
        add_header: whether the header of an answer to come stands at the end.
        date: today's date, as the templates of 3.1 and later put it before the system message.

    Raises:
        InputError: a message is malformed, or holds a medium that the tokenizer does not know.
    """
    dialog = Dialog()
    dialog.add([tokenizer.bos_id], learned=False)
    if date is not None:
        messages = _add_dated_system(dialog, messages, tokenizer, date=date)
    for number, message in enumerate(messages, start=1):
        source = f"message {number}"
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise InputError(source, f"its role must be one of {', '.join(ROLES)}")
        _add_message(dialog, message, tokenizer, source=source)
    if add_header:
        dialog.add(_header("assistant", tokenizer), learned=False)
    return dialog


def _add_dated_system(
    dialog: Dialog, messages: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, *, date: str
) -> Sequence[Mapping[str, Any]]:
    """Add the system message that opens every dialog of the templates; return the rest."""
    said = ""
    if messages and messages[0].get("role") == "system":
        said, messages = str(messages[0].get("content", "")).strip(), messages[1:]
    dialog.add(_header("system", tokenizer), learned=False)
    dialog.add(tokenizer.encode(DATE_LINES.format(date=date) + said), learned=False)
    dialog.add([tokenizer.special_tokens["<|eot_id|>"]], learned=False)
    return messages


def _header(role: str, tokenizer: Tokenizer) -> list[int]:
    special = tokenizer.special_tokens
    name = tokenizer.encode(role)
    begin, end = special["<|start_header_id|>"], special["<|end_header_id|>"]
    return [begin, *name, end, *tokenizer.encode("\n\n")]


def _add_message(
    dialog: Dialog, message: Mapping[str, Any], tokenizer: Tokenizer, *, source: str
) -> None:
    role = ROLES[message["role"]]
    learned = role == "assistant"
    dialog.add(_header(role, tokenizer), learned=False)
    end = "<|eot_id|>"
    if calls := message.get("tool_calls"):
        if not learned:
            raise InputError(source, "only the assistant calls tools")
        built_in = _add_call(dialog, calls, tokenizer, source=source)
        end = "<|eom_id|>" if built_in else end
    else:
        _add_content(dialog, message.get("content"), role, tokenizer, source=source)
    dialog.add([tokenizer.special_tokens[end]], learned=learned)


def _add_content(
    dialog: Dialog, content: Any, role: str, tokenizer: Tokenizer, *, source: str
) -> None:
    learned = role == "assistant"
    if role == "ipython" and not isinstance(content, str):
        content = json.dumps(content, ensure_ascii=False)
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise InputError(source, "its content must be a text or a list of parts")
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            dialog.add(tokenizer.encode(part["text"].strip()), learned=learned)
        elif isinstance(kind, str) and f"<|{kind}|>" in tokenizer.special_tokens:
            slot = MediaSlot(kind=kind, position=len(dialog.tokens), item=part.get(kind))
            dialog.media.append(slot)
            dialog.add([tokenizer.special_tokens[f"<|{kind}|>"]], learned=False)
        elif kind == "text" or not isinstance(kind, str):
            raise InputError(source, "each part needs a type, and a text part its text")
        else:
            raise InputError(source, f"this model takes no part of type {kind!r}")


def _add_call(dialog: Dialog, calls: Any, tokenizer: Tokenizer, *, source: str) -> bool:
    """Add the one call of a message; True if it is a built-in tool's."""
    try:
        (call,) = calls
        call = call.get("function", call)
        name, arguments = call["name"], call.get("arguments", {})
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        assert isinstance(name, str) and isinstance(arguments, Mapping)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            source, "tool_calls must hold one call with a name and a mapping of arguments"
        ) from None
    if name == CODE_INTERPRETER:
        text = str(arguments.get("code", ""))
    elif name in BUILT_IN_TOOLS:
        given = ", ".join(f'{key}="{value}"' for key, value in arguments.items())
        text = f"{name}.call({given})"
    else:
        given = json.dumps(arguments, ensure_ascii=False)
        text = f'{{"name": "{name}", "parameters": {given}}}'
        dialog.add(tokenizer.encode(text), learned=True)
        return False
    dialog.add([tokenizer.special_tokens["<|python_tag|>"]], learned=True)
    dialog.add(tokenizer.encode(text), learned=True)
    return True
