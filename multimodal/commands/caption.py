"""`openherd caption MEDIA...`: say what each picture or clip shows."""

from collections.abc import Iterator, Sequence

from multimodal.commands.answers import Named, answer_each
from multimodal.commands.options import (
    add_generation_options,
    add_model_options,
    load_assistant,
    new_parser,
    parse,
)


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser("caption", "Say what each picture or clip shows.")
    parser.add_argument(
        "media", type=str, nargs="+", help="pictures, clips, animations, or folders of them"
    )
    add_model_options(parser)
    add_generation_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object a medium")
    parser.add_argument(
        "--clip", action="store_true", help="watch each folder of pictures as one clip"
    )
    wording = parser.add_mutually_exclusive_group()
    wording.add_argument("--request", type=str, help="what to ask for, instead of a caption")
    wording.add_argument(
        "--base",
        action="store_true",
        help="ask for nothing: for a model that was pre-trained on captions and not yet fine-tuned",
    )
    options = parse(parser, words)
    assistant = load_assistant(options)
    wanted = {} if options.request is None else {"request": options.request}
    if options.base:
        wanted = {"request": None}

    def answer(medium: Named) -> Iterator[str]:
        return assistant.stream_caption(medium.medium, **wanted)

    return answer_each(
        options.media, answer, as_json=options.json, key="caption", as_clips=options.clip
    )
