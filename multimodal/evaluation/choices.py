"""Multiple choice: how options are asked, and whether the right one is named."""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

from multimodal.evaluation.benchmark import Outcome, Settings
from multimodal.evaluation.metrics.multiple_choice import choice_letter

PROMPT = "{question}\n{options}\nAnswer with the option's letter from the given choices directly."


def asked(question: str, options: Sequence[str], *, prompt: str = PROMPT) -> str:
    """A question with its options, "A. ..." line by line."""
    lines = (f"{letter}. {text}" for letter, text in zip(ascii_uppercase, options, strict=False))
    return prompt.format(question=question, options="\n".join(lines))


def score(references: Any, raw: str, settings: Settings) -> Outcome:
    """Whether the right option is named; an answer that names none is wrong.

    Args:
        references: "options", their texts, and "right", the number of one.
        raw: the answer.
        settings: are not heeded.
    """
    letter = choice_letter(raw, options=references["options"])
    is_right = letter == ascii_uppercase[references["right"]]
    return Outcome(sums=(float(is_right), 1.0), answer=letter or "")
