"""Average normalised Levenshtein similarity, ANLS: DocVQA (section 7.5)."""

from collections.abc import Sequence

THRESHOLD = 0.5
"""Answers less similar than this are taken for wrong rather than misread."""


def anls(answer: str, *, references: Sequence[str]) -> float:
    """How alike the answer to one question is to the nearest reference; their mean is ANLS.

    One minus edits over the longer length (Biten et al. 2019), in lower case and with each run of
    whitespace as one space; 0 below ``THRESHOLD``. A similarity of exactly 0.5 is kept, as
    lmms-eval does; the published formula gives it 0. Lengths are of the texts as compared, where
    lmms-eval takes them before whitespace is collapsed.

    Args:
        answer: the prediction.
        references: the answers that are accepted.

    Raises:
        ValueError: there are no references.
    """
    if not references:
        raise ValueError("ANLS needs references")
    best = max(_similarity(_plain(answer), _plain(reference)) for reference in references)
    return best if best >= THRESHOLD else 0.0


def _similarity(first: str, second: str) -> float:
    from rapidfuzz.distance import Levenshtein

    longer = max(len(first), len(second))
    return 1 - Levenshtein.distance(first, second) / longer if longer else 1.0


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
