"""The unit of a language's errors."""

import pytest

from multimodal.evaluation.metrics.script_units import Unit, error_unit, primary_language
from multimodal.languages import LANGUAGES


def test_languages_of_the_paper_in_characters() -> None:
    in_characters = [code for code in LANGUAGES if error_unit(code) is Unit.CHARACTER]
    assert in_characters == ["ja", "ko", "th", "zh"]


@pytest.mark.parametrize("tag", ["zh-CN", "cmn_hans_cn", "JA", "th_TH", "yue-Hant-HK", "my", "kor"])
def test_tags_with_regions_and_scripts(tag: str) -> None:
    assert error_unit(tag) is Unit.CHARACTER


def test_tags_that_begin_alike_are_others() -> None:
    assert {error_unit(tag) for tag in ("en_US", "thx", "mya1", "hi_in", "vi")} == {Unit.WORD}


def test_no_language_is_refused() -> None:
    for tag in ("", " ", "-CN"):
        with pytest.raises(ValueError, match="no language"):
            primary_language(tag)
