"""Our metrics of VQAv2, TextVQA, DocVQA, ChartQA, AI2D and MMMU against lmms-eval's own code.

Where they differ, they do on purpose: a test of its own names the difference, and why it is there.
"""

import random
from collections.abc import Sequence
from string import ascii_uppercase

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("lmms_eval")
pytest.importorskip("loguru")

from lmms_eval.api.metrics import anls as their_anls
from lmms_eval.api.metrics import exact_match_hf_evaluate
from lmms_eval.tasks._task_utils.vqa_eval_metric import EvalAIAnswerProcessor
from lmms_eval.tasks.ai2d.utils import MultiChoiceRegexFilter
from lmms_eval.tasks.chartqa.utils import relaxed_correctness
from lmms_eval.tasks.mmmu import utils as mmmu
from lmms_eval.tasks.textvqa.utils import textvqa_process_results
from lmms_eval.tasks.vqav2.utils import vqav2_process_results

from multimodal.evaluation.benchmark import Settings
from multimodal.evaluation.benchmarks import benchmark
from multimodal.evaluation.metrics.anls import anls
from multimodal.evaluation.metrics.multiple_choice import choice_letter, mmmu_choice
from multimodal.evaluation.metrics.open_answers import open_answer_matches, parse_open_answer
from multimodal.evaluation.metrics.relaxed import relaxed_match
from multimodal.evaluation.metrics.vqa import (
    normalize_textvqa,
    normalize_vqav2,
    textvqa_accuracy,
    vqav2_accuracy,
)
from tests.multimodal.evaluation.harness.said import ANSWERS, TRICKY, WORDS

pytestmark = pytest.mark.harness
many = settings(max_examples=400, deadline=None)

REFERENCES = st.lists(WORDS, min_size=2, max_size=4).flatmap(
    lambda some: st.lists(st.sampled_from(some), min_size=10, max_size=10)
)
"""What ten people answered, with some agreement."""


@many
@given(ANSWERS)
def test_answers_of_vqa_are_normalized_alike(answer: str) -> None:
    theirs = EvalAIAnswerProcessor()
    assert normalize_textvqa(answer) == theirs(answer)
    line = answer.replace("\n", " ").replace("\t", " ").strip()
    expected = theirs.process_digit_article(theirs.process_punctuation(line))
    assert normalize_vqav2(answer) == expected


def test_tricky_answers_of_vqa_are_normalized_alike() -> None:
    theirs = EvalAIAnswerProcessor()
    for answer in (*TRICKY, *EvalAIAnswerProcessor.CONTRACTIONS, "x" + ".y" * 40):
        assert normalize_textvqa(answer) == theirs(answer)
        for suffix in (" ", ", 1,000", "-", "s"):
            assert normalize_textvqa(answer + suffix) == theirs(answer + suffix)


@many
@given(REFERENCES, st.data())
def test_accuracy_of_textvqa(references: list[str], data: st.DataObject) -> None:
    answer = data.draw(st.one_of(st.sampled_from(references), ANSWERS))
    document = {"question_id": 1, "answers": list(references)}
    theirs = textvqa_process_results(document, [answer])["exact_match"]
    assert textvqa_accuracy(answer, references=references) == pytest.approx(theirs)


def their_vqav2(answer: str, references: Sequence[str]) -> float:
    answers = [{"answer": text, "answer_id": n} for n, text in enumerate(references)]
    return vqav2_process_results({"question_id": 1, "answers": answers}, [answer])["exact_match"]


@many
@given(REFERENCES, st.data())
def test_accuracy_of_vqav2(references: list[str], data: st.DataObject) -> None:
    answer = data.draw(st.one_of(st.sampled_from(references), ANSWERS))
    lines = {text.replace("\n", " ").replace("\t", " ").strip() for text in references}
    assume(len(lines) > 1)
    theirs = their_vqav2(answer, references)
    assert vqav2_accuracy(answer, references=references) == pytest.approx(theirs)


def test_unanimous_people_of_vqav2_are_left_as_they_are() -> None:
    """On purpose: the challenge's server does so, and published figures are its; lmms-eval not."""
    for said, plain in (("two", "2"), ("the dog", "dog"), ("dont", "don't")):
        assert their_vqav2(plain, [said] * 10) == 1
        assert vqav2_accuracy(plain, references=[said] * 10) == 0
        assert vqav2_accuracy(plain, references=[said] * 9 + [plain]) == 1


def is_plain(text: str) -> bool:
    """Without whitespace to collapse, or letters that are longer in upper case."""
    return " ".join(text.split()) == text and len(text.lower()) == len(text.upper()) == len(text)


@many
@given(st.lists(WORDS.filter(is_plain), min_size=1, max_size=3), st.data())
def test_anls_of_docvqa(references: list[str], data: st.DataObject) -> None:
    nearly = st.sampled_from(references).map(lambda text: text[1:] + text[:1].swapcase())
    answer = data.draw(st.one_of(st.sampled_from(references), nearly, ANSWERS).filter(is_plain))
    theirs = their_anls(references, [answer])["anls"]
    assert anls(answer, references=references) == pytest.approx(theirs)


def test_anls_measures_the_texts_that_it_compares() -> None:
    """On purpose: lmms-eval divides by lengths from before whitespace is collapsed, so that blanks
    make a wrong answer better, and by those of upper case, in which ß is two letters.
    """
    assert anls("ab        ", references=["xb"]) == 0.5
    assert their_anls(["xb"], ["ab        "])["anls"] == pytest.approx(0.9)
    assert anls("Straße", references=["strasse"]) == pytest.approx(1 - 2 / 7)
    assert anls("ß", references=["x"]) == 0
    assert their_anls(["x"], ["ß"])["anls"] == 0.5


@many
@given(WORDS, st.data())
def test_relaxed_accuracy_of_chartqa(gold: str, data: st.DataObject) -> None:
    answer = data.draw(st.one_of(st.just(gold), WORDS))
    assert relaxed_match(answer, gold=gold) == relaxed_correctness(answer, gold)


@many
@given(st.floats(-1e6, 1e6), st.floats(0.9, 1.1), st.sampled_from(["", "%"]))
def test_numbers_of_chartqa_near_the_border(gold: float, factor: float, unit: str) -> None:
    for form in ("{}", "{:.2f}", "{:,.1f}", "{:.3e}"):
        answer, true = form.format(gold * factor) + unit, form.format(gold) + unit
        assert relaxed_match(answer, gold=true) == relaxed_correctness(answer, true)


def test_an_answer_to_chartqa_may_end_like_a_sentence() -> None:
    """On purpose: blanks and a last period are not part of an answer; lmms-eval compares them."""
    score = benchmark("chartqa").score
    for answer in ("Spain.", " Spain\n", "Spain. "):
        assert score("Spain", answer, Settings()).sums == (1, 1)
        assert not relaxed_correctness(answer, "Spain")


def their_ai2d(answer: str, right: str) -> bool:
    (found,) = MultiChoiceRegexFilter().apply([[answer]], [{}])
    scored = exact_match_hf_evaluate([found], [right], ignore_case=True, ignore_punctuation=True)
    return bool(scored["exact_match"])


OPTIONS = ("a red fox", "hare", "the owl eats", "grass. And more")


@many
@given(st.one_of(ANSWERS, WORDS, st.sampled_from("ABCD").map("{}. x".format)))
def test_what_is_right_of_ai2d_for_lmms_eval_is_right_for_us(answer: str) -> None:
    """And more is: lmms-eval wants the letter alone or in front, with a period behind it."""
    for right in "ABCD":
        if their_ai2d(answer, right):
            assert choice_letter(answer, options=OPTIONS) == right


def test_sentences_that_name_an_option_of_ai2d() -> None:
    """On purpose: what names one option, and no other, has answered the question."""
    for answer in ("hare", "The answer is B.", "(B) hare", "B) hare", "It is [B]."):
        assert choice_letter(answer, options=OPTIONS) == "B"
        assert not their_ai2d(answer, "B")


def their_mmmu(answer: str, options: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Without the dice that they throw over an answer in which they read nothing."""
    letters = list(ascii_uppercase[: len(options)])
    index = dict(zip(letters, options, strict=True))
    with monkeypatch.context() as patched:
        patched.setattr(random, "choice", lambda _: None)
        return mmmu.parse_multi_choice_response(answer, letters, index)


def test_choices_of_mmmu(monkeypatch: pytest.MonkeyPatch) -> None:
    @many
    @given(ANSWERS, st.lists(WORDS.filter(bool), min_size=2, max_size=6))
    def same(answer: str, options: list[str]) -> None:
        answer = answer.strip()
        # where several letters end words, or have a period, lmms-eval takes the first of the
        # alphabet instead of the last that is named: see below
        letters = ascii_uppercase[: len(options)]
        padded = f" {answer} "
        for mark in ",.!?;:'":
            padded = f" {padded.strip().strip(mark)} "
        if not any(f"({x})" in padded for x in letters):
            if not any(f" {x} " in padded for x in letters):
                assume(sum(f"{x} " in padded for x in letters) < 2)
                assume(sum(f"{x}." in padded for x in letters) < 2)
        assert mmmu_choice(answer, options=options) == their_mmmu(answer, options, monkeypatch)

    same()
    for answer in TRICKY:
        found = mmmu_choice(answer, options=OPTIONS)
        assert found == their_mmmu(answer.strip(), OPTIONS, monkeypatch)


def test_the_option_of_mmmu_that_is_named_last_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """On purpose: the published parser means that, and lmms-eval looks up places that are not
    there, which leaves it with the first of the alphabet; an option without a text is in every
    answer for it; and blanks behind a period hide a letter from it.
    """
    for answer, ours, theirs in (
        ("B.x or A.x", "A", "A"),
        ("A.x or B.x", "B", "A"),
        ("not xA but xB", "B", "A"),
        ("take xB and xA and go", "A", "A"),
        ("take xA and xB and go", "B", "A"),
        ("either A or B.\n", "B", "A"),
    ):
        assert mmmu_choice(answer, options=["u", "v"]) == ours
        assert their_mmmu(answer, ["u", "v"], monkeypatch) == theirs
    empty = "one two three four five six"
    assert mmmu_choice(empty, options=["", "ten"]) is None
    assert their_mmmu(empty, ["", "ten"], monkeypatch) == "A"


@many
@given(ANSWERS, st.lists(WORDS, min_size=1, max_size=3))
def test_open_answers_of_mmmu(answer: str, golds: list[str]) -> None:
    theirs = mmmu.parse_open_response(answer)
    # a number that is none equals nothing, itself included: so it is compared as text
    assert sorted(map(str, parse_open_answer(answer))) == sorted(map(str, theirs))
    assert open_answer_matches(answer, golds=golds) == mmmu.eval_open(golds, theirs)


def test_tricky_open_answers_of_mmmu() -> None:
    for answer in TRICKY:
        for gold in TRICKY:
            theirs = mmmu.eval_open([gold], mmmu.parse_open_response(answer))
            assert open_answer_matches(answer, golds=[gold]) == theirs, (answer, gold)
