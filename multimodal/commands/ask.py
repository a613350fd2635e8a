"""`openherd ask MEDIA... "question"`: answer a question about each picture or clip."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from language.errors import InputError
from multimodal.commands.answers import Named, answer_each, find_media
from multimodal.commands.options import (
    add_generation_options,
    add_model_options,
    load_assistant,
    new_parser,
    parse,
)


def main(words: Sequence[str]) -> int:
    """Run the verb and return its exit status."""
    parser = new_parser("ask", "Answer a question about each picture or clip.")
    parser.add_argument(
        "media", type=str, nargs="+", help="pictures, clips, animations, or folders of them"
    )
    parser.add_argument("question", type=str, help="the question, in quotes")
    add_model_options(parser)
    add_generation_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object a medium")
    parser.add_argument(
        "--clip", action="store_true", help="watch each folder of pictures as one clip"
    )
    parser.add_argument(
        "--with-sound", action="store_true", help="hear the sound of clips while watching them"
    )
    parser.add_argument(
        "--speak", type=str, help="read the answer aloud, too, into this WAV file; one medium"
    )
    drawing = parser.add_mutually_exclusive_group()
    drawing.add_argument(
        "--attention",
        type=str,
        help="write here, as PNG, the picture with what was looked at while answering; one picture",
    )
    drawing.add_argument(
        "--frames-sheet",
        type=str,
        help="write here, as PNG, the frames of the clip with their times and what was looked at "
        "while answering; one clip",
    )
    options = parse(parser, words)
    if options.with_sound and options.attention is not None:
        raise InputError("--with-sound", "a picture has no sound, and --attention draws one")
    for option, target in (
        ("--attention", options.attention),
        ("--frames-sheet", options.frames_sheet),
    ):
        if target is not None:
            _check_drawing(options.media, target, option=option, clip=options.clip)
    if options.speak is not None:
        _check_speech(options.media, options.speak, clip=options.clip)
    assistant = load_assistant(options)

    from multimodal.speaking import open_speaker, spoken_along

    def answer(medium: Named) -> Iterator[str]:
        if options.frames_sheet is not None:
            clip = medium.path
            text, sheet = assistant.watch(clip, options.question, sound=options.with_sound)
            sheet.save(options.frames_sheet, "PNG")
            yield text
        elif options.attention is not None:
            text, seen = assistant.look(medium.path, options.question)
            seen.save(options.attention, "PNG")
            yield text
        else:
            yield from assistant.stream_answer(
                medium.medium, options.question, sound=options.with_sound
            )

    def heard(medium: Named) -> Iterator[str]:
        speaker = open_speaker(beside=assistant.companions)
        return spoken_along(answer(medium), speaker, options.speak)

    return answer_each(
        options.media,
        answer if options.speak is None else heard,
        as_json=options.json,
        key="answer",
        fields={"question": options.question},
        as_clips=options.clip,
    )


def _check_speech(media: list[str], target: str, *, clip: bool) -> None:
    """Refuse before the model is loaded what could not be written after it answered."""
    if len(media) != 1 or len(find_media(media[0], as_clips=clip)) != 1:
        raise InputError("--speak", "reads one answer aloud: give a single file")
    if Path(target).suffix.lower() != ".wav":
        raise InputError(target, "--speak writes WAV: let the name end in .wav")
    if not Path(target).resolve().parent.is_dir():
        raise InputError(target, "the folder does not exist")


def _check_drawing(media: list[str], target: str, *, option: str, clip: bool) -> None:
    """Refuse before the model is loaded what could not be written after it answered."""
    from video.frames import is_clip

    if option == "--attention" and any(map(is_clip, media)):
        raise InputError(option, "draws one picture: --frames-sheet draws the frames of a clip")
    if len(media) != 1 or len(find_media(media[0], as_clips=clip)) != 1:
        what = "picture" if option == "--attention" else "clip"
        raise InputError(option, f"draws one {what}: give a single file")
    if Path(target).suffix.lower() != ".png":
        raise InputError(target, f"{option} writes PNG: let the name end in .png")
    if not Path(target).resolve().parent.is_dir():
        raise InputError(target, "the folder does not exist")
