"""What a benchmark is: where its samples lie, what is asked, how an answer is scored.

A benchmark's file in `multimodal.evaluation.benchmarks` gives one :class:`Benchmark`. Its reader
finds the set as it is published, by content and offline; its scorer takes a raw answer, and
normalises it there and nowhere else, so that kept predictions can be scored again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    reason: bool = False
    """Ask for a chain of thought, and take the answer from its end."""
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
    """A path, bytes, an array with its rate, or a `Packed` file of an archive."""
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
class Further:
    """Another metric of the same sums."""

    name: str
    """And in which direction it is better."""
    total: Callable[[np.ndarray], np.ndarray]
    """As `Benchmark.total`."""
    most: float = 100.0
    """Upper end of its scale."""


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How answers are scored by somebody who is asked about each: a judge or a classifier.

    What they say is kept as it is, like the answers; it is read when it is scored.
    """

    option: Literal["judge", "classifier"]
    """What they are called on the command line."""
    version: int = 1
    """Rises when what is asked, or how it is read, changes."""
    instructions: str = ""
    """What a judge is told before."""
    prompt: str
    """What is asked about an answer, ``{answer}`` and the like filled in."""
    asked: Callable[[str, Any, str], str]
    """Of what the sample is about, its references and the raw answer: what is asked."""
    verdict: type
    """What they give: a text, or True and False."""
    score: Callable[[Any, Any], Outcome | None]
    """Of references and verdict: how the answer fared; None if the verdict cannot be read."""
    unread: Outcome = Outcome(sums=(0.0, 1.0), answer="")
    """How an answer fares whose verdict cannot be read."""


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
    score: Callable[[Any, str, Settings], Outcome] | None
    """References, raw answer, settings: how it fared. The same answer always fares the same.

    None where `judging` alone can tell.
    """
    judging: Judging | None = None
    """How somebody else may score answers."""
    total: Callable[[np.ndarray], np.ndarray] = share
    """The metric of sums [..., number of sums]; [...]."""
    further: tuple[Further, ...] = ()
    """More metrics, which are told beside it."""
    mean_over: str = ""
    """Name of the groups over which the metric is averaged; "" takes all samples together."""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By the name of a setting that is on, or "judge": which of the fields above it changes."""

    def under(self, settings: Settings, *, is_judged: bool = False) -> "Benchmark":
        """The benchmark as settings, or a judge, change it."""
        changes: dict[str, Any] = {}
        for name, changed in self.variants.items():
            if getattr(settings, name, name == "judge" and is_judged):
                changes |= changed
        return replace(self, **changes)

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
