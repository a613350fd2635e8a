import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import num2words

from speech.normalization.rules import UnreadableError, language

ENGLISH, GERMAN = language("en"), language("de")
EXAMPLES = [
    (rules, rule.name, written, said)
    for rules in (ENGLISH, GERMAN)
    for rule in rules.rules.values()
    for written, said in rule.examples.items()
]
REFUSED = [
    ("cardinal", "12a"),
    ("cardinal", "1,23"),
    ("cardinal", "9" * 300),
    ("ordinal", "first"),
    ("year", "0123"),
    ("digits", "12,"),
    ("decimal", "3"),
    ("fraction", "1/0"),
    ("fraction", "1/1"),
    ("money", "$"),
    ("measure", "5 parsecs"),
    ("measure", "5 kg."),
    ("date", "13/45"),
    ("date", "2024-13-01"),
    ("time", "5:77"),
    ("time", "5"),
    ("telephone", "call"),
    ("telephone", "929."),
    ("roman_cardinal", "IIII"),
    ("roman_ordinal", ""),
    ("title", "cat"),
    ("place", "Mr."),
    ("letters", "A1"),
    ("electronic", "two words.com"),
    ("range", "3"),
    ("score", "3"),
    ("first_sense", "cat"),
    ("plain", "x1"),
    ("plain", "'"),
    ("silent", "a"),
    ("decade", "1995s"),
    ("no such rule", "x"),
]


@pytest.mark.parametrize(("rules", "name", "written", "said"), EXAMPLES)
def test_examples(rules, name, written, said):
    assert rules.read(name, written) == said


def test_every_rule_has_examples():
    for rules in (ENGLISH, GERMAN):
        assert all(rule.examples for rule in rules.rules.values())


@pytest.mark.parametrize(("name", "written"), REFUSED)
def test_what_a_rule_cannot_read_it_refuses(name, written):
    with pytest.raises(UnreadableError):
        ENGLISH.read(name, written)


@given(st.integers(0, 10**36 - 1))
def test_cardinals_are_those_of_the_library(value):
    wanted = num2words(value).replace("-", " ").replace(",", "")
    assert ENGLISH.read("cardinal", str(value)) == wanted
    assert ENGLISH.read("cardinal", f"{value:,}") == wanted


@given(st.from_regex(r"[0-9]{1,400}", fullmatch=True))
def test_digit_by_digit_says_every_digit(written):
    assert len(ENGLISH.read("digits", written).split()) == len(written)
    assert len(GERMAN.read("digits", written).split()) == len(written)


@given(st.text(max_size=40))
def test_rules_read_or_refuse_and_verbatim_reads(written):
    for rules in (ENGLISH, GERMAN):
        refusing = set()
        for rule in rules.rules.values():
            try:
                assert isinstance(rule.read(written), str)
            except UnreadableError:
                refusing.add(rule.name)
        assert not {"verbatim", "plain"} <= refusing


@given(st.integers(1, 3999))
def test_roman_numerals(value):
    table = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC")]
    table += [(50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
    written, left = "", value
    for step, letters in table:
        written += letters * (left // step)
        left %= step
    said = ENGLISH.read("roman_cardinal", written)
    assert said == num2words(value).replace("-", " ").replace(",", "")


def test_an_unknown_language():
    with pytest.raises(ValueError, match="no rules for the language 'xx'"):
        language("xx")
