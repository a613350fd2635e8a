"""WUPS on a small dictionary, by hand."""

from math import prod

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multimodal.evaluation.metrics.wordnet import WordNet
from multimodal.evaluation.metrics.wups import STOP_WORDS, content_words, next_qa_score, wups
from tests.multimodal.evaluation.metrics.dictionary_files import write_animals


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    return WordNet(write_animals(tmp_path_factory.mktemp("wordnet")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The dogs were walking to the camera", ["dog", "walk", "camera"]),
        ("He ran, the men played.", ["run", ",", "man", "play", "."]),
        ("It was. The dog", [".", "dog"]),  # sentences are parted
        ("he ate it", ["eat"]),  # irregular, and not the goddess
        ("does not own", ["not"]),  # not a doe
        ("owns no dog", ["no", "dog"]),  # a stop word once it is a base form
        ("on the left", ["on", "left"]),  # irregular, though an adjective too
        ("leaving the bed", ["leave", "bed"]),  # ends in -ed, but is no verb
        ("better glasses", ["good", "glass"]),
        ("towards the cat", ["toward", "cat"]),  # stemmed
        ("no unicorns", ["no", "unicorns"]),  # neither is in the dictionary
        ("dog's", ["dog", "'s"]),
        ("it is what it is", []),
        ("", []),
    ],
)
def test_content_words(text: str, words: list[str], animals: WordNet) -> None:
    assert content_words(text, wordnet=animals) == words


def test_words_of_place_and_number_are_no_stop_words() -> None:
    assert STOP_WORDS.isdisjoint("in on up down off out over under no not both once before".split())
    assert {"to", "at", "from", "with", "the", "he", "be", "and", "yourselves"} <= STOP_WORDS


@pytest.mark.parametrize(
    ("answer", "reference", "at_0", "at_9"),
    [
        ("dog", "dog", 1, 1),
        ("the dogs", "a dog", 1, 1),
        ("dog", "cat", 6 / 8, 0.075),
        ("unicorn", "unicorn", 1, 1),  # a word is like itself, known or not
        ("unicorn", "dog", 0, 0),
        # the lesser of both directions: cat has its match, poodle only a likeness
        ("cat", "cat poodle", 6 / 9, 0.6 / 9),
        ("cat poodle", "cat", 6 / 9, 0.6 / 9),
        ("cat poodle", "poodle cat", 1, 1),
        # each word has its most similar one
        ("cat hound", "dog poodle", 6 / 8, 0.075),  # a hound is a dog
        # what is like nothing does not count
        ("unicorn dog", "dog", 1, 1),
        ("dog .", "dog", 1, 1),
        # nothing left is no answer, even where nothing was asked for
        ("it", "dog", 0, 0),
        ("it", "it", 0, 0),
        # verbs have a top in common with everything
        ("playing", "moving", 0.5, 0.05),
    ],
)
def test_by_hand(answer: str, reference: str, at_0: float, at_9: float, animals: WordNet) -> None:
    for threshold, expected in ((0.0, at_0), (0.9, at_9)):
        found = wups(answer, references=[reference], wordnet=animals, threshold=threshold)
        assert found == pytest.approx(expected)


def test_a_similarity_at_the_threshold_is_kept(animals: WordNet) -> None:
    scores = [
        wups("dog", references=["cat"], wordnet=animals, threshold=threshold)
        for threshold in (0.75, 0.7501)
    ]
    assert scores == pytest.approx([0.75, 0.075])


def test_the_nearest_reference_counts(animals: WordNet) -> None:
    for references in (["glass", "cat"], ["cat", "glass"]):
        for threshold, expected in ((0.0, 0.75), (0.9, 0.075)):
            found = wups("dog", references=references, wordnet=animals, threshold=threshold)
            assert found == pytest.approx(expected)


words = st.lists(
    st.sampled_from("dog cat poodle man glass run play big unicorn".split()), max_size=4
)


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(words, words, st.sampled_from([0.0, 0.9]))
def test_products_of_the_best(
    animals: WordNet, answer: list[str], reference: list[str], threshold: float
) -> None:
    def alike(one: str, other: str) -> float:
        first, second = animals.synset(one), animals.synset(other)
        if one == other or first is None or second is None:
            return float(one == other)
        similarity = animals.similarity(first, second)
        return similarity if similarity >= threshold else similarity / 10

    directions = []
    for ours, others in ((answer, reference), (reference, answer)):
        best = [max([alike(one, other) for other in others], default=0) for one in ours]
        directions.append(prod(filter(None, best)) if any(best) else 0)
    found = wups(
        " ".join(answer), references=[" ".join(reference)], wordnet=animals, threshold=threshold
    )
    assert found == pytest.approx(min(directions)) and 0 <= found <= 1


def test_yes_no_and_counting_are_exact(animals: WordNet) -> None:
    for question_type in ("DB", "DC"):
        for answer, references, score in (
            ("yes", ["yes"], 1.0),
            ("Yes", ["no", "yes"], 1.0),
            ("two dogs", ["two dog"], 1.0),
            ("yes.", ["yes"], 0.0),  # the full stop is a word
            ("dog", ["cat"], 0.0),
            ("dog cat", ["cat dog"], 0.0),
        ):
            found = next_qa_score(
                answer, references=references, question_type=question_type, wordnet=animals
            )
            assert found == score


def test_other_questions_have_their_wups(animals: WordNet) -> None:
    for question_type in ("CW", "CH", "TN", "TP", "TC", "DL", "DO"):
        found = next_qa_score(
            "dog", references=["cat"], question_type=question_type, wordnet=animals, threshold=0.9
        )
        assert found == pytest.approx(0.075)


def test_no_references_are_refused(animals: WordNet) -> None:
    for question_type in ("DB", "CW"):
        with pytest.raises(ValueError, match="WUPS needs references"):
            next_qa_score("a", references=[], question_type=question_type, wordnet=animals)
