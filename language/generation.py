"""Drawing an answer token by token: greedy or sampled, for batches, with stops (paper section 6).

The loop knows a model only as a :class:`Session` that reads tokens and gives the logits after them,
so that it serves the bare core and every composition alike. Each row draws from a random generator
of its own: what a row says does not depend on its neighbours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from language.errors import InputError
from language.model import Llama
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
        if self.temperature < 0:
            raise ValueError(f"temperature must be 0 or more, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 or more, not {self.top_k}")

    @classmethod
    def from_directory(cls, directory: Path | str, *, tokenizer: Tokenizer) -> "GenerationConfig":
        """Greedy, with the stop tokens of ``generation_config.json`` and of the tokenizer.

        Raises:
            InputError: the file is unreadable.
        """
        file, stop_ids = Path(directory) / "generation_config.json", tokenizer.stop_ids
        if file.is_file():
            found = read_json(file).get("eos_token_id")
            listed = [] if found is None else found if isinstance(found, list) else [found]
            if not all(isinstance(token, int) for token in listed):
                raise InputError(file, "eos_token_id must be a token's id or a list of them")
            stop_ids = tuple(dict.fromkeys((*stop_ids, *listed)))
        return cls(stop_ids=stop_ids)


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

    @torch.no_grad()
    def append(self, tokens: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """See :meth:`Session.append`."""
        num_new = None if lengths is None else lengths.tolist()
        hidden = self.model.hidden_states(tokens, cache=self.cache, num_new=num_new)
        if lengths is None:
            return self.model.logits(hidden[:, -1])
        rows = torch.arange(len(tokens), device=tokens.device)
        return self.model.logits(hidden[rows, lengths - 1])


def generate(
    session: Session, logits: Tensor, config: GenerationConfig
) -> Iterator[list[int | None]]:
    """Draw answers after prompts that ``session`` has read.

    Args:
        session: gives the logits after each further token.
        logits: [batch, vocabulary], after the prompts.
        config: how to draw and when to stop.

    Yields:
        One token of each row a step; None for a row that has ended.
    """
    batch_size = len(logits)
    draw = _Draw(config, batch_size=batch_size, device=logits.device)
    said: list[list[int]] = [[] for _ in range(batch_size)]
    running = [True] * batch_size
    for step in range(config.max_new_tokens):
        tokens = draw(logits)  # [batch]
        out: list[int | None] = []
        for row, token in enumerate(tokens.tolist()):
            if running[row] and token in config.stop_ids:
                running[row] = False
            out.append(token if running[row] else None)
            if running[row]:
                said[row].append(token)
                running[row] = not _loops(said[row], config)
        if all(token is None for token in out):
            return
        yield out
        if step + 1 < config.max_new_tokens and any(running):
            logits = session.append(tokens[:, None])
        elif not any(running):
            return


class _Draw:
    """The next token of every row from its logits."""

    def __init__(self, config: GenerationConfig, *, batch_size: int, device: torch.device) -> None:
        self._config = config
        self._generators = []
        if config.temperature > 0:
            for _ in range(batch_size):
                generator = torch.Generator(device)
                generator.manual_seed(config.seed)
                self._generators.append(generator)

    def __call__(self, logits: Tensor) -> Tensor:
        if self._config.temperature == 0:
            return logits.argmax(dim=-1)
        shares = probabilities(logits, self._config)
        drawn = [
            torch.multinomial(share, 1, generator=generator)
            for share, generator in zip(shares, self._generators, strict=True)
        ]
        return torch.cat(drawn)


def probabilities(logits: Tensor, config: GenerationConfig) -> Tensor:
    """Chances of each token, [batch, vocabulary], after temperature, top-k and top-p.

    Tokens are kept from the likeliest on until those before them have top_p already.
    """
    logits = logits.float() / config.temperature
    if 0 < config.top_k < logits.shape[-1]:
        least = logits.topk(config.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if config.top_p < 1:
        ordered, index = logits.sort(descending=True)
        shares = ordered.softmax(dim=-1)
        beyond = shares.cumsum(dim=-1) - shares >= config.top_p
        logits = ordered.masked_fill(beyond, -torch.inf).gather(-1, index.argsort(dim=-1))
    return logits.softmax(dim=-1)


def _loops(tokens: list[int], config: GenerationConfig) -> bool:
    """Whether the answer ends in a run that stands there again and again."""
    for size in range(1, config.max_loop + 1):
        times = max(config.num_loops, -(-config.max_loop // size))
        if len(tokens) < size * times:
            continue
        if tokens[-size * times :] == tokens[-size:] * times:
            return True
    return False
