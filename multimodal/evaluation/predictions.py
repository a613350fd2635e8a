"""Answers on disk: what was asked of which model, and every raw answer.

``predictions.jsonl`` opens with a line that says what ran, followed by one line a sample in the
set's own order. While a run lasts, each process adds its answers to a file of its own under
``parts``; a run that was killed goes on from those.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from language.errors import InputError
from multimodal.evaluation.benchmark import Sample, Settings
from multimodal.evaluation.published import read_lines

FILE, PARTS, HEADER = "predictions.jsonl", "parts", "run.json"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was asked of which model: answers of other runs do not go together."""

    benchmark: str
    version: int
    settings: Settings
    number: int
    """Samples."""
    prompt: str
    model: dict[str, Any]
    decoding: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any, *, source: Path | str) -> "Run":
        """As it was written.

        Raises:
            InputError: it is not a run's.
        """
        try:
            settings = Settings(**data["settings"])
            return cls(**{**data, "settings": settings})
        except (TypeError, KeyError) as error:
            raise InputError(source, f"does not open with a run ({error})") from None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A raw answer, with all that scoring and the report need."""

    key: str
    answer: str
    references: Any
    groups: dict[str, str] = field(default_factory=dict)
    about: str = ""
    media: tuple[str, ...] = ()
    """Files that were shown or played."""


def prediction_of(sample: Sample, answer: str, *, media: Sequence[str]) -> Prediction:
    """An answer to a sample."""
    return Prediction(
        key=sample.key,
        answer=answer,
        references=sample.references,
        groups=dict(sample.groups),
        about=sample.about,
        media=tuple(media),
    )


def read_predictions(file: Path) -> tuple[Run, list[Prediction]]:
    """A finished run.

    Raises:
        InputError: the file is empty, cut off, or holds something else.
    """
    if file.is_dir():
        file = file / FILE
    if not file.is_file():
        raise InputError(file, "no such file of predictions")
    lines = read_lines(file)
    first = next(lines, None)
    if first is None:
        raise InputError(file, "empty: no predictions")
    run = Run.from_json(first[1], source=file)
    found = [_prediction(data, source=f"{file}, line {number}") for number, data in lines]
    if len(found) != run.number:
        raise InputError(file, f"holds {len(found):,} predictions of {run.number:,}: cut off?")
    if twice := _twice(each.key for each in found):
        raise InputError(file, f"holds {twice} twice")
    return run, found


def _prediction(data: Any, *, source: Path | str) -> Prediction:
    try:
        found = Prediction(**{**data, "media": tuple(data.get("media", ()))})
    except (TypeError, AttributeError) as error:
        raise InputError(source, f"no prediction ({error})") from None
    if not (isinstance(found.key, str) and isinstance(found.answer, str)):
        raise InputError(source, "no prediction: key and answer must be texts")
    return found


def _twice(keys: Iterable[str]) -> str:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            return key
        seen.add(key)
    return ""


class Answers:
    """The answers of a run while it lasts, by all its processes and in all its starts."""

    def __init__(self, folder: Path, run: Run, *, name: str) -> None:
        """Begin, or go on.

        Args:
            folder: of the run.
            run: what is asked.
            name: of this process.

        Raises:
            InputError: the folder holds the answers of another run, or cannot be written.
        """
        self.folder, self.run, self.name = folder, run, name
        try:
            (folder / PARTS).mkdir(parents=True, exist_ok=True)
            header = folder / PARTS / HEADER
            if header.exists():
                self._check_same(header)
            else:
                _write(header, [run.to_json()])
        except OSError as error:
            raise InputError(folder, f"cannot be written ({error.strerror})") from None
        self.known = {each.key: each for each in self._read()}
        starts = len(list((folder / PARTS).glob(f"{name}-*.jsonl")))
        # Each start has a file of its own: a line that a kill cut off ends the file before.
        self._file = (folder / PARTS / f"{name}-{starts:04d}.jsonl").open("w", encoding="utf-8")

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Keep answers, at once."""
        for each in predictions:
            self._file.write(json.dumps(asdict(each), ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self, keys: Sequence[str]) -> Path | None:
        """Put all answers together in the order of ``keys``, if no other process owes one."""
        self._file.close()
        known = {each.key: each for each in self._read()}
        if any(key not in known for key in keys):
            return None
        file = self.folder / FILE
        _write(file, [self.run.to_json(), *(asdict(known[key]) for key in keys)])
        return file

    def _check_same(self, header: Path) -> None:
        before = Run.from_json(next(read_lines(header), (0, None))[1], source=header).to_json()
        for name, value in json.loads(json.dumps(self.run.to_json())).items():
            if before.get(name) != value:
                raise InputError(
                    self.folder,
                    f"holds answers of another run: its {name} is {before.get(name)!r:.60}, "
                    f"this one's {value!r:.60}; name another --out",
                )

    def _read(self) -> Iterator[Prediction]:
        """What is known of all processes' files, up to a line that was cut off."""
        for file in sorted((self.folder / PARTS).glob("*.jsonl")):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    yield _prediction(json.loads(line), source=file)
                except (ValueError, InputError):
                    break


def _write(file: Path, records: Iterable[Any]) -> None:
    """Write lines of JSON, all or none."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8") as opened:
        for record in records:
            opened.write(json.dumps(record, ensure_ascii=False) + "\n")
        opened.flush()
        os.fsync(opened.fileno())
    os.replace(partial, file)
