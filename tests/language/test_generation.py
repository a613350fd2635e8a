"""Drawing answers: equal to the plain definition, rows that ignore neighbours, and every stop."""

import json
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from language.config import LlamaConfig
from language.errors import InputError
from language.generation import (
    GenerationConfig,
    LlamaSession,
    candidates,
    draw,
    generate,
)
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


def answers(
    core: Llama,
    prompts: list[list[int]],
    config: GenerationConfig,
    *,
    seeds: list[int] | None = None,
) -> list[list[int]]:
    width = max(map(len, prompts))
    tokens = torch.tensor([prompt + [0] * (width - len(prompt)) for prompt in prompts])
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    session = LlamaSession(core, batch_size=len(prompts), max_length=width + config.max_new_tokens)
    logits = session.append(tokens, lengths=lengths)
    steps = list(generate(session, logits, config, seeds=seeds))
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
    def say(seed: int) -> list[list[int]]:
        config = GenerationConfig(max_new_tokens=20, temperature=1.5, seed=seed)
        return answers(core, PROMPTS, config)

    assert say(1) == say(1) != say(2)
    longer = GenerationConfig(max_new_tokens=30, temperature=1.5, seed=1)
    assert [row[:20] for row in answers(core, PROMPTS, longer)] == say(1)


def test_seeds_give_several_answers_to_one_prompt(core: Llama) -> None:
    config = GenerationConfig(max_new_tokens=12, temperature=1.5, max_loop=0)
    several = answers(core, [PROMPTS[0]] * 3, config, seeds=[5, 6, 5])
    assert several[0] == several[2] != several[1]
    alone = GenerationConfig(max_new_tokens=12, temperature=1.5, max_loop=0, seed=6)
    assert several[1] == answers(core, [PROMPTS[0]], alone)[0]


def in_order(shares: Tensor, ids: Tensor, *, size: int) -> Tensor:
    """Chances of all tokens from those of the candidates."""
    out = torch.zeros(len(shares), size).scatter(-1, ids, shares)
    return out / out.sum(dim=-1, keepdim=True)


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
    ours = in_order(*candidates(logits, config), size=12)
    torch.testing.assert_close(ours, warped.softmax(-1))


@pytest.mark.parametrize("settings", [{}, {"top_k": 4}, {"top_p": 0.8}, {"top_k": 5, "top_p": 0.7}])
def test_tokens_are_drawn_as_often_as_they_should(settings: dict[str, float]) -> None:
    config = GenerationConfig(temperature=0.8, **settings)
    logits = torch.tensor([[0.3, -1.0, 2.0, 1.1, -torch.inf, 0.9, 1.7]])
    number = 20_000
    rows = logits.expand(number, -1)
    drawn = draw(rows, config, [random.Random(seed) for seed in range(number)])
    often = drawn.bincount(minlength=7) / number
    expected = in_order(*candidates(logits, config), size=7)[0]
    assert (often[expected == 0] == 0).all()
    # Five standard deviations of a share among so many draws.
    assert ((often - expected).abs() <= 5 * (expected / number).sqrt()).all()


class Fixed:
    """A random generator that gives one number."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


@pytest.mark.parametrize("temperature", [1e-30, 1e-4, 1.0, 1e30])
@pytest.mark.parametrize("place", [0.0, 0.5, 1 - 2**-53])
def test_nothing_impossible_is_drawn(temperature: float, place: float) -> None:
    """At both ends of the interval, with rounded sums and scores far apart."""
    torch.manual_seed(0)
    logits = 30 * torch.randn(4, 1000)
    logits[:, :3] = logits[:, -3:] = -torch.inf
    for kept in ({}, {"top_k": 7}, {"top_p": 0.3}):
        config = GenerationConfig(temperature=temperature, **kept)
        drawn = draw(logits, config, [Fixed(place)] * 4)
        chances = in_order(*candidates(logits, config), size=1000)
        assert chances.isfinite().all() and (chances.gather(1, drawn[:, None]) > 0).all()
        if temperature < 1e-3:
            assert torch.equal(drawn, logits.argmax(dim=-1))


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


@settings(max_examples=100, deadline=None)
@given(
    start=st.lists(st.integers(0, 3), max_size=8),
    run=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    max_loop=st.integers(0, 6),
    num_loops=st.integers(2, 4),
)
def test_an_answer_ends_with_its_first_loop(
    start: list[int], run: list[int], max_loop: int, num_loops: int
) -> None:
    def loops(said: list[int]) -> bool:
        for size in range(1, max_loop + 1):
            times = num_loops
            while times * size < max_loop:
                times += 1
            if len(said) >= times * size and said[-times * size :] == said[-size:] * times:
                return True
        return False

    text = start + run * 12
    ends = [end for end in range(1, len(text) + 1) if loops(text[:end])]
    assert recite(text, max_loop=max_loop, num_loops=num_loops) == text[: min(ends, default=None)]


def test_lists_and_short_repeats_are_no_loops() -> None:
    text = [1, 2, 3, 1, 2, 4, 1, 2, 5, 1, 2, 6, 7, 7, 7, 8]
    assert recite(text, max_loop=8, num_loops=3) == text
    assert recite([7] * 30, max_loop=0) == [7] * 30


def test_ways_of_drawing_come_from_the_directory(bpe: HuggingFaceTokenizer, tmp_path: Path) -> None:
    def read(**values: object) -> GenerationConfig:
        (tmp_path / "generation_config.json").write_text(json.dumps(values))
        return GenerationConfig.from_directory(tmp_path, tokenizer=bpe)

    greedy = GenerationConfig(stop_ids=bpe.stop_ids)
    assert GenerationConfig.from_directory(tmp_path, tokenizer=bpe) == greedy
    assert read() == read(eos_token_id=bpe.stop_ids[0]) == read(eos_token_id=None) == greedy
    assert read(temperature=0.6, top_p=0.9) == greedy, "do_sample decides"
    assert set(read(eos_token_id=[3, bpe.stop_ids[0]]).stop_ids) == {3, *bpe.stop_ids}
    drawn = read(do_sample=True, temperature=0.6, top_p=0.9, max_new_tokens=9, top_k=None)
    assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.max_new_tokens) == (0.6, 0.9, 0, 9)
    assert read(do_sample=True).temperature == 1


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"eos_token_id": "end"}, "eos_token_id must be"),
        ({"do_sample": True, "temperature": "hot"}, "temperature must be a number, not 'hot'"),
        ({"do_sample": True, "top_p": 7}, "top_p must be above 0 and at most 1"),
    ],
)
def test_senseless_files_are_named(
    bpe: HuggingFaceTokenizer, tmp_path: Path, values: dict[str, object], fault: str
) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=rf"generation_config\.json: {fault}"):
        GenerationConfig.from_directory(tmp_path, tokenizer=bpe)


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"temperature": float("nan")}, "temperature must be 0 or more"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"max_loop": -1}, "max_loop must be 0 or more"),
        ({"num_loops": 1}, "num_loops must be at least 2"),
        ({"top_k": -1}, "top_k must be 0 or more"),
    ],
)
def test_senseless_settings_are_refused(wrong: dict[str, float], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        GenerationConfig(**wrong)
