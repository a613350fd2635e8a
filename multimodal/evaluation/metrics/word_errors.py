"""Word and character error rates: speech recognition (section 8.3).

A rate belongs to a corpus: it is the sum of errors over the sum of reference lengths, and never a
mean of utterances' rates, in which short utterances would weigh as much as long ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from multimodal.evaluation.metrics.normalizers import normalizer
from multimodal.evaluation.metrics.script_units import Unit


@dataclass(frozen=True, kw_only=True)
class ErrorCounts:
    """What turns a reference into a hypothesis: counts of an utterance, or of several in sum.

    The errors in all are the fewest possible. How they fall into kinds may be ambiguous.
    """

    substitutions: int = 0
    deletions: int = 0
    """Of the reference, missing in the hypothesis."""
    insertions: int = 0
    """In the hypothesis, though not of the reference."""
    reference_length: int = 0
    """In words or characters."""

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            substitutions=self.substitutions + other.substitutions,
            deletions=self.deletions + other.deletions,
            insertions=self.insertions + other.insertions,
            reference_length=self.reference_length + other.reference_length,
        )

    @property
    def errors(self) -> int:
        """Of all kinds."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors by reference length, as a fraction; above 1 where much is inserted.

        Raises:
            ValueError: the reference is empty.
        """
        if self.reference_length == 0:
            raise ValueError("an empty reference has no error rate")
        return self.errors / self.reference_length


@dataclass(frozen=True, kw_only=True)
class CorpusErrors:
    """Errors of a corpus, and what has to be known to compare them with others'."""

    utterances: tuple[ErrorCounts | None, ...]
    """In the order given; None where the reference was empty and so was dropped."""
    unit: Unit
    signature: str
    """Of the normaliser and the alignment."""

    @property
    def total(self) -> ErrorCounts:
        """The sum of what was not dropped; its rate is the corpus's WER or CER."""
        return sum((counts for counts in self.utterances if counts), ErrorCounts())

    @property
    def dropped(self) -> int:
        """How many utterances had an empty reference."""
        return self.utterances.count(None)


def corpus_errors(
    hypotheses: Sequence[str], *, references: Sequence[str], normalize: str, unit: Unit
) -> CorpusErrors:
    """Errors of recognised utterances.

    An utterance is dropped if its reference is empty once normalised, or is the note of TED-LIUM
    and GigaSpeech that a stretch of time is not scored: what is heard there is nobody's error.

    Args:
        hypotheses: what was recognised.
        references: what was said.
        normalize: name of a normaliser, see `multimodal.evaluation.metrics.normalizers`.
        unit: what is counted; for a language, see `error_unit`.

    Raises:
        ValueError: there are not as many references, or there is no such normaliser.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    from importlib.metadata import version

    chosen = normalizer(normalize)
    utterances: list[ErrorCounts | None] = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        said, heard = chosen.apply(reference), chosen.apply(hypothesis)
        empty = not said.strip() or _plain(reference) == _NOT_SCORED
        utterances.append(None if empty else error_counts(heard, reference=said, unit=unit))
    signature = f"{chosen.signature}|{unit}s|jiwer:{version('jiwer')}"
    return CorpusErrors(utterances=tuple(utterances), unit=unit, signature=signature)


def error_counts(hypothesis: str, *, reference: str, unit: Unit) -> ErrorCounts:
    """Errors of one utterance, aligned by jiwer.

    Args:
        hypothesis: what was recognised, normalised.
        reference: what was said, normalised.
        unit: words are parted by whitespace; characters are code points, without whitespace, since
            it carries nothing in scripts whose errors are counted in characters.
    """
    import jiwer

    said, heard = (_parted(text, unit) for text in (reference, hypothesis))
    if not said:  # of which jiwer would not hear
        return ErrorCounts(insertions=len(heard.split()))
    found = jiwer.process_words(said, heard)
    return ErrorCounts(
        substitutions=found.substitutions,
        deletions=found.deletions,
        insertions=found.insertions,
        reference_length=len(said.split()),
    )


def _parted(text: str, unit: Unit) -> str:
    """Units with one space between them."""
    return " ".join(text.split() if unit is Unit.WORD else "".join(text.split()))


_NOT_SCORED = "ignore time segment in scoring"


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").lower().split())
