"""Drawing an answer token by token: greedy or sampled, for batches, with stops (paper section 6).

The loop knows a model only as a :class:`Session` that reads tokens and gives the logits after them,
so that it serves the bare core and every composition alike. Each row draws from a random generator
of its own: what a row says does not depend on its neighbours, nor on the device.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from language.errors import InputError
from language.model import Llama
from language.repetition import ends_in_loop
from language.tokenizer import Tokenizer
from language.weights import read_json


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How tokens are drawn, and when to stop."""

    stop_ids: tuple[int, ...] = ()
    """Tokens that end an answer; they are not given out."""
    max_new_tokens: int = 512
    """Most tokens of an answer."""
    temperature: float = 0.0
    """Logits are divided by it; 0 always takes the likeliest token."""
    top_k: int = 0
    """Draw among the k likeliest alone; 0 among all."""
    top_p: float = 1.0
    """Draw among the likeliest that together have this probability."""
    seed: int = 0
    """Of the random generators."""
    max_loop: int = 32
    """Longest run of tokens whose repetition ends an answer; 0 never ends one so."""
    num_loops: int = 4
    """Times in a row that a run must stand to count as a loop; short runs must fill max_loop."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be 0 or more, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 or more, not {self.top_k}")
        if self.max_loop < 0:
            raise ValueError(f"max_loop must be 0 or more, not {self.max_loop}")
        if self.num_loops < 2:
            raise ValueError(f"num_loops must be at least 2, not {self.num_loops}")

    @classmethod
    def from_directory(cls, directory: Path | str, *, tokenizer: Tokenizer) -> "GenerationConfig":
        """What ``generation_config.json`` says, as transformers reads it; greedy without it.

        The tokenizer's stop tokens end an answer beside those that the file names: early releases
        named too few.

        Raises:
            InputError: the file is unreadable, or holds senseless values.
        """
        file = Path(directory) / "generation_config.json"
        if not file.is_file():
            return cls(stop_ids=tokenizer.stop_ids)
        found = read_json(file)
        ends = found.get("eos_token_id")
        ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
        if not all(isinstance(token, int) for token in ends):
            raise InputError(file, "eos_token_id must be a token's id or a list of them")
        kinds: dict[str, type | tuple[type, ...]] = {"max_new_tokens": int}
        if found.get("do_sample"):
            kinds |= {"temperature": (int, float), "top_k": int, "top_p": (int, float)}
            found.setdefault("temperature", 1.0)
        values: dict[str, Any] = {key: found[key] for key in kinds if found.get(key) is not None}
        for key, value in values.items():
            if not isinstance(value, kinds[key]):
                raise InputError(file, f"{key} must be a number, not {value!r}")
        try:
            return cls(stop_ids=tuple(dict.fromkeys((*tokenizer.stop_ids, *ends))), **values)
        except ValueError as error:
            raise InputError(file, str(error)) from None


class Session(Protocol):
    """A batch of texts being read, in a model that remembers them."""

    def append(self, tokens: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Read further tokens of each row.

        Args:
            tokens: [batch, tokens], padded on the right.
            lengths: real tokens of each row, [batch]; all by default.

        Returns:
            Logits [batch, vocabulary] after the last token of each row.
        """
        ...


class LlamaSession:
    """The bare core's session."""

    def __init__(self, model: Llama, *, batch_size: int, max_length: int) -> None:
        """Room for ``batch_size`` texts of at most ``max_length`` tokens."""
        self.model = model
        self.cache = model.new_cache(batch_size, max_length=max_length)

    @torch.inference_mode()
    def append(self, tokens: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """See :meth:`Session.append`."""
        num_new = None if lengths is None else lengths.tolist()
        hidden = self.model.hidden_states(tokens, cache=self.cache, num_new=num_new)
        if lengths is None:
            return self.model.logits(hidden[:, -1])
        rows = torch.arange(len(tokens), device=tokens.device)
        return self.model.logits(hidden[rows, lengths - 1])


def generate(
    session: Session,
    logits: Tensor,
    config: GenerationConfig,
    *,
    seeds: Sequence[int] | None = None,
) -> Iterator[list[int | None]]:
    """Draw answers after prompts that ``session`` has read.

    Args:
        session: gives the logits after each further token.
        logits: [batch, vocabulary], after the prompts.
        config: how to draw and when to stop.
        seeds: of each row's random generator. By default all have the config's, so that each row
            says what it would say alone; several answers to one prompt need several seeds.

    Yields:
        One token of each row a step; None for a row that has ended.
    """
    rngs = [random.Random(seed) for seed in seeds or [config.seed] * len(logits)]
    assert len(rngs) == len(logits), "a seed for each row"
    said: list[list[int]] = [[] for _ in rngs]
    running = [True] * len(rngs)
    for step in range(config.max_new_tokens):
        tokens = logits.argmax(dim=-1) if config.temperature == 0 else draw(logits, config, rngs)
        out: list[int | None] = []
        for row, token in enumerate(tokens.tolist()):
            running[row] = running[row] and token not in config.stop_ids
            out.append(token if running[row] else None)
            said[row].append(token)
            running[row] = running[row] and not ends_in_loop(
                said[row], max_loop=config.max_loop, num_loops=config.num_loops
            )
        if any(token is not None for token in out):
            yield out
        if not any(running) or step + 1 == config.max_new_tokens:
            return
        logits = session.append(tokens[:, None])


def draw(logits: Tensor, config: GenerationConfig, rngs: Sequence[random.Random]) -> Tensor:
    """Draw a token of each row, [batch], from ``logits`` [batch, vocabulary].

    One random number a row finds its place among the shares laid end to end.
    """
    shares, ids = candidates(logits, config)
    ends = shares.cumsum(dim=-1)
    total = ends[:, -1:].contiguous()
    places = torch.tensor([[rng.random()] for rng in rngs], device=logits.device) * total
    drawn = torch.searchsorted(ends, places, right=True)
    last = torch.searchsorted(ends, total)  # beyond it all shares are 0
    return ids.gather(-1, torch.minimum(drawn, last)).squeeze(-1)


def candidates(logits: Tensor, config: GenerationConfig) -> tuple[Tensor, Tensor]:
    """Tokens that may be drawn, after temperature, then top-k, then top-p.

    Tokens are kept from the likeliest on until those before them have top_p already.

    Args:
        logits: [batch, vocabulary].
        config: its temperature is above 0.

    Returns:
        What each may be drawn with, [batch, candidates], up to a factor, and the tokens' ids.
    """
    logits = logits.float()
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / config.temperature
    if 0 < config.top_k < logits.shape[-1]:
        logits, ids = logits.topk(config.top_k)
    elif config.top_p < 1:
        logits, ids = logits.sort(descending=True, stable=True)
    else:
        ids = torch.arange(logits.shape[-1], device=logits.device).expand_as(logits)
    shares = logits.softmax(dim=-1)
    if config.top_p < 1:
        before = shares.cumsum(dim=-1) - shares
        shares = shares.masked_fill(before >= config.top_p, 0)
    return shares, ids
