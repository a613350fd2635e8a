"""OpenAI's requests for an answer, read without trust: text and media that they bring themselves.

Nothing is fetched for a request, and no file is read for it, unless a folder was opened to it.
"""

import base64
import binascii
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from language.generation import GenerationConfig
from multimodal.processor import Message
from multimodal.serving.limits import Limits, RefusedError

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
UNKNOWN = ("tools", "functions", "logprobs", "audio", "modalities", "response_format")
"""What is asked for by other requests, and not given here."""


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A request for an answer to a dialogue."""

    messages: list[Message]
    settings: GenerationConfig
    stops: tuple[str, ...]
    streams: bool
    counts_usage: bool
    """Whether a stream ends with the numbers of tokens."""


def chat_request(
    body: Any, *, usual: GenerationConfig, limits: Limits, files: Path | None
) -> ChatRequest:
    """Read a request.

    Args:
        body: its JSON.
        usual: how the model draws where the request says nothing.
        limits: of what it may ask for.
        files: folder whose files ``file://`` may name; None opens none.

    Raises:
        RefusedError: what is wrong with it.
    """
    if not isinstance(body, dict):
        raise RefusedError(400, "the request is no JSON object")
    for name in UNKNOWN:
        value = body.get(name)
        if value and value not in (["text"], {"type": "text"}):
            raise RefusedError(400, f"{name} is not supported", param=name)
    if body.get("n", 1) not in (1, None):
        raise RefusedError(400, "n must be 1", param="n")
    return ChatRequest(
        messages=_messages(body.get("messages"), limits=limits, files=files),
        settings=_settings(body, usual=usual, limits=limits),
        stops=_stops(body.get("stop"), limits=limits),
        streams=_flag(body, "stream"),
        counts_usage=bool((body.get("stream_options") or {}).get("include_usage")),
    )


def _messages(given: Any, *, limits: Limits, files: Path | None) -> list[Message]:
    if not isinstance(given, list) or not given:
        raise RefusedError(400, "messages must be a list with at least one", param="messages")
    if len(given) > limits.messages:
        raise RefusedError(400, f"more than {limits.messages} messages", param="messages")
    messages: list[Message] = []
    num_media = 0
    for index, each in enumerate(given):
        where = f"messages[{index}]"
        role = each.get("role") if isinstance(each, dict) else None
        if role not in ROLES:
            known = ", ".join(ROLES)
            raise RefusedError(400, f"{where}.role must be one of {known}", param=where)
        content = each.get("content")
        if isinstance(content, str):
            messages.append({"role": ROLES[role], "content": content})
            continue
        if not isinstance(content, list):
            raise RefusedError(400, f"{where}.content must be a text or a list", param=where)
        parts = [
            _part(part, where=f"{where}.content[{number}]", files=files)
            for number, part in enumerate(content)
        ]
        num_media += sum(part["type"] != "text" for part in parts)
        messages.append({"role": ROLES[role], "content": parts})
    if num_media > limits.media:
        raise RefusedError(400, f"more than {limits.media} media", param="messages")
    return messages


def _part(part: Any, *, where: str, files: Path | None) -> Message:
    """A part of a message, as the processor takes it."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise RefusedError(400, f"{where}.text must be a text", param=where)
        return {"type": "text", "text": part["text"]}
    if kind == "input_audio":
        given = part.get("input_audio")
        data = given.get("data") if isinstance(given, dict) else None
        return {"type": "audio", "audio": _decoded(data, where=f"{where}.input_audio.data")}
    if kind in ("image_url", "video_url"):
        given = part.get(kind)
        url = given.get("url") if isinstance(given, dict) else given
        medium = kind.removesuffix("_url")
        return {"type": medium, medium: _at(url, where=f"{where}.{kind}.url", files=files)}
    known = "text, image_url, video_url, input_audio"
    raise RefusedError(400, f"{where}.type must be one of {known}", param=where)


def _at(url: Any, *, where: str, files: Path | None) -> bytes | Path:
    """What a data URL holds, or the file that a file URL names."""
    if not isinstance(url, str):
        raise RefusedError(400, f"{where} must be a URL", param=where)
    if url.startswith("data:"):
        head, comma, data = url.partition(",")
        if not comma or not head.endswith(";base64"):
            raise RefusedError(400, f"{where} must be data:TYPE;base64,DATA", param=where)
        return _decoded(data, where=where)
    if url.startswith("file://") and files is not None:
        path = Path(unquote(urlsplit(url).path)).resolve()
        if path.is_relative_to(files.resolve()) and path.is_file():
            return path
        raise RefusedError(400, f"{where} names no file of the folder that is open", param=where)
    raise RefusedError(400, f"{where} must be a data URL: nothing is fetched", param=where)


def _decoded(data: Any, *, where: str) -> bytes:
    if not isinstance(data, str) or not data:
        raise RefusedError(400, f"{where} must be base64", param=where)
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError(400, f"{where} is not base64", param=where) from None


def _settings(body: dict[str, Any], *, usual: GenerationConfig, limits: Limits) -> GenerationConfig:
    tokens = body.get("max_completion_tokens", body.get("max_tokens"))
    changes: dict[str, Any] = {"max_new_tokens": min(usual.max_new_tokens, limits.answer_tokens)}
    if tokens is not None:
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
            raise RefusedError(400, "max_tokens must be 1 or more", param="max_tokens")
        changes["max_new_tokens"] = min(tokens, limits.answer_tokens)
    for name, kinds in (("temperature", (int, float)), ("top_p", (int, float)), ("seed", int)):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise RefusedError(400, f"{name} must be a number", param=name)
        changes[name] = value
    try:
        return replace(usual, **changes)
    except ValueError as error:
        raise RefusedError(400, str(error)) from None


def _stops(given: Any, *, limits: Limits) -> tuple[str, ...]:
    stops = [given] if isinstance(given, str) else given or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise RefusedError(400, "stop must be a text or a list of texts", param="stop")
    if len(stops) > limits.stop_texts:
        raise RefusedError(400, f"more than {limits.stop_texts} stop texts", param="stop")
    return tuple(stops)


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool | None):
        raise RefusedError(400, f"{name} must be true or false", param=name)
    return bool(value)
