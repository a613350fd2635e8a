"""``python -m benchmarks [NAME...]``: prints every ratio as a row of a Markdown table."""

import argparse
import importlib
import logging
import warnings

import torch

from benchmarks.paired import HEADER, machine

NAMES = (
    "training_step",
    "decoding",
    "loader",
    "conformer",
    "best_rq",
    "transcription",
    "video_frames",
    "video_step",
    "serving",
    "evaluation",
    "first_sound",
)


def main() -> None:
    """Run the named benchmarks, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    print(machine(), end="\n\n")
    print(HEADER)
    for name in options.names or NAMES:
        for result in importlib.import_module(f"benchmarks.{name}").run():
            print(result.row(), flush=True)


if __name__ == "__main__":
    main()
