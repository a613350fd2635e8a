"""`openherd transcribe RECORDING...`: write down what recordings say."""

from collections.abc import Sequence

from multimodal.commands.options import new_parser, parse
from multimodal.commands.recordings import add_recording_options, hear_each


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser("transcribe", "Write down what recordings say, in their own language.")
    add_recording_options(parser)
    parser.add_argument(
        "--language",
        type=str,
        help="the language that is spoken, by English name or code; found out by default",
    )
    options = parse(parser, words)
    return hear_each(options, language=options.language)
