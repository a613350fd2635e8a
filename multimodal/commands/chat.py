"""`openherd chat`: a dialogue on the terminal, with media; earlier turns are not read again."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from language.errors import InputError
from multimodal.cli import complain
from multimodal.commands.options import (
    add_generation_options,
    add_model_options,
    load_assistant,
    new_parser,
    parse,
)
from vision.pictures import open_picture

if TYPE_CHECKING:
    from multimodal.watching import Watcher

MANUAL = """\
Write a line and press Enter. Commands:
  /image FILE   show a picture with the next line
  /video FILE   show a clip with the next line (/audio FILE as well, for its sound)
  /audio FILE   let a recording be heard with the next line
  /send         send what waits, without a line: a recording may say it all
  /new          start over
  /help         this
  /quit         leave (or Ctrl-D)"""


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser(
        "chat", f"Talk, with or without pictures, clips and recordings.\n\n{MANUAL}"
    )
    parser.add_argument(
        "pictures", type=str, nargs="*", help="pictures that the first line is about"
    )
    parser.add_argument("--system", type=str, help="how the assistant shall behave")
    add_model_options(parser)
    add_generation_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object an answer")
    options = parse(parser, words)
    waiting = [_image(path) for path in options.pictures]
    assistant = load_assistant(options)
    opening = [{"role": "system", "content": options.system}] if options.system else []
    messages: list[dict[str, Any]] = list(opening)
    status = 0
    for line in _lines():
        command, _, argument = line.partition(" ")
        try:
            if command == "/image":
                waiting.append(_image(argument.strip()))
            elif command == "/video":
                waiting.append(_clip(argument.strip(), assistant.processor.watcher))
            elif command == "/audio":
                limit = assistant.processor.max_seconds
                waiting.append(_recording(argument.strip(), max_seconds=limit))
            elif command == "/new":
                messages, waiting = list(opening), []
            elif command == "/help":
                print(MANUAL)
            elif command == "/quit":
                break
            elif command == "/send" and not waiting:
                raise InputError("/send", "nothing waits: /image, /video or /audio FILE first")
            else:
                said = [] if command == "/send" else [{"type": "text", "text": line}]
                turn = {"role": "user", "content": [*waiting, *said]}
                answer = _say(assistant.stream([*messages, turn]), as_json=options.json)
                messages += [turn, {"role": "assistant", "content": answer}]
                waiting = []
        except InputError as error:
            complain(str(error))
            status = 2
    return status


def _image(path: str) -> dict[str, Any]:
    """Open a picture now, so that a bad one is known before the line that is about it."""
    return {"type": "image", "image": open_picture(path)}


def _clip(path: str, watcher: "Watcher | None") -> dict[str, Any]:
    """Sample a clip now, for the same reason."""
    if watcher is None:
        raise InputError(path, "a clip, but this model has no video parts")
    return {"type": "video", "video": watcher(path)}


def _recording(path: str, *, max_seconds: float) -> dict[str, Any]:
    """Decode a recording now, for the same reason."""
    from speech.audio import SAMPLE_RATE, read_audio

    return {"type": "audio", "audio": (read_audio(path, max_seconds=max_seconds), SAMPLE_RATE)}


def _lines() -> Iterator[str]:
    """Yield the lines that are not empty; a person at a terminal gets a prompt."""
    is_person = sys.stdin.isatty()
    if is_person:
        import readline  # noqa: F401  (line editing and history, by being imported)

        print(MANUAL)
    while True:
        try:
            line = input("> " if is_person else "").strip()
        except EOFError:
            return
        if line:
            yield line


def _say(pieces: Iterator[str], *, as_json: bool) -> str:
    answer = ""
    for piece in pieces:
        answer += piece
        if not as_json:
            print(piece, end="", flush=True)
    print(json.dumps({"answer": answer}, ensure_ascii=False) if as_json else "", flush=True)
    return answer
