"""Rules: the closed set of ways in which written text becomes spoken text (paper section 8.2).

A rule is a small pure function from what is written to the words that are said, and carries the
examples that it is tested by. The tagger says which rule reads each token; a token that goes on
with the rule of the one before it has the label :data:`CONTINUE`, so that a span of tokens ("$",
"3", ".", "50") is read as one. What is read by :data:`PLAIN` is said as it is written.

A language is its rules by name; names are shared by all languages, so that one tagger can serve
several. A rule refuses what it cannot read with :class:`UnreadableError`. Verbatim
reading takes everything but words in small letters, which are plain: no digit is ever dropped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

CONTINUE = "continue"
"""Label of a token that is read together with the one before it."""
PLAIN = "plain"
"""Rule of a word that is said as it stands."""
SILENT = "silent"
"""Rule of punctuation, which is heard as rhythm alone."""
VERBATIM = "verbatim"
"""Rule that names characters one by one; refuses nothing but words that are plain."""


class UnreadableError(ValueError):
    """A rule does not apply to what is written."""


@dataclass(frozen=True)
class Rule:
    """A way to read."""

    name: str
    read: Callable[[str], str]
    """From the written text of a span to what is said; raises :class:`UnreadableError`."""
    examples: Mapping[str, str]
    """Written and spoken; None stands for a refusal in tests of their own."""


@dataclass(frozen=True)
class Language:
    """The rules of a language."""

    code: str
    """ISO 639-1."""
    rules: dict[str, Rule] = field(default_factory=dict)

    def rule(
        self, name: str, examples: Mapping[str, str]
    ) -> Callable[[Callable[[str], str]], Callable[[str], str]]:
        """Enter a function as the rule ``name``."""

        def enter(function: Callable[[str], str]) -> Callable[[str], str]:
            assert name not in self.rules, f"two rules are called {name}"
            self.rules[name] = Rule(name, function, examples)
            return function

        return enter

    @property
    def labels(self) -> tuple[str, ...]:
        """What a tagger chooses from, in a fixed order."""
        return (CONTINUE, *self.rules)

    def read(self, name: str, written: str) -> str:
        """What ``written`` is by the rule ``name``.

        Raises:
            UnreadableError: the language has no such rule, or it does not apply.
        """
        if name not in self.rules:
            raise UnreadableError(f"{self.code} has no rule {name}")
        return self.rules[name].read(written)


def language(code: str) -> Language:
    """The rules of a language.

    Raises:
        ValueError: there are none for it.
    """
    from speech.normalization.english import ENGLISH
    from speech.normalization.german import GERMAN

    known = {each.code: each for each in (ENGLISH, GERMAN)}
    if code not in known:
        raise ValueError(f"no rules for the language {code!r}; there are {', '.join(known)}")
    return known[code]
