"""Languages by name and code."""

import pytest

from language.errors import InputError
from multimodal.languages import LANGUAGES, language_code, language_name

PAPER = (
    "ar bn zh cs nl en fi fr de el gu hi hu id it ja kn ko ml mr fa pl pt ro ru es sw sv ta te th "
    "tr ur vi"
)


def test_the_papers_languages_there_and_back():
    assert set(LANGUAGES) == set(PAPER.split()) and len(LANGUAGES) == 34
    assert len(set(LANGUAGES.values())) == 34
    for code, name in LANGUAGES.items():
        for word in (code, code.upper(), name, name.lower(), f" {name} ", f"{code}-XX"):
            assert language_code(word) == code and language_name(word) == name


@pytest.mark.parametrize("word", ["", "xx", "Englisch", "e", "-en"])
def test_unknown_languages_are_named(word):
    with pytest.raises(InputError, match="unknown; known are ar Arabic, bn Bengali"):
        language_name(word)
