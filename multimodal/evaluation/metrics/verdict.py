"""What a judge of open answers said: ActivityNet-QA, judged as by Video-ChatGPT (section 7.6)."""

import ast
import json
import re
from typing import NamedTuple

MOST = 5
"""The best score."""
MAX_LENGTH = 4000
"""Longer replies are not read."""


class Verdict(NamedTuple):
    """Whether an answer is right, and how good it is."""

    is_right: bool
    score: int
    """0 to ``MOST``."""


def read_verdict(reply: str) -> Verdict | None:
    """Read a verdict such as ``{'pred': 'yes', 'score': 4}``, or None if it is none.

    The first pair of braces counts, as JSON or as Python writes it, whatever stands around it.
    "pred" must be yes or no, "score" a number from 0 to 5, of which decimals are cut off, as is
    published. What else the judge may have meant is not guessed.
    """
    found = re.search(r"\{[^{}]*\}", reply[:MAX_LENGTH])
    if found is None:
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            said = read(found[0])
            break
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    else:
        return None
    if not isinstance(said, dict):
        return None
    word, score = said.get("pred"), said.get("score")
    plain = word.strip().strip(".").lower() if isinstance(word, str) else ""
    if plain not in ("yes", "no") or isinstance(score, bool):
        return None
    if not isinstance(score, int | float) or not 0 <= score <= MOST:
        return None
    return Verdict(is_right=plain == "yes", score=int(score))
