"""VQA accuracy: VQAv2 and TextVQA (section 7.5).

A prediction is compared with what ten people answered. Both sides are normalised first, and the
normalisation has quirks. They are kept, each with a comment, since published numbers have them.
"""

import re
from collections.abc import Sequence


def vqa_accuracy(answer: str, *, references: Sequence[str]) -> float:
    """The share of people with whom an answer agrees, as VQA (Antol et al. 2015) counts it.

    Each reference is left out in turn; the answer earns a third for each match among the others, at
    most 1; the mean over turns is the accuracy. For ten references it is 0, 0.3, 0.6, 0.9 or, from
    four matches on, 1. Below four references even a unanimous answer earns less than 1.

    Args:
        answer: the prediction; it is compared as it is, so normalise it before.
        references: what people answered, likewise.

    Raises:
        ValueError: there are no references.
    """
    count = len(references)
    if count == 0:
        raise ValueError("VQA accuracy needs references")
    matches = sum(reference == answer for reference in references)
    # thirds earned where a matching reference is left out, and where another one is
    thirds = matches * min(3, matches - 1) + (count - matches) * min(3, matches)
    return thirds / (3 * count)


def textvqa_accuracy(answer: str, *, references: Sequence[str]) -> float:
    """VQA accuracy as TextVQA takes it: all are normalised by `normalize_textvqa`.

    Raises:
        ValueError: there are no references.
    """
    normalized = [normalize_textvqa(reference) for reference in references]
    return vqa_accuracy(normalize_textvqa(answer), references=normalized)


def vqav2_accuracy(answer: str, *, references: Sequence[str]) -> float:
    """VQA accuracy as VQAv2 takes it: all are normalised by `normalize_vqav2`.

    References that are all the same stay as they are, which is a quirk of the published evaluation:
    ten times "two" is not matched by "2", nor by "two", which becomes "2".

    lmms-eval normalises those, too.

    Raises:
        ValueError: there are no references.
    """
    references = [_one_line(reference) for reference in references]
    if len(set(references)) > 1:
        references = [normalize_vqav2(reference) for reference in references]
    return vqa_accuracy(normalize_vqav2(answer), references=references)


def normalize_textvqa(answer: str) -> str:
    """The whole normalisation of EvalAI's answers: commas, question marks, `'s`, then VQAv2's."""
    answer = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return normalize_vqav2(answer)


def normalize_vqav2(answer: str) -> str:
    """Lower case, without punctuation and articles; digits for words; apostrophes put back."""
    words = _without_punctuation(_one_line(answer)).lower().split()
    words = [_DIGITS.get(word, word) for word in words]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _one_line(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def _without_punctuation(answer: str) -> str:
    """Marks become spaces, or nothing; full stops go, except before a digit."""
    text = answer
    # A comma between digits anywhere makes every mark vanish, also one that parts two words.
    grouped = re.search(r"\d,+\d", answer) is not None
    for mark in _MARKS:
        # So does the mark itself beside a space, anywhere: "a-b - c" becomes "ab  c".
        vanishes = grouped or f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if vanishes else " ")
    # What was meant to spare a full stop behind a digit is misspelt in the published expression,
    # so that "5." loses its stop; and what was meant as a flag limits the number of stops to 32.
    return re.sub(r"\.(?!\d)", "", text, count=32)


_MARKS = ';/[]"{}()=+\\_-><@`,?!'
"""Each is looked for in this order; neither the colon nor the apostrophe is among them."""

_ARTICLES = {"a", "an", "the"}

_DIGITS = {
    word: str(number)
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
} | {"none": "0"}


def _contractions() -> dict[str, str]:
    """Words that lack an apostrophe, and what they become.

    The published table also has words with a capital I; words are in lower case when it is asked.
    """
    table: dict[str, str] = {}
    for ending, stems in {
        "t": "ain aren can couldn didn doesn don hadn hasn haven isn mightn mustn needn oughtn "
        "shan shouldn wasn weren won wouldn",
        "d": "he how it someone something there they where who you",
        "ll": "how it somebody someone something they what who why you",
        "re": "there they what why you",
        "s": "he how somebody someone that there what when where who why",
        "ve": "could might must not should they we what where who would you",
    }.items():
        table |= {f"{stem}{ending}": f"{stem}'{ending}" for stem in stems.split()}
    for stem in "couldn hadn mightn shouldn wouldn".split():
        table |= dict.fromkeys((f"{stem}t've", f"{stem}'tve"), f"{stem}'t've")
    for stem in "he it she somebody someone something there they we who you".split():
        table |= dict.fromkeys((f"{stem}d've", f"{stem}'dve"), f"{stem}'d've")
    table |= dict.fromkeys(("yall'll", "y'allll"), "y'all'll")
    table |= dict.fromkeys(("yall'd've", "y'alld've", "y'all'dve"), "y'all'd've")
    table |= dict.fromkeys(("ow's'at", "'ows'at", "'ow'sat"), "'ow's'at")
    table |= {"maam": "ma'am", "oclock": "o'clock", "twas": "'twas", "yall": "y'all"}
    table["somebody'd"] = "somebodyd"  # the wrong way round, as published
    return table


_CONTRACTIONS = _contractions()
