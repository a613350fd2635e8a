"""`openherd demo`: the model in the browser."""

from collections.abc import Sequence
from pathlib import Path

from language.errors import InputError
from multimodal.commands.options import (
    add_generation_options,
    add_model_options,
    load_assistant,
    new_parser,
    parse,
)


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser(
        "demo",
        "Open a page at this machine: caption pictures, ask about them and about clips, write down "
        "and translate recordings, and compare two models blind. Needs no network.",
    )
    add_model_options(parser)
    add_generation_options(parser)
    parser.add_argument("--against", type=str, help="another model, to compare --model with")
    parser.add_argument(
        "--ratings", type=str, default="ratings.jsonl", help="file that ratings are kept in"
    )
    parser.add_argument("--host", type=str, default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=7860, help="port to listen at")
    options = parse(parser, words)
    if not 0 < options.port < 65536:
        raise InputError("--port", f"must be between 1 and 65535, not {options.port}")
    try:
        from multimodal.demo.actions import Actions
        from multimodal.demo.page import SAMPLES, build, theme
    except ImportError as error:
        raise InputError(
            "demo", f"{error.name} is not installed: pip install 'openherd[demo]'"
        ) from None
    from multimodal.assistant import load

    assistant = load_assistant(options)
    other = None
    if options.against is not None:
        other = load(options.against, device=options.device, dtype=options.dtype)
    name = Path(options.model).name
    other_name = "" if options.against is None else Path(options.against).name
    if other_name == name:
        other_name += " (2)"
    actions = Actions(
        assistant,
        name=name,
        other=other,
        other_name=other_name,
        ratings=Path(options.ratings),
    )
    actions.tally()  # a broken file of ratings is told before the page opens
    try:
        build(actions).launch(
            server_name=options.host,
            server_port=options.port,
            allowed_paths=[str(SAMPLES)],
            theme=theme(),
            footer_links=["settings"],
            quiet=True,
        )
    except OSError as error:
        raise InputError(f"{options.host}:{options.port}", f"cannot listen ({error})") from None
    return 0
