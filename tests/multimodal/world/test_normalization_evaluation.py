"""The measurement of text normalization: who reads right gets everything, who errs what is due."""

from itertools import islice

import pytest

from multimodal.world.normalization_evaluation import KINDS, PUBLISHED, line, measure, summary
from multimodal.world.written_sentences import labelled, sentences
from speech.normalization.normalizer import Spoken
from speech.normalization.rules import language

ENGLISH = language("en")
NUMBER, SEED = 200, 4
TEXTS = {
    text.text: text
    for text in (labelled([s]) for s in islice(sentences(split="test", seed=SEED), NUMBER))
}


class Knowing:
    """Reads by the true labels, but for those of some rule."""

    rules = ENGLISH

    def __init__(self, *, wrong=None):
        self.wrong = wrong

    def spans(self, text):
        said = []
        for span in TEXTS[text].spans:
            written = text[span.start : span.end]
            name = "verbatim" if span.rule == self.wrong else span.rule
            said.append(Spoken(written, span.start, ENGLISH.read(name, written), name))
        return said


def test_who_reads_right_has_all():
    found = measure(Knowing(), number=NUMBER, seed=SEED)
    assert found.accuracy == 100 and found.total.total() == NUMBER
    assert not +found.wrong_by_rule
    figures = summary("knowing", [found])
    assert figures["interval"][0] > 97 and figures["interval"][1] == pytest.approx(100)


def test_what_is_read_wrong_is_counted_where_it_belongs():
    found = measure(Knowing(wrong="year"), number=NUMBER, seed=SEED)
    with_years = [text for text in TEXTS.values() if any(s.rule == "year" for s in text.spans)]
    drawn = [labelled([s]).text for s in islice(sentences(split="test", seed=SEED), NUMBER)]
    wrong = sum(any(s.rule == "year" for s in TEXTS[text].spans) for text in drawn)
    assert with_years and found.accuracy == pytest.approx(100 * (1 - wrong / NUMBER))
    assert found.wrong_by_rule["year"] == found.by_rule["year"] > 0
    assert set(+found.wrong_by_rule) == {"year"}
    assert "read wrong: year 100.0 %" in line(summary("years", [found]))


def test_the_papers_figures_stand_beside_as_many_kinds():
    assert len(PUBLISHED) == len(KINDS)
