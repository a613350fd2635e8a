"""Languages of short texts."""

import pytest

from video.curation.language_id import LanguageRules, check_language, identify

pytest.importorskip("py3langid")
SAID = {
    "en": "The dog runs after the ball in the park and brings it back.",
    "de": "Der Hund läuft im Park dem Ball nach und bringt ihn zurück.",
    "fr": "Le chien court après la balle dans le parc et la rapporte.",
    "es": "El perro corre detrás de la pelota en el parque y la trae.",
    "ru": "Собака бежит за мячом в парке и приносит его обратно.",
    "ja": "犬が公園でボールを追いかけています。",
}


@pytest.mark.parametrize("code", SAID)
def test_languages_are_told(code):
    found, probability = identify(SAID[code])
    assert found == code and 0.5 < probability <= 1


@pytest.mark.parametrize("code", SAID)
def test_wanted_ones_pass(code):
    english = check_language(SAID[code], LanguageRules())
    assert english.passed == (code == "en")
    assert english.passed or f"written in {code}" in english.reason
    assert check_language(SAID[code], LanguageRules(languages=(code, "pt"))).passed


def test_texts_too_short_to_judge_pass():
    assert check_language("123, 456!", LanguageRules()).passed
    assert check_language("ok", LanguageRules()).passed


def test_an_unsure_answer_is_refused():
    text = "Anna Martin Laura Peter David"  # names alone
    code, probability = identify(text)
    assert probability < 0.9999
    rules = LanguageRules(languages=(code,), min_probability=0.9999)
    verdict = check_language(text, rules)
    assert not verdict.passed and "probability" in verdict.reason
    assert check_language(text, LanguageRules(languages=(code,), min_probability=0.0)).passed


@pytest.mark.parametrize("wrong", [{"languages": ()}, {"min_probability": 1.5}])
def test_wrong_rules_are_refused(wrong):
    with pytest.raises(ValueError, match="language_id"):
        LanguageRules(**wrong)
