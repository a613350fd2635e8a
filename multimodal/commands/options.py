"""What the verbs that run a model have in common: their parser, the model and how it speaks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from language.errors import InputError

if TYPE_CHECKING:
    from multimodal.assistant import Assistant


def new_parser(verb: str, description: str) -> ArgumentParser:
    """Return the parser of one verb; its faults become one line (see `parse`)."""
    return ArgumentParser(prog=f"openherd {verb}", description=description, exit_on_error=False)


def add_model_options(parser: ArgumentParser) -> None:
    """Add the choice of model and of how it is run."""
    parser.add_argument(
        "--model",
        type=str,
        default="tiny",
        help="model directory (ours, Hugging Face Llama 3.x or Llama 3.2 Vision), a name on the "
        "Hugging Face hub, or 'tiny', which ships with the package",
    )
    parser.add_argument(
        "--core", type=str, help="where --model is an adapter alone: the directory of its core"
    )
    parser.add_argument(
        "--device", type=str, default="auto", help="where to run: auto, cpu, cuda, cuda:1, ..."
    )
    parser.add_argument(
        "--dtype",
        type=Literal["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="type of the weights; auto is bfloat16 on a GPU and float32 without one",
    )


def add_generation_options(parser: ArgumentParser) -> None:
    """Add how answers are drawn; what is not given comes from the model's own directory."""
    parser.add_argument("--max_new_tokens", type=int, help="longest answer, in tokens")
    parser.add_argument("--temperature", type=float, help="0 always takes the likeliest token")
    parser.add_argument("--top_p", type=float, help="draw from the likeliest tokens of this share")
    parser.add_argument("--top_k", type=int, help="draw from so many of the likeliest tokens")
    parser.add_argument("--seed", type=int, help="makes drawn answers repeatable")


def parse(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    """Parse the words after the verb.

    Raises:
        InputError: bad usage, on one line.
    """
    try:
        return parser.parse_args(list(words[1:]))
    except ArgumentError as error:
        raise InputError(str(words[0]), f"{error} (see: {parser.prog} --help)") from None


def load_assistant(options: Namespace) -> "Assistant":
    """Load the model that the options name, with their way of answering."""
    from multimodal.assistant import load

    assistant = load(options.model, core=options.core, device=options.device, dtype=options.dtype)
    if "max_new_tokens" in options:
        names = ("max_new_tokens", "temperature", "top_p", "top_k", "seed")
        assistant.configure(**{n: options[n] for n in names if options[n] is not None})
    return assistant
