"""Our metrics of NExT-QA and of ActivityNet-QA's judge against lmms-eval's own code.

Its dictionary, tagger and tokenizer are downloaded when it is imported, or, offline, are missing:
here it is lent our dictionary and our words, so that what is compared is the metric upon them.
"""

from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("lmms_eval")
pytest.importorskip("loguru")

from multimodal.evaluation.metrics.multiple_choice import choice_letter, mmmu_choice
from multimodal.evaluation.metrics.verdict import read_verdict
from multimodal.evaluation.metrics.wordnet import Synset, WordNet
from multimodal.evaluation.metrics.wups import STOP_WORDS, content_words, next_qa_score
from tests.multimodal.evaluation.harness.said import ANSWERS
from tests.multimodal.evaluation.metrics.dictionary_files import write_animals

pytestmark = pytest.mark.harness
many = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

WORDS = ("dog cat poodle hound rex man men glass left walk walked run ran bed big large good "
         "better unicorn the a of two yes no in on his").split()  # fmt: skip
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    return WordNet(write_animals(tmp_path_factory.mktemp("wordnet")))


class Meaning:
    """A meaning as NLTK has it."""

    def __init__(self, synset: Synset, wordnet: WordNet) -> None:
        self.synset, self.wordnet = synset, wordnet

    def wup_similarity(self, other: "Meaning") -> float:
        return self.wordnet.similarity(self.synset, other.synset)


@pytest.fixture
def theirs(
    animals: WordNet, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> Iterator[ModuleType]:
    monkeypatch.setenv("HF_HOME", str(tmp_path))  # it will not be imported without one
    from lmms_eval.tasks.nextqa import utils

    def synsets(word: str) -> list[Meaning]:
        found = animals.synset(word)
        return [Meaning(found, animals)] if found else []

    monkeypatch.setattr(utils, "wordnet", SimpleNamespace(synsets=synsets), raising=False)
    monkeypatch.setattr(utils, "word_tokenize", str.split, raising=False)
    monkeypatch.setattr(
        utils,
        "lemmatize_sentence",
        lambda text: content_words(text, wordnet=animals),
        raising=False,
    )
    yield utils


def test_wups_of_nextqa(theirs: ModuleType, animals: WordNet) -> None:
    @many
    @given(SENTENCES, SENTENCES, st.sampled_from(["CW", "TP", "DL", "DO", "DB", "DC"]))
    def same(answer: str, reference: str, kind: str) -> None:
        document = {"answer": reference, "type": kind, "additional_ref_answer": ""}
        found = theirs.nextqa_process_results(document, [answer])["WUPS"]
        for threshold, name in ((0.0, "0"), (0.9, "0.9")):
            ours = next_qa_score(
                answer, references=[reference], question_type=kind, wordnet=animals,
                threshold=threshold,
            )  # fmt: skip
            assert ours == pytest.approx(found[name])

    same()


def test_second_answers_of_nextqa(theirs: ModuleType, animals: WordNet) -> None:
    """At 0.9 lmms-eval takes second answers at 0, which is a slip: NExT-QA's own code does not."""

    @many
    @given(SENTENCES, SENTENCES, SENTENCES.filter(bool), st.sampled_from(["CH", "TN", "DC"]))
    def same(answer: str, first: str, second: str, kind: str) -> None:
        document = {"answer": first, "type": kind, "additional_ref_answer": second}
        found = theirs.nextqa_process_results(document, [answer])["WUPS"]["0"]
        references = [first, second]
        if kind == "DC" and not content_words(second, wordnet=animals):
            return
        ours = next_qa_score(
            answer, references=references, question_type=kind, wordnet=animals
        )  # fmt: skip
        assert ours == pytest.approx(found)

    same()
    document = {"answer": "unicorn", "type": "CW", "additional_ref_answer": "cat"}
    found = theirs.nextqa_process_results(document, ["dog"])["WUPS"]
    assert found["0.9"] == found["0"] == 0.75
    assert next_qa_score(
        "dog", references=["unicorn", "cat"], question_type="CW", wordnet=animals, threshold=0.9
    ) == pytest.approx(0.075)  # fmt: skip


def test_stop_words_of_nextqa(theirs: ModuleType) -> None:
    """All but contractions, which no word of a parted text is."""
    assert {word for word in theirs.stopwords if "'" not in word} == STOP_WORDS


def test_choices_of_nextqa_are_read_as_those_of_mmmu(theirs: ModuleType) -> None:
    """Where lmms-eval reads a letter in brackets, both of our readings of choices do."""
    options = ["a dog", "a cat", "two men", "the bed", "left"]

    @many
    @given(ANSWERS, st.sampled_from("ABCDE"))
    def same(before: str, letter: str) -> None:
        index = dict(zip("ABCDE", options, strict=True))
        for answer in (letter, f"({letter})", f"{letter}."):
            found = theirs.parse_multi_choice_response(answer, list("ABCDE"), index)
            assert found == letter == choice_letter(answer, options=options)
        answer = f"{before.strip()} ({letter})"
        assert theirs.parse_multi_choice_response(answer, list("ABCDE"), index) == mmmu_choice(
            answer, options=options
        )

    same()


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> ModuleType:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    from lmms_eval.tasks.activitynetqa import utils

    return utils


def test_verdicts_of_a_judge(judged: ModuleType) -> None:
    """What is as the judge was asked for it is read alike. ActivityNet-QA has no other metric in
    lmms-eval: there is nothing to compare with where nobody judges.
    """

    @many
    @given(
        st.sampled_from(["yes", "no", "Yes", "NO"]),
        st.one_of(st.integers(0, 5), st.floats(0, 5)),
        st.sampled_from(["{}", "Sure: {}.", "```python\n{}\n```", "{}, {{'pred': 'no'}}"]),
    )
    def same(word: str, score: float, around: str) -> None:
        reply = around.format({"pred": word, "score": score})
        found = read_verdict(reply)
        assert found is not None
        assert ["yes" if found.is_right else "no", found.score] == judged.parse_score(reply)

    same()


def test_verdicts_that_are_not_as_asked_for_count_as_wrong(judged: ModuleType) -> None:
    """On purpose: lmms-eval reads a yes out of any word with these letters, takes any number for a
    score, and drops from the accuracy what is neither yes nor no.
    """
    assert judged.parse_score("{'pred': 'yesterday', 'score': 40}") == ["yes", 40]
    assert judged.parse_score("{'pred': 'correct', 'score': 5}") == ["correct", 5]
    assert read_verdict("{'pred': 'yesterday', 'score': 40}") is None
    assert read_verdict("{'pred': 'correct', 'score': 5}") is None
