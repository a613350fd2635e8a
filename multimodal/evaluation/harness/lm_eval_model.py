"""The core as a model of EleutherAI's lm-evaluation-harness, ``openherd`` to its command.

Texts are cut into tokens as its own Hugging Face model does: spaces at a context's end go with the
continuation, and without a context the text's first token follows the token that begins texts.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch.nn.utils.rnn import pad_sequence

from language.generation import GenerationConfig, LlamaSession, generate
from multimodal.assistant import load
from multimodal.evaluation.harness.likelihoods import continuation_likelihoods


@register_model("openherd")
class OpenherdLM(LM):
    """The language core of a model directory."""

    def __init__(
        self,
        pretrained: str = "tiny",
        core: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | str = 16,
        max_length: int | str = 0,
        max_gen_toks: int | str = 256,
        add_bos_token: bool | str = False,
        **ignored: Any,
    ) -> None:
        """Load a model; every argument may be a text, as on the harness's command line.

        Args:
            pretrained: directory of the model, or "tiny".
            core: where ``pretrained`` is an adapter alone, the directory of its core.
            device: where to run.
            dtype: of the weights.
            batch_size: texts that are read together.
            max_length: most tokens that are read of a text; 0 is the core's own.
            max_gen_toks: longest answer, unless a task says otherwise.
            add_bos_token: whether the token that begins texts stands before every context.
            ignored: what the harness passes to all models.
        """
        super().__init__()
        assistant = load(pretrained, core=core, device=device, dtype=dtype)
        self.core, self.tokenizer = assistant.model.language, assistant.processor.tokenizer
        self._generation, self._chat = assistant.generation, assistant.processor
        self._name = str(Path(pretrained).name)
        self.batch_size = 16 if str(batch_size) == "auto" else int(batch_size)
        self.max_length = int(max_length) or self.core.config.max_positions
        self.max_gen_toks = int(max_gen_toks)
        self.add_bos_token = str(add_bos_token).lower() in ("true", "1", "yes")
        self._device = self.core.embedding.weight.device
        self._has_template = False

    @property
    def tokenizer_name(self) -> str:
        """A name for the harness's cache of requests."""
        return f"openherd-{self._name}"

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Llama 3's dialog format, which is not a template that could be shown."""
        return "llama3" if chat_template else ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A dialogue in Llama 3's format, with its special tokens by name."""
        self._has_template = True
        tokens = self._chat.encode(chat_history, train=not add_generation_prompt).tokens.tolist()
        return self.tokenizer.decode(tokens)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Log-probabilities of continuations after contexts, and whether each is the likeliest."""
        pairs = [self._pair(*request.args) for request in requests]
        found = self._scored(pairs)
        for request, result in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, result)
        return found

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log-probabilities of whole texts, each token once, in windows of the core's length."""
        totals = []
        for (text,) in (request.args for request in requests):
            windows = get_rolling_token_windows(
                token_list=self._encode(text),
                prefix_token=self.tokenizer.bos_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            total = sum(
                share for share, _ in self._scored(list(map(make_disjoint_window, windows)))
            )
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
            totals.append(total)
        return totals

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answers up to a stop text, requests with the same settings side by side."""
        answers = [""] * len(requests)
        by_settings = sorted(range(len(requests)), key=lambda i: str(requests[i].args[1]))
        for _, group in groupby(by_settings, key=lambda i: str(requests[i].args[1])):
            indices = sorted(group, key=lambda i: -len(requests[i].args[0]))
            for start in range(0, len(indices), self.batch_size):
                some = indices[start : start + self.batch_size]
                settings = requests[some[0]].args[1]
                texts = self._answered([requests[i].args[0] for i in some], settings)
                for index, text in zip(some, texts, strict=True):
                    answers[index] = text
                    self.cache_hook.add_partial("generate_until", requests[index].args, text)
        return answers

    def _scored(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        return continuation_likelihoods(
            self.core, pairs, batch_size=self.batch_size, max_length=self.max_length
        )

    def _encode(self, text: str) -> list[int]:
        """Ids; names of special tokens are those tokens in what a template has made alone."""
        tokens = self.tokenizer.encode(text, allow_special=self._has_template)
        begins = tokens[:1] == [self.tokenizer.bos_id]
        return [self.tokenizer.bos_id, *tokens] if self.add_bos_token and not begins else tokens

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of a context and of what follows it, cut as the whole text is."""
        if not context:
            after = self.tokenizer.encode(continuation, allow_special=self._has_template)
            return [self.tokenizer.bos_id], after
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        whole, before = self._encode(context + continuation), self._encode(context)
        if not before:
            return [self.tokenizer.bos_id], whole
        return whole[: len(before)], whole[len(before) :]

    @torch.no_grad()
    def _answered(self, contexts: Sequence[str], settings: dict[str, Any]) -> list[str]:
        until = settings.get("until") or []
        stops = [until] if isinstance(until, str) else list(until)
        most = int(settings.get("max_gen_toks", settings.get("max_new_tokens", self.max_gen_toks)))
        config = self._config(settings, most)
        room = self.max_length - most
        prompts = [self._encode(text)[-room:] or [self.tokenizer.bos_id] for text in contexts]
        rows = [torch.tensor(prompt, device=self._device) for prompt in prompts]
        lengths = torch.tensor([len(row) for row in rows])
        session = LlamaSession(
            self.core, batch_size=len(rows), max_length=int(lengths.max()) + most
        )
        logits = session.append(pad_sequence(rows, batch_first=True), lengths=lengths)
        said: list[list[int]] = [[] for _ in rows]
        for step in generate(session, logits, config):
            for row, token in enumerate(step):
                said[row] += [] if token is None else [token]
            texts = [self.tokenizer.decode(tokens, skip_special=True) for tokens in said]
            ended = [token is None for token in step]
            if all(end or any(s in t for s in stops) for end, t in zip(ended, texts, strict=True)):
                break
        return [_before(self.tokenizer.decode(t, skip_special=True), stops) for t in said]

    def _config(self, settings: dict[str, Any], most: int) -> GenerationConfig:
        draws = settings.get("do_sample", settings.get("temperature", 0) > 0)
        return GenerationConfig(
            stop_ids=self._generation.stop_ids,
            max_new_tokens=most,
            temperature=float(settings.get("temperature") or 1.0) if draws else 0.0,
            top_p=float(settings.get("top_p", 1.0)),
            max_loop=0,
        )


def _before(text: str, stops: Sequence[str]) -> str:
    """A text up to the first of some others."""
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return text[: min(places, default=len(text))]
