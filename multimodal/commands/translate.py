"""`openherd translate RECORDING... --to LANGUAGE`: say in another language what they say."""

from collections.abc import Sequence

from multimodal.commands.options import new_parser, parse
from multimodal.commands.recordings import add_recording_options, hear_each


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser("translate", "Say in another language what recordings say.")
    add_recording_options(parser)
    parser.add_argument(
        "--to", type=str, default="English", help="language to translate into, by name or code"
    )
    options = parse(parser, words)
    return hear_each(options, to=options.to)
