"""What a judge said of the answers of a run, kept beside them: nothing is asked twice.

``verdicts.jsonl`` in the folder of the run has a line for each: who was asked, a hash of what, and
what was said. A run that is scored again, or was stopped on the way, asks for the rest alone. To
have all asked anew, remove the file.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from language.errors import InputError
from multimodal.evaluation.benchmark import Judging
from multimodal.evaluation.judges import Judge
from multimodal.evaluation.predictions import Prediction

FILE = "verdicts.jsonl"
AT_ONCE = 64
"""Texts that are handed over at a time."""


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What was said of each answer."""

    said: Sequence[Any]
    """In the order of the answers."""
    about: dict[str, Any]
    """Who said it, and what they were asked, for the record."""


def verdicts(
    folder: Path,
    predictions: Sequence[Prediction],
    *,
    judging: Judging | None,
    judge: Judge | None,
    told: Callable[[int, int], None] | None = None,
) -> Verdicts | None:
    """What a judge says of answers, or said before; None where there is no judge.

    Args:
        folder: of the run, or its file of predictions.
        predictions: the answers.
        judging: what is asked.
        judge: is asked for what is not known.
        told: of how many replies have come, and how many are owed.

    Raises:
        InputError: the judge does not answer, or the file cannot be written. What was said until
            then is kept.
    """
    if judge is None:
        return None
    assert judging is not None
    file = (folder if folder.is_dir() else folder.parent) / FILE
    who = {**judge.about, "prompt": _hash(f"{judging.instructions}\n{judging.prompt}")}
    texts = [judging.asked(each.about, each.references, each.answer) for each in predictions]
    known = _read(file, who)
    keys = {_hash(text): each.key for text, each in zip(texts, predictions, strict=True)}
    owed = [text for text in dict.fromkeys(texts) if _hash(text) not in known]
    if owed:
        _ask(file, owed, judge=judge, who=who, keys=keys, known=known, told=told)
    found = [known[_hash(text)] for text in texts]
    versions = sorted({version for _, version in found if version})
    about = {**judge.about, "version": ", ".join(versions), "prompt_version": judging.version,
             "prompt_sha256": who["prompt"]}  # fmt: skip
    return Verdicts(said=[verdict for verdict, _ in found], about=about)


def _ask(
    file: Path,
    owed: Sequence[str],
    *,
    judge: Judge,
    who: dict[str, str],
    keys: dict[str, str],
    known: dict[str, tuple[Any, str]],
    told: Callable[[int, int], None] | None,
) -> None:
    """Ask for what is owed, add it to what is known, and keep each reply at once."""
    try:
        with file.open("a", encoding="utf-8") as opened:
            if opened.tell():
                opened.write("\n")  # ends a line that a kill cut off
            for start in range(0, len(owed), AT_ONCE):
                some = owed[start : start + AT_ONCE]
                for reply in judge.ask(some):
                    asked = _hash(some[reply.number])
                    known[asked] = reply.verdict, reply.version
                    line = {"key": keys[asked], "judge": who, "asked": asked,
                            "said": reply.verdict, "version": reply.version}  # fmt: skip
                    opened.write(json.dumps(line, ensure_ascii=False) + "\n")
                    opened.flush()
                os.fsync(opened.fileno())
                if told is not None:
                    told(start + len(some), len(owed))
    except OSError as error:
        raise InputError(file, f"cannot be written ({error.strerror})") from None


def _read(file: Path, who: dict[str, str]) -> dict[str, tuple[Any, str]]:
    """Verdicts and versions by what was asked; lines that a kill cut off are passed over."""
    known = {}
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(file, f"cannot be read ({error.strerror})") from None
    for line in lines:
        try:
            kept = json.loads(line)
            if kept["judge"] == who:
                known[str(kept["asked"])] = kept["said"], str(kept["version"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return known


def _hash(text: str) -> str:
    """SHA-256, as 16 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]
