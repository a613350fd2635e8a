"""Relaxed accuracy: ChartQA (section 7.5)."""

TOLERANCE = 0.05
"""Of a number, relative to the true one."""


def relaxed_match(answer: str, *, gold: str) -> bool:
    """Whether an answer is right within 5 % if both are numbers, or else the same word for word.

    As ChartQA (Masry et al. 2022) defines it and lmms-eval computes it. A percent sign at the end
    divides by 100, so "5%" is 0.05, and is not 5. A gold answer of 0 has no relative error: it is
    compared as text, so "0.0" is wrong for "0". So is what Python does not read as a number, such
    as "1,000" or "$5". Text is compared without case; whitespace around it counts.

    Args:
        answer: the prediction.
        gold: the true answer.
    """
    number, true = _number(answer), _number(gold)
    if number is not None and true:
        return abs(number - true) / abs(true) <= TOLERANCE
    return answer.lower() == gold.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
