"""English, whole."""

from speech.normalization.english_numbers import NUMBERS
from speech.normalization.english_text import TEXT
from speech.normalization.rules import Language

ENGLISH = Language("en", TEXT.rules | NUMBERS.rules)
"""Every rule of English."""
