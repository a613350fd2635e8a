"""A short tour: the shipped model on pictures, clips and recordings that are new to it.

`python -m multimodal.world.tour DIR` writes held-out pictures into DIR if it has none, captions
them, asks about them and about clips, and transcribes and translates recordings by the very
commands that it prints, what is right beside the answers. Clips and recordings were made as the
pictures are, but the voices' program is not needed here: the package carries some, and pictures,
too, where the emoji set cannot be had.
"""

import argparse
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from language.errors import InputError
from multimodal.cli import main as openherd
from multimodal.locations import TINY
from multimodal.world.__main__ import write_pictures

NUM_PICTURES = 6
NUM_ASKED = 4
NUM_WATCHED = 4
NUM_HEARD = 6
SEED = 114

NEXT = """
Next:
  .venv/bin/openherd ask {picture} "What do you see?"
  .venv/bin/openherd ask {picture} "What do you see?" --attention {folder}/map.png
  .venv/bin/openherd ask {clip} "What happens?" --frames-sheet {folder}/sheet.png
  .venv/bin/openherd chat {picture}
  .venv/bin/openherd transcribe {folder}/recordings --output-format srt --output-dir {folder}
  .venv/bin/openherd info
  .venv/bin/openherd caption photo.jpg --model path/to/Llama-3.2-11B-Vision-Instruct
The shipped model knows its small world alone; README.md says which, and how to train on yours."""


def pictures(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what is known of the pictures in a folder, after making them if there are none."""
    listing = folder / "scenes.json"
    if not listing.exists():
        try:
            write_pictures(folder, split="test", number=NUM_PICTURES, seed=SEED, shapes_only=False)
        except (InputError, ImportError):
            shutil.copytree(TINY / "samples", folder, dirs_exist_ok=True)
    return json.loads(listing.read_text())


def watch(folder: Path) -> Path:
    """Ask what happens in held-out clips, and return the last of them."""
    if not folder.exists():
        shutil.copytree(TINY / "samples" / "clips", folder)
    known = json.loads((folder / "clips.json").read_text(encoding="utf-8"))
    names = list(known)[:NUM_WATCHED]
    run("caption", *(str(folder / name) for name in names))
    print("what happened:")
    for name in names:
        print(f"{folder / name}: {known[name]['caption']}")
    for name in names:
        question, answer = next(iter(known[name]["questions"].items()))
        run("ask", str(folder / name), question)
        print(f"what is right: {answer}")
    return folder / names[-1]


def hear(folder: Path) -> None:
    """Transcribe and translate recordings of held-out sentences."""
    if not folder.exists():
        shutil.copytree(TINY / "samples" / "recordings", folder)
    known = json.loads((folder / "sentences.json").read_text(encoding="utf-8"))
    names = list(known)[:NUM_HEARD]
    run("transcribe", *(str(folder / name) for name in names))
    print("what was said:")
    for name in names:
        print(f"{folder / name}: {known[name]['text']}")
    language, meaning = next(iter(known[names[0]]["translations"].items()))
    run("translate", str(folder / names[0]), "--to", language)
    print(f"what is right: {meaning}")


def run(*words: str) -> None:
    """Print a command and run it."""
    print(f"\n$ openherd {shlex.join(words)}", flush=True)
    if openherd(words):
        raise SystemExit("the tour ends here: the command above failed")


def main() -> None:
    """Read the command line and go."""
    parser = argparse.ArgumentParser(prog="python -m multimodal.world.tour", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("demo"))
    folder = parser.parse_args().folder
    known = pictures(folder)
    print(f"Pictures that the model has not seen: {folder}/")
    run("caption", *(str(folder / name) for name in known))
    print("what was drawn:")
    for name, facts in known.items():
        print(f"{folder / name}: {facts['caption']}")
    for name, facts in list(known.items())[:NUM_ASKED]:
        question, answer = next(iter(facts["questions"].items()))
        run("ask", str(folder / name), question)
        print(f"what is right: {answer}")
    clip = watch(folder / "clips")
    hear(folder / "recordings")
    print(NEXT.format(folder=folder, picture=folder / next(iter(known)), clip=clip))


if __name__ == "__main__":
    main()
