"""What a benchmark is: where its samples lie, what is asked, how an answer is scored.

A benchmark's file in `multimodal.evaluation.benchmarks` gives one :class:`Benchmark`. Its reader
finds the set as it is published, by content and offline; its scorer takes a raw answer, and
normalises it there and nowhere else, so that kept predictions can be scored again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from language.errors import InputError
from multimodal.processor import Message

Kind = Literal["image", "video", "speech"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a user may say about a benchmark; each one takes some of it."""

    split: str = ""
    """Part of the set; "" is the benchmark's own."""
    language: str = ""
    """Code of the language that is spoken, as the set writes it."""
    to: str = ""
    """Code of the language to translate into."""
    ocr: bool = False
    """Put the words that the set's own text recognition read into the prompt."""
    wordnet: str = ""
    """Folder of the WordNet dictionary."""


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """A request that is answered by text."""

    messages: Sequence[Message]
    """As for `Assistant.stream`."""


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """A request to write down a recording, or to translate it."""

    recording: Any
    """A path, bytes, or an array with its rate."""
    language: str | None
    """English name of the language that is spoken."""
    to: str | None = None
    """English name of the language to translate into; None transcribes."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One question of a set, or one recording."""

    key: str
    """Its name in the set; no other sample has it."""
    request: Dialogue | Spoken
    references: Any
    """What the scorer compares with; kept with the prediction as JSON."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """By what results are broken down, such as {"questions": "human"}."""
    about: str = ""
    """The question in short, for the report."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an answer fared."""

    sums: tuple[float, ...]
    """What is added up over samples: of most metrics the score and 1, of an error rate the errors
    and the reference's words."""
    answer: str
    """What was read out of the raw answer; "" if nothing was."""


def share(sums: np.ndarray) -> np.ndarray:
    """Percent that the first sum is of the second, [..., 2] to [...]; of nothing it is 0."""
    whole = sums[..., 1]
    return 100 * sums[..., 0] / np.where(whole == 0, 1, whole)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A published set with its metric."""

    name: str
    """On the command line."""
    title: str
    kind: Kind
    source: str
    """Who published it, and where it is described."""
    split: str
    """Part that is taken by default; the paper's, where its answers are published."""
    version: int = 1
    """Rises when a prompt, a parser or a scorer changes: figures of other versions differ."""
    layout: str
    """What the reader looks for in the folder."""
    prompt: str
    """What is asked, ``{question}`` and the like filled in; "" where the model's own is used."""
    metric: str
    """Its name, and in which direction it is better: "accuracy, %, higher is better"."""
    lower_is_better: bool = False
    normalizer: str = "none"
    """Name and version of what is done to answers before they are compared."""
    paper: Mapping[str, float] = field(default_factory=dict)
    """Scores of the paper's models: "8b", "70b", "405b" (Tables 29 to 31)."""
    note: str = ""
    """What differs from the paper's measurement, or from others'."""
    max_new_tokens: int
    takes: tuple[str, ...] = ("split",)
    """Names of the :class:`Settings` that it heeds."""
    read: Callable[[Path, Settings], Iterator[Sample]]
    """Samples of a folder in the set's own order.

    Raises:
        InputError: the folder is not such a set, or some of it is missing or broken.
    """
    score: Callable[[Any, str, Settings], Outcome]
    """References, raw answer, settings: how it fared. The same answer always fares the same."""
    total: Callable[[np.ndarray], np.ndarray] = share
    """The metric of sums [..., number of sums]; [...]."""

    def check(self, settings: Settings) -> None:
        """Refuse settings that the benchmark would pass over.

        Raises:
            InputError: names the first of them.
        """
        usual = Settings()
        for name in vars(usual):
            if name not in self.takes and getattr(settings, name) != getattr(usual, name):
                heeded = ", ".join(f"--{each}" for each in self.takes) or "nothing"
                raise InputError(f"--{name}", f"{self.name} does not take it; it takes {heeded}")
