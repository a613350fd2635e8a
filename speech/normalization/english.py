"""English, whole."""

from speech.normalization.english_numbers import NUMBERS
from speech.normalization.english_text import TEXT
from speech.normalization.rules import VERBATIM, Language

ENGLISH = Language("en", TEXT.rules | NUMBERS.rules)
"""Every rule of English; verbatim, which reads everything, comes last."""
ENGLISH.rules[VERBATIM] = ENGLISH.rules.pop(VERBATIM)
