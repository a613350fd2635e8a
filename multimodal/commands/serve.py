"""`openherd serve`: an endpoint that any OpenAI client may talk to."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from language.errors import InputError
from multimodal.commands.options import (
    add_generation_options,
    add_model_options,
    load_assistant,
    new_parser,
    parse,
)

if TYPE_CHECKING:
    from multimodal.serving.app import Endpoint

KEY = "OPENHERD_API_KEY"


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser(
        "serve",
        "Answer OpenAI's requests over HTTP: /v1/chat/completions (with pictures, clips and "
        "recordings), /v1/audio/transcriptions and translations, /v1/models, /health, /metrics. "
        f"Set {KEY} to ask clients for a key.",
    )
    add_model_options(parser)
    add_generation_options(parser)
    parser.add_argument("--host", type=str, default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at")
    parser.add_argument("--name", type=str, default="", help="what clients call the model")
    parser.add_argument("--rows", type=int, default=16, help="requests that are answered at once")
    parser.add_argument(
        "--context", type=int, default=0, help="tokens of a prompt and its answer; 0 is up to 8192"
    )
    parser.add_argument("--queue", type=int, default=64, help="requests that may wait for a row")
    parser.add_argument("--max_body_mb", type=int, default=64, help="longest request, in MB")
    parser.add_argument(
        "--max_sound_seconds", type=float, default=3600.0, help="longest recording, in seconds"
    )
    parser.add_argument("--files", type=str, help="folder whose files file:// URLs may name")
    options = parse(parser, words)
    for name in ("rows", "max_body_mb"):
        if options[name] < 1:
            raise InputError(f"--{name}", f"must be 1 or more, not {options[name]}")
    if options.context < 0 or options.queue < 0 or options.max_sound_seconds <= 0:
        raise InputError("serve", "--context and --queue must be 0 or more, times above 0")
    if options.files is not None and not Path(options.files).is_dir():
        raise InputError(options.files, "no such folder")
    listening = _listen(options.host, options.port)
    try:
        import uvicorn

        endpoint = make_endpoint(options)
    except ImportError as error:
        raise InputError(
            "serve", f"{error.name} is not installed: pip install 'openherd[serve]'"
        ) from None
    print(f"http://{options.host}:{listening.getsockname()[1]}/v1, model {endpoint.model!r}",
          flush=True)  # fmt: skip
    config = uvicorn.Config(endpoint.app(), log_level="warning", timeout_keep_alive=30)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        endpoint.engine.close()
        listening.close()
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Take a port, before the time that a model takes is spent."""
    try:
        return socket.create_server((host, port), backlog=2048)
    except (OSError, OverflowError) as error:
        raise InputError(f"{host}:{port}", f"cannot listen there ({error})") from None


def make_endpoint(options: Namespace) -> "Endpoint":
    """Load the model and take its memory."""
    from multimodal.serving.app import Endpoint
    from multimodal.serving.engine import Engine
    from multimodal.serving.limits import Limits
    from multimodal.serving.measures import Measures
    from multimodal.serving.transcriptions import Transcriber

    assistant = load_assistant(options)
    most = assistant.model.config.language.max_positions
    context = min(options.context or 8192, most)
    usual = Limits()
    limits = Limits(
        body_bytes=options.max_body_mb << 20,
        sound_seconds=options.max_sound_seconds,
        answer_tokens=min(context, options.max_new_tokens or usual.answer_tokens),
    )
    return Endpoint(
        assistant=assistant,
        engine=Engine(
            assistant.model,
            assistant.processor,
            num_rows=options.rows,
            max_length=context,
            max_waiting=options.queue,
        ),
        transcriber=Transcriber(assistant, limits, max_waiting=options.queue),
        measures=Measures(),
        limits=limits,
        model=options.name or Path(options.model).name,
        key=os.environ.get(KEY, ""),
        files=None if options.files is None else Path(options.files),
    )
