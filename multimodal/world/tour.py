"""A short tour: the shipped model on pictures that it was never trained on, in the command's words.

`python -m multimodal.world.tour DIR` writes held-out pictures into DIR if it has none, then
captions them and asks about them by the very commands that it prints, what was drawn beside the
answers. Where the emoji set cannot be had, pictures made in the same way serve, which the package
carries.
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
SEED = 114

NEXT = """
Next:
  .venv/bin/openherd ask {picture} "What do you see?"
  .venv/bin/openherd ask {picture} "What do you see?" --attention {folder}/map.png
  .venv/bin/openherd chat {picture}
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
    print(NEXT.format(folder=folder, picture=folder / next(iter(known))))


if __name__ == "__main__":
    main()
