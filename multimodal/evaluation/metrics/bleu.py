"""BLEU: speech translation (section 8.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from multimodal.evaluation.metrics.script_units import CHARACTER_LANGUAGES, primary_language


@dataclass(frozen=True, kw_only=True)
class BleuTokenizer:
    """How sacrebleu parts a language into words."""

    name: str
    remark: str | None = None
    """What the reader of a score should know, such as that a better one is not installed."""


@dataclass(frozen=True, kw_only=True)
class BleuScore:
    """BLEU of a corpus."""

    score: float
    """0 to 100."""
    signature: str
    """Sacrebleu's; scores with different ones do not compare."""
    remark: str | None
    """Of the tokenizer."""


def corpus_bleu(
    hypotheses: Sequence[str], *, references: Sequence[str], language: str
) -> BleuScore:
    """BLEU (Papineni et al. 2002) by sacrebleu (Post 2018), with case and punctuation as they are.

    It belongs to the corpus: n-grams are summed over sentences before precisions are taken.

    Args:
        hypotheses: the translations.
        references: the true ones, one each.
        language: ISO 639 code of what is translated into; it picks the tokenizer.

    Raises:
        ValueError: there are no sentences, or not as many references.
    """
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} translations for {len(references)} references")
    tokenizer = bleu_tokenizer(language)
    bleu = _metric(tokenizer.name)
    score = bleu.corpus_score(list(hypotheses), [list(references)]).score
    return BleuScore(score=score, signature=str(bleu.get_signature()), remark=tokenizer.remark)


def sentence_statistics(hypothesis: str, *, reference: str, language: str) -> tuple[float, ...]:
    """What a sentence adds to the BLEU of its corpus: see `bleu_of_statistics`.

    Lengths of hypothesis and reference, then n-grams that are right, then all n-grams, by order.
    """
    (row,) = _metric(bleu_tokenizer(language).name)._extract_corpus_statistics(
        [hypothesis], [[reference]]
    )
    return tuple(map(float, row))


def bleu_of_statistics(sums: np.ndarray) -> np.ndarray:
    """BLEU, 0 to 100, of added-up statistics [..., 2 + 2 * orders]; [...]."""
    from sacrebleu.metrics import BLEU

    flat = sums.reshape(-1, sums.shape[-1]).round().astype(int).tolist()
    orders = (sums.shape[-1] - 2) // 2
    scores = [
        BLEU.compute_bleu(
            correct=row[2 : 2 + orders],
            total=row[2 + orders :],
            sys_len=row[0],
            ref_len=row[1],
            smooth_method="exp",
        ).score
        for row in flat
    ]
    return np.array(scores).reshape(sums.shape[:-1])


def bleu_tokenizer(language: str) -> BleuTokenizer:
    """The tokenizer that is customary for a target language.

    Chinese has its own. Japanese and Korean have one by MeCab, which sacrebleu's extras `ja` and
    `ko` install; without it characters are counted, and the remark says so. Of the other languages
    that put no spaces between words, characters are counted, too. All others have mteval's `13a`.

    Raises:
        ValueError: the language is empty.
    """
    language = primary_language(language)
    if language in _CHINESE:
        return BleuTokenizer(name="zh")
    if language in _BY_MECAB:
        name = _BY_MECAB[language]
        if _works(name):
            return BleuTokenizer(name=name)
        remark = f"characters for want of {name}, which `pip install sacrebleu[{name[:2]}]` brings"
        return BleuTokenizer(name="char", remark=remark)
    return BleuTokenizer(name="char" if language in CHARACTER_LANGUAGES else "13a")


@cache
def _metric(tokenizer: str) -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=tokenizer)


def _works(name: str) -> bool:
    """Whether what a tokenizer needs is installed; its dictionary is a package of its own."""
    from sacrebleu.metrics import BLEU

    try:
        BLEU(tokenize=name)
    except (ImportError, RuntimeError):  # sacrebleu turns the one into the other
        return False
    return True


_CHINESE = frozenset("cmn hak nan wuu yue zh zho".split())
_BY_MECAB = {"ja": "ja-mecab", "jpn": "ja-mecab", "ko": "ko-mecab", "kor": "ko-mecab"}
