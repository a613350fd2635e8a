"""Our normalisers and error rates against those of lmms-eval and of the Open ASR Leaderboard.

The leaderboard's English normaliser is Whisper's, which transformers has, too. It is no package;
by now it also joins the letters of "U. S. A." and drops dots of omission, which is not done here,
on purpose: the paper's figures are by Whisper's own.
"""

import importlib.resources
import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("lmms_eval")
pytest.importorskip("editdistance")

from lmms_eval.tasks.librispeech.utils import librispeech_wer, remove_sp
from lmms_eval.tasks.librispeech.whisper_normalizer.basic import (
    BasicTextNormalizer as LmmsBasic,
)
from lmms_eval.tasks.librispeech.whisper_normalizer.english import (
    EnglishTextNormalizer as LmmsEnglish,
)
from transformers.models.whisper.english_normalizer import (
    BasicTextNormalizer as TransformersBasic,
)
from transformers.models.whisper.english_normalizer import (
    EnglishTextNormalizer as TransformersEnglish,
)

from multimodal.evaluation.metrics.normalizers import normalizer
from multimodal.evaluation.metrics.script_units import Unit
from multimodal.evaluation.metrics.word_errors import corpus_errors
from tests.multimodal.evaluation.harness.said import ANSWERS, TRICKY

pytestmark = pytest.mark.harness
many = settings(max_examples=400, deadline=None)

SPELLINGS = json.loads(
    importlib.resources.files("whisper_normalizer").joinpath("normalizers/english.json").read_text()
)
ENGLISH = (LmmsEnglish(), TransformersEnglish(SPELLINGS))
BASIC = (LmmsBasic(), TransformersBasic())
SPOKEN = ("Mr. Smith's colour isn't grey", "it's $20 million, or 3.5%", "I've got two-and-a-half",
          "twenty twenty one", "uh, hmm, well [laughs] (really)", "one oh one", "double oh seven",
          "he'd've gone", "ma'am", "50 pence and 3 euros", "nineteen-nineties", "won't can't let's",
          "1st 2nd 3rd", "a hundred and one", "five hundred thousand", "point five", "minus 3",
          "12:30 p.m.", "café naïve", "Prof. O'Neil, Jr.", "e.g. the U.S.A.")  # fmt: skip


@pytest.mark.parametrize("theirs", ENGLISH, ids=["lmms-eval", "transformers"])
def test_english_is_normalized_alike(theirs) -> None:
    ours = normalizer("whisper-english").apply

    @many
    @given(ANSWERS)
    def same(text: str) -> None:
        assert ours(text) == theirs(text).strip()

    for text in (*TRICKY, *SPOKEN):
        assert ours(text) == theirs(text).strip(), text
    same()


@pytest.mark.parametrize("theirs", BASIC, ids=["lmms-eval", "transformers"])
def test_other_languages_are_normalized_alike_by_whisper_s_basic_one(theirs) -> None:
    ours = normalizer("whisper-basic").apply

    @many
    @given(ANSWERS)
    def same(text: str) -> None:
        assert ours(text) == theirs(text).strip()

    for text in (*TRICKY, *SPOKEN):
        assert ours(text) == theirs(text).strip(), text
    same()


def test_marks_are_kept_on_purpose() -> None:
    """The basic one, which the others use outside of English, takes vowels from words."""
    ours = normalizer("marks-kept").apply
    assert ours("यह किताब है।") == "यह किताब है"
    for theirs in BASIC:
        assert theirs("किताब").split() == ["क", "त", "ब"]
        latin = "Straße, Ça va? NAÏVE!"
        assert ours(latin) == theirs(latin).strip()


VOCABULARY = ("the cat sat on mat it's colour color two 2 twenty one mr mister uh don't dont "
              "Smith, gone. [x]").split()  # fmt: skip


@many
@given(st.lists(st.tuples(*[st.lists(st.sampled_from(VOCABULARY), max_size=8)] * 2), min_size=1))
def test_word_error_rates_of_librispeech(pairs: list[tuple[list[str], list[str]]]) -> None:
    """On purpose, an utterance whose reference is empty once normalised is dropped here; lmms-eval
    counts what is heard in it, and fails if it comes first.
    """
    english = normalizer("whisper-english").apply
    pairs = [(said, heard) for said, heard in pairs if english(" ".join(said))]
    assume(pairs)
    said, heard = ([" ".join(pair[n]) for pair in pairs] for n in (0, 1))
    found = corpus_errors(
        heard, references=said, normalize="whisper-english", unit=Unit.WORD
    ).total.rate
    results = [
        {"gt": true, "pred": guess, "task": "asr_en"}
        for true, guess in zip(said, heard, strict=True)
    ]
    assert 100 * found == pytest.approx(librispeech_wer(results, None))


def test_what_lmms_eval_does_beyond_whisper_s_normalizer() -> None:
    """On purpose not here: it normalises English by the basic normaliser once more, so that signs
    and units count for nothing. (It also takes special tokens out: our models write none.)
    """
    assert remove_sp("<|en|>the cat , sat", "en") == "the cat, sat"
    for said, heard in (("minus three", "three"), ("$5", "5"), ("3%", "3"), ("2.5", "2 5")):
        (counts,) = corpus_errors(
            [heard], references=[said], normalize="whisper-english", unit=Unit.WORD
        ).utterances
        assert counts and counts.errors
        assert librispeech_wer([{"gt": said, "pred": heard, "task": "asr_en"}], None) == 0
