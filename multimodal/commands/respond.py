"""`openherd respond SHARD|MANIFEST... --out FOLDER`: answer what recordings say by the core."""

from collections.abc import Sequence
from pathlib import Path

from language.errors import InputError
from multimodal.cli import complain
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
        "respond",
        "Make training data of spoken dialogue from transcribed recordings: the core answers each "
        "transcript, and its answer becomes what the recording is answered with.",
    )
    parser.add_argument(
        "sources", type=str, nargs="+", help="tar shards, or manifests of JSON lines"
    )
    parser.add_argument("--out", type=str, required=True, help="folder to write into")
    parser.add_argument("--max_words", type=int, default=60, help="longer transcripts are left out")
    parser.add_argument("--system", type=str, help="how the assistant shall behave")
    add_model_options(parser)
    add_generation_options(parser)
    options = parse(parser, words)
    sources, folder = [Path(source) for source in options.sources], Path(options.out)
    names = [source.name for source in sources]
    for source in sources:
        if names.count(source.name) > 1 or (folder / source.name).exists():
            raise InputError(source, f"would overwrite {folder / source.name}")
    assistant = load_assistant(options)
    system = [{"role": "system", "content": options.system}] if options.system else []

    def answer(texts: Sequence[str]) -> list[str]:
        return assistant.answer_all([*system, {"role": "user", "content": t}] for t in texts)

    from multimodal.data.responses import respond

    status = 0
    for source in sources:
        try:
            number, left_out = respond(
                source, folder / source.name, answer, max_words=options.max_words
            )
            print(f"{folder / source.name}: {number:,} dialogues, {left_out:,} records left out")
        except InputError as error:
            complain(str(error))
            status = 2
    return status
