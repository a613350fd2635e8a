"""Drawing: equal to the plain definition, rows that ignore their neighbours, and every stop."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from language.config import LlamaConfig
from language.errors import InputError
from language.generation import GenerationConfig, LlamaSession, generate, probabilities
from language.model import Llama
from language.tokenizer import HuggingFaceTokenizer

PROMPTS = [[5, 9, 2], [7], [3, 3, 8, 1, 60, 2, 44]]


@pytest.fixture(scope="module")
def core() -> Llama:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, ffn_dim=48
    )
    model = Llama(config)
    model.reset_parameters()
    with torch.no_grad():
        model.head.weight.mul_(3)  # peaked enough for sampling to be seen
    return model.eval()


def answers(core: Llama, prompts: list[list[int]], config: GenerationConfig) -> list[list[int]]:
    width = max(map(len, prompts))
    tokens = torch.tensor([prompt + [0] * (width - len(prompt)) for prompt in prompts])
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    session = LlamaSession(core, batch_size=len(prompts), max_length=width + config.max_new_tokens)
    logits = session.append(tokens, lengths=lengths)
    steps = list(generate(session, logits, config))
    return [[step[row] for step in steps if step[row] is not None] for row in range(len(prompts))]


def test_greedy_is_the_likeliest_token_of_a_reading_anew(core: Llama) -> None:
    config = GenerationConfig(max_new_tokens=12, max_loop=0)
    for prompt in PROMPTS:
        tokens = list(prompt)
        for _ in range(12):
            tokens.append(int(core(torch.tensor([tokens]))[0, -1].argmax()))
        assert answers(core, [prompt], config)[0] == tokens[len(prompt) :]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_unequal_prompts_together_equal_one_by_one(core: Llama, temperature: float) -> None:
    config = GenerationConfig(max_new_tokens=15, temperature=temperature, seed=4, max_loop=0)
    together = answers(core, PROMPTS, config)
    assert together == [answers(core, [prompt], config)[0] for prompt in PROMPTS]
    stop = together[0][3]
    stopping = GenerationConfig(
        max_new_tokens=15, temperature=temperature, seed=4, max_loop=0, stop_ids=(stop,)
    )
    for row, full in zip(answers(core, PROMPTS, stopping), together, strict=True):
        assert row == (full[: full.index(stop)] if stop in full else full)


def test_a_seed_repeats_and_another_differs(core: Llama) -> None:
    first, same, other = (
        answers(core, PROMPTS, GenerationConfig(max_new_tokens=20, temperature=1.5, seed=seed))
        for seed in (1, 1, 2)
    )
    assert first == same != other


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.floats(0.2, 3.0),
    top_k=st.integers(0, 12),
    top_p=st.floats(0.05, 1.0),
)
def test_chances_equal_transformers(
    seed: int, temperature: float, top_k: int, top_p: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3, 12, generator=generator)
    warped: Tensor = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        warped = TopKLogitsWarper(top_k)(None, warped)
    if top_p < 1:
        warped = TopPLogitsWarper(top_p)(None, warped)
    config = GenerationConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    torch.testing.assert_close(probabilities(logits, config), warped.softmax(-1))


class Recital:
    """A session that says a text, whatever it reads."""

    def __init__(self, text: list[int]) -> None:
        self.text = iter(text)

    def append(self, tokens: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor([next(self.text)]), 50).float()


def recite(text: list[int], **settings: int) -> list[int | None]:
    session = Recital([*text, *range(40, 50)])
    config = GenerationConfig(max_new_tokens=len(text), **settings)
    first = session.append(torch.zeros(1, 1))
    return [step[0] for step in generate(session, first, config)]


@pytest.mark.parametrize("run", [[7], [7, 8], [1, 2, 3, 4, 5]])
def test_a_loop_ends_the_answer(run: list[int]) -> None:
    text = [9, 6, *(run * 30)]
    said = recite(text, max_loop=8, num_loops=3)
    assert said == text[: len(said)] and 2 + 2 * len(run) < len(said) <= 2 + 8 + 3 * len(run)


def test_lists_and_short_repeats_are_no_loops() -> None:
    text = [1, 2, 3, 1, 2, 4, 1, 2, 5, 1, 2, 6, 7, 7, 7, 8]
    assert recite(text, max_loop=8, num_loops=3) == text
    assert recite([7] * 30, max_loop=0) == [7] * 30


def test_stop_tokens_come_from_the_directory(bpe: HuggingFaceTokenizer, tmp_path: Path) -> None:
    assert GenerationConfig.from_directory(tmp_path, tokenizer=bpe).stop_ids == bpe.stop_ids
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": [3, bpe.stop_ids[0]], "temperature": 0.6}))
    config = GenerationConfig.from_directory(tmp_path, tokenizer=bpe)
    assert set(config.stop_ids) == {3, *bpe.stop_ids} and config.temperature == 0
    file.write_text(json.dumps({"eos_token_id": "end"}))
    with pytest.raises(InputError, match=r"generation_config\.json: eos_token_id must be"):
        GenerationConfig.from_directory(tmp_path, tokenizer=bpe)


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_k": -1}, "top_k must be 0 or more"),
    ],
)
def test_senseless_settings_are_refused(wrong: dict[str, float], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        GenerationConfig(**wrong)
