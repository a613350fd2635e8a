"""`openherd caption PICTURE...`: say what each picture shows."""

from collections.abc import Sequence

from multimodal.commands.answers import answer_each
from multimodal.commands.options import (
    add_generation_options,
    add_model_options,
    load_assistant,
    new_parser,
    parse,
)


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser("caption", "Say what each picture shows.")
    parser.add_argument(
        "pictures", type=str, nargs="+", help="JPEG, PNG, WebP or GIF files, or folders of them"
    )
    add_model_options(parser)
    add_generation_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object a picture")
    options = parse(parser, words)
    assistant = load_assistant(options)
    return answer_each(
        options.pictures, assistant.stream_caption, as_json=options.json, key="caption"
    )
