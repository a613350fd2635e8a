"""`openherd ask PICTURE... "question"`: answer a question about each picture."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from language.errors import InputError
from multimodal.commands.answers import answer_each
from multimodal.commands.options import (
    add_generation_options,
    add_model_options,
    load_assistant,
    new_parser,
    parse,
)
from vision.pictures import find_pictures


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser("ask", "Answer a question about each picture.")
    parser.add_argument(
        "media", type=str, nargs="+", help="JPEG, PNG, WebP or GIF files, or folders of them"
    )
    parser.add_argument("question", type=str, help="the question, in quotes")
    add_model_options(parser)
    add_generation_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object a picture")
    parser.add_argument(
        "--attention",
        type=str,
        help="write here, as PNG, the picture with what was looked at while answering; one picture",
    )
    options = parse(parser, words)
    if options.attention is not None:
        _check_attention(options.media, options.attention)
    assistant = load_assistant(options)

    def answer(picture: str) -> Iterator[str]:
        if options.attention is None:
            yield from assistant.stream_answer(picture, options.question)
            return
        text, seen = assistant.look(picture, options.question)
        seen.save(options.attention, "PNG")
        yield text

    return answer_each(
        options.media,
        answer,
        as_json=options.json,
        key="answer",
        fields={"question": options.question},
    )


def _check_attention(media: list[str], target: str) -> None:
    """Refuse before the model is loaded what could not be written after it answered."""
    if len(media) != 1 or len(find_pictures(media[0])) != 1:
        raise InputError("--attention", "draws one picture: give a single file")
    if Path(target).suffix.lower() != ".png":
        raise InputError(target, "--attention writes PNG: let the name end in .png")
    if not Path(target).resolve().parent.is_dir():
        raise InputError(target, "the folder does not exist")
