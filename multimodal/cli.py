"""The command `openherd`: reads the verb, hands the rest to its file in `multimodal/commands/`.

Exit status: 0 done; 2 bad usage or bad input, said in one line on stderr; 1 an internal fault;
130 stopped by Ctrl-C; 141 when the reader of a pipe went away. Nothing heavy is imported before the
verb is known, so that help comes at once.
"""

import difflib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence

from language.errors import InputError

VERBS = {
    "caption": ("caption", "say what pictures show"),
    "ask": ("ask", "answer a question about pictures"),
    "transcribe": ("transcribe", "write down what recordings say"),
    "translate": ("translate", "say in another language what recordings say"),
    "speak": ("speak", "read a text aloud"),
    "chat": ("chat", "talk, with or without pictures and recordings"),
    "respond": ("respond", "make spoken dialogues of transcribed recordings"),
    "convert": ("convert", "turn a model directory into another layout"),
    "info": ("info", "say what a model directory or a config is"),
    "serve": ("serve", "answer OpenAI clients over HTTP"),
    "demo": ("demo", "open a page in the browser"),
    "evaluate": ("evaluate", "measure a model on a benchmark"),
    "score": ("score", "score the kept answers of an evaluation again"),
    "plan": ("plan", "say what a training would cost on so many GPUs"),
    "fit": ("training", "train from a YAML config"),
    "validate": ("training", "measure a training config's model on its validation data"),
    "test": ("training", "measure a training config's model on its test data"),
}
"""Each verb's module in `multimodal.commands`, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Args:
        argv: the words after `openherd`; those of this process by default.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names and typed lines may be no UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(words)
        sys.stdout.flush()
        return status
    except InputError as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # What is still buffered would fail again when the interpreter closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception:
        traceback.print_exc()
        complain("internal fault: this is ours to mend, please report what stands above")
        return 1


def complain(line: str) -> None:
    """Print one line on stderr, after everything that was printed before."""
    sys.stdout.flush()
    print(f"openherd: {line}", file=sys.stderr, flush=True)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"openherd {version('openherd')}")
        return 0
    verb = words[0]
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(VERBS)}"
        raise InputError(verb, f"no such verb; {hint}")
    module = importlib.import_module(f"multimodal.commands.{VERBS[verb][0]}")
    return module.main(words)


def _overview() -> str:
    lines = [f"  {verb:<10} {what}" for verb, (_, what) in VERBS.items()]
    return "\n".join(
        [
            "usage: openherd VERB ...",
            "",
            "A multimodal Llama 3: a frozen language core that sees and hears through adapters.",
            "",
            *lines,
            "",
            "`openherd VERB --help` explains each; `openherd caption photo.jpg` is a start.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
