"""Error counts against an alignment of our own, and rates of a corpus by hand."""

from collections.abc import Sequence
from functools import cache

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.evaluation.metrics.script_units import Unit
from multimodal.evaluation.metrics.word_errors import ErrorCounts, corpus_errors, error_counts


def fewest_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Edit distance by dynamic programming, a row at a time."""
    row = list(range(len(hypothesis) + 1))
    for i, said in enumerate(reference, start=1):
        above, row = row, [i]
        for j, heard in enumerate(hypothesis, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (said != heard)))
    return row[-1]


def kinds(reference: tuple[str, ...], hypothesis: tuple[str, ...]) -> set[tuple[int, int, int]]:
    """Substitutions, deletions and insertions of all alignments with the fewest errors."""

    @cache
    def ways(i: int, j: int) -> frozenset[tuple[int, int, int]]:
        if i == 0 and j == 0:
            return frozenset({(0, 0, 0)})
        found = set()
        if i and j:
            swap = reference[i - 1] != hypothesis[j - 1]
            found |= {(s + swap, d, n) for s, d, n in ways(i - 1, j - 1)}
        if i:
            found |= {(s, d + 1, n) for s, d, n in ways(i - 1, j)}
        if j:
            found |= {(s, d, n + 1) for s, d, n in ways(i, j - 1)}
        best = min(map(sum, found))
        return frozenset(way for way in found if sum(way) == best)

    return set(ways(len(reference), len(hypothesis)))


sentences = st.lists(st.sampled_from(["a", "b", "c", "ab"]), max_size=6).map(" ".join)


@given(sentences, sentences, st.sampled_from(Unit))
def test_counts_are_of_an_alignment_with_the_fewest_errors(
    reference: str, hypothesis: str, unit: Unit
) -> None:
    counts = error_counts(hypothesis, reference=reference, unit=unit)
    said, heard = reference.split(), hypothesis.split()
    if unit is Unit.CHARACTER:
        said, heard = list("".join(said)), list("".join(heard))
    assert counts.errors == fewest_errors(said, heard)
    found = (counts.substitutions, counts.deletions, counts.insertions)
    assert found in kinds(tuple(said), tuple(heard))
    assert counts.reference_length == len(said)


def test_a_corpus_is_no_mean_of_utterances() -> None:
    found = corpus_errors(
        ["a b c d e f g h", "y z"],
        references=["a b c d e f g x", "z"],
        normalize="none",
        unit=Unit.WORD,
    )
    assert found.utterances == (
        ErrorCounts(substitutions=1, reference_length=8),
        ErrorCounts(insertions=1, reference_length=1),
    )
    assert found.total == ErrorCounts(substitutions=1, insertions=1, reference_length=9)
    assert found.total.rate == 2 / 9 != (1 / 8 + 1 / 1) / 2


@given(st.lists(st.tuples(sentences.filter(bool), sentences), min_size=1, max_size=5))
def test_rates_are_jiwers(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = (list(texts) for texts in zip(*pairs, strict=True))
    found = corpus_errors(hypotheses, references=references, normalize="none", unit=Unit.WORD)
    assert found.total.rate == pytest.approx(jiwer.wer(references, hypotheses))


def test_characters_are_counted_without_spaces() -> None:
    counts = error_counts("你号 世界", reference="你好世 界", unit=Unit.CHARACTER)
    assert counts == ErrorCounts(substitutions=1, reference_length=4)
    # combining marks are characters of their own
    counts = error_counts("दन", reference="दिन", unit=Unit.CHARACTER)
    assert counts == ErrorCounts(deletions=1, reference_length=3)


def test_empty_references_are_dropped_and_counted() -> None:
    found = corpus_errors(
        ["heard", "heard", "a", "b", "um"],
        references=["", " … ", "IGNORE_TIME_SEGMENT_IN_SCORING", "b", "[noise]"],
        normalize="whisper-basic",
        unit=Unit.WORD,
    )
    kept = ErrorCounts(reference_length=1)
    assert found.utterances == (None, None, None, kept, None)
    assert found.dropped == 4 and found.total == kept


def test_an_empty_hypothesis_misses_all() -> None:
    counts = error_counts("", reference="a b", unit=Unit.WORD)
    assert counts == ErrorCounts(deletions=2, reference_length=2) and counts.rate == 1


def test_much_inserted_is_a_rate_above_one() -> None:
    assert error_counts("a a a", reference="b", unit=Unit.WORD).rate == 3


def test_nothing_said_has_no_rate() -> None:
    for counts in (ErrorCounts(), error_counts("a b", reference=" ", unit=Unit.WORD)):
        with pytest.raises(ValueError, match="an empty reference has no error rate"):
            _ = counts.rate
    assert counts.insertions == 2


def test_normalised_before_counting_and_said_in_the_signature() -> None:
    for normalize, errors in (("none", 2), ("marks-kept", 0), ("whisper-english", 0)):
        found = corpus_errors(
            ["hello world!"], references=["Hello, world"], normalize=normalize, unit=Unit.WORD
        )
        assert found.total.errors == errors
        assert found.signature.startswith(f"{normalize}|")
        assert found.signature.endswith("|words|jiwer:4.0.0".replace("4.0.0", jiwer_version()))


def jiwer_version() -> str:
    from importlib.metadata import version

    return version("jiwer")


def test_unequal_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="1 hypotheses for 2 references"):
        corpus_errors(["a"], references=["a", "b"], normalize="none", unit=Unit.WORD)
