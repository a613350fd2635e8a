"""How a harness wants answers drawn, out of the many names that it has for it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from language.errors import InputError
from language.generation import GenerationConfig
from language.tokenizer import Tokenizer

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the most tokens of an answer; the first that is there counts, as in lm-eval."""
_KNOWN = (*LENGTHS, "until", "do_sample", "temperature", "top_k", "top_p")
_IDLE: dict[str, Any] = {"num_beams": 1, "use_cache": True, "num_return_sequences": 1}
"""Settings that are what happens anyway, as long as they have these values."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How to draw, and the texts that end an answer."""

    config: GenerationConfig
    until: tuple[str, ...] = ()
    """An answer is cut before the first of these."""

    @classmethod
    def asked(
        cls,
        wanted: Mapping[str, Any],
        *,
        tokenizer: Tokenizer,
        stop_ids: tuple[int, ...],
        max_new_tokens: int,
    ) -> "Drawing":
        """What a request's settings mean.

        Nothing else ends an answer: the guard against loops is off, since harnesses know none.

        Args:
            wanted: settings by the harness's names; those that mean nothing here are warned of.
            tokenizer: the model's.
            stop_ids: tokens that end every answer; a stop text that names a special token adds it.
            max_new_tokens: where the request does not say.

        Raises:
            InputError: a value out of range.
        """
        for name, value in wanted.items():
            if name not in _KNOWN and value is not None and _IDLE.get(name) != value:
                log.warning("%s=%r is passed over: openherd has no such setting", name, value)
        until = wanted.get("until") or ()
        until = tuple(filter(None, (until,) if isinstance(until, str) else until))
        named = (
            tokenizer.special_tokens[text] for text in until if text in tokenizer.special_tokens
        )
        length = next((wanted[n] for n in LENGTHS if wanted.get(n) is not None), max_new_tokens)
        temperature = wanted.get("temperature")
        samples = bool(temperature) if wanted.get("do_sample") is None else wanted["do_sample"]
        shares: dict[str, Any] = {}
        if samples:
            shares["temperature"] = 1.0 if temperature is None else float(temperature)
            shares |= {n: wanted[n] for n in ("top_k", "top_p") if wanted.get(n) is not None}
        try:
            config = GenerationConfig(
                stop_ids=tuple(dict.fromkeys((*stop_ids, *named))),
                max_new_tokens=int(length),
                max_loop=0,
                **shares,
            )
        except ValueError as error:
            raise InputError("generation settings", str(error)) from None
        return cls(config=config, until=until)
