"""The benchmarks, by the name that the command line knows; a file each."""

import difflib
import importlib

from language.errors import InputError
from multimodal.evaluation.benchmark import Benchmark

NAMES = (
    "vqav2",
    "textvqa",
    "docvqa",
    "chartqa",
    "ai2d",
    "mmmu",
    "perceptiontest",
    "nextqa",
    "nextqa_mc",
    "tvqa",
    "activitynetqa",
    "librispeech",
    "mls",
    "voxpopuli",
    "fleurs",
    "fleurs_translation",
    "covost2",
    "mutox",
)
"""Image, video, speech, in the order of the paper's tables."""
_TOGETHER = {"nextqa_mc": "nextqa", "fleurs_translation": "fleurs"}
"""Benchmarks that read the same files as another one and share its module."""


def benchmark(name: str) -> Benchmark:
    """A benchmark.

    Raises:
        InputError: there is none of that name.
    """
    if name not in NAMES:
        close = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "see openherd evaluate --list"
        raise InputError(name, f"no such benchmark; {hint}")
    module = importlib.import_module(f"{__name__}.{_TOGETHER.get(name, name)}")
    return next(b for b in vars(module).values() if isinstance(b, Benchmark) and b.name == name)
