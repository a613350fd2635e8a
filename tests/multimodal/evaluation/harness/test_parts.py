"""What the plug-ins share, without any harness."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from language.errors import InputError
from language.generation import GenerationConfig, generate
from language.tokenizer import load_tokenizer
from multimodal.assistant import Assistant, load
from multimodal.evaluation.harness.answers import answers, cut
from multimodal.evaluation.harness.batches import in_batches
from multimodal.evaluation.harness.drawing import Drawing
from multimodal.evaluation.harness.likelihoods import Question, likelihoods
from multimodal.evaluation.harness.prompt import Prompt, Texts


@pytest.fixture(scope="module")
def llama(llama_directory: Path) -> Assistant:
    return load(llama_directory, device="cpu")


def test_batches_are_halved_where_memory_runs_out() -> None:
    sizes: list[int] = []
    kept: list[int] = []

    def work(some: Sequence[int]) -> None:
        sizes.append(len(some))
        if len(some) > 3:
            raise torch.OutOfMemoryError
        kept.extend(some)

    in_batches(range(10), work, batch_size=8)
    assert kept == list(range(10))
    assert sizes == [8, 4, 2, 2, 2, 2, 2]


def test_memory_that_does_not_hold_one_is_a_failure() -> None:
    def work(some: Sequence[int]) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        in_batches([1, 2], work, batch_size=2)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {"max_new_tokens": 9}),
        ({"max_tokens": 3, "max_gen_toks": 4}, {"max_new_tokens": 4}),
        ({"temperature": 0.0, "top_p": 0}, {"max_new_tokens": 9}),
        ({"do_sample": False, "temperature": 0.7}, {"max_new_tokens": 9}),
        ({"temperature": 0.7, "top_p": None}, {"max_new_tokens": 9, "temperature": 0.7}),
        ({"do_sample": True, "top_k": 5}, {"max_new_tokens": 9, "temperature": 1.0, "top_k": 5}),
    ],
)
def test_settings_by_all_their_names(
    llama: Assistant, wanted: dict[str, Any], expected: dict[str, Any]
) -> None:
    tokenizer = llama.processor.tokenizer
    found = Drawing.asked(wanted, tokenizer=tokenizer, stop_ids=(1,), max_new_tokens=9)
    assert found == Drawing(config=GenerationConfig(stop_ids=(1,), max_loop=0, **expected))


def test_stops_and_what_means_nothing_here(
    llama: Assistant, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = llama.processor.tokenizer
    wanted = {"until": ["", "Q:", "<|eot_id|>"], "num_beams": 4, "use_cache": True}
    with caplog.at_level(logging.WARNING):
        found = Drawing.asked(wanted, tokenizer=tokenizer, stop_ids=(1,), max_new_tokens=9)
    assert found.until == ("Q:", "<|eot_id|>")
    assert found.config.stop_ids == (1, tokenizer.special_tokens["<|eot_id|>"])
    assert "num_beams=4" in caplog.text
    assert "use_cache" not in caplog.text
    with pytest.raises(InputError, match="top_p"):
        wrong = {"temperature": 1, "top_p": 2}
        Drawing.asked(wrong, tokenizer=tokenizer, stop_ids=(), max_new_tokens=9)


def test_a_text_is_cut_before_its_first_stop() -> None:
    assert cut("one. two, three", [",", "."]) == "one"
    assert cut("one", [",", "."]) == "one"


def test_likelihoods_by_reading_token_by_token(llama: Assistant) -> None:
    """Each token alone, in an order that batches do not keep, longer ones without a beginning."""
    texts = Texts(llama.processor.tokenizer)
    generator = torch.Generator().manual_seed(0)
    questions = []
    for number in (1, 30, 7, 2, 60, 3):
        context = torch.randint(200, (number,), generator=generator).tolist()
        follows = torch.randint(200, (1 + number % 4,), generator=generator).tolist()
        questions.append(Question(Prompt((texts.tokenizer.bos_id, *context)), tuple(follows)))
    twin = Question(questions[1].context, (questions[1].continuation[0] + 1,))
    questions += [questions[0], Question(twin.context, questions[1].continuation[:1]), twin]
    done: list[int] = []
    found = likelihoods(llama, questions, batch_size=4, max_length=40, done=done.append)
    assert sum(done) == len(questions)
    assert len(done) == 2, "seven different rows, four at a time"
    for question, (value, greedy) in zip(questions, found, strict=True):
        expected, is_greedy = 0.0, True
        whole = (*question.context.tokens, *question.continuation)
        first = max(0, len(whole) - 41)
        for end in range(len(whole) - len(question.continuation), len(whole)):
            with torch.no_grad():
                logits = llama.model.language(torch.tensor([whole[first:end]]))[0, -1]
            expected += logits.log_softmax(-1)[whole[end]].item()
            is_greedy = is_greedy and int(logits.argmax()) == whole[end]
        assert value == pytest.approx(expected, abs=1e-4)
        assert greedy == is_greedy


def test_nothing_is_drawn_once_all_have_met_their_stops(
    llama: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def counted(*args: Any, **kwargs: Any) -> Iterator[list[int | None]]:
        for step in generate(*args, **kwargs):
            steps.append(step)
            yield step

    monkeypatch.setattr("multimodal.evaluation.harness.answers.generate", counted)
    texts = Texts(llama.processor.tokenizer)
    prompts = [Prompt(tuple(texts.encode(text))) for text in ("Three small", "Which colour")]
    config = GenerationConfig(max_new_tokens=40, max_loop=0)
    wanted = [(prompt, Drawing(config=config)) for prompt in prompts]
    whole = answers(llama, wanted, batch_size=2, max_length=99)
    assert len(steps) == 40
    steps.clear()
    stops = tuple(text[4:6] for text in whole)
    wanted = [(prompt, Drawing(config=config, until=stops)) for prompt in prompts]
    found = answers(llama, wanted, batch_size=2, max_length=99)
    assert found == [cut(text, stops) for text in whole]
    assert len(steps) < 20


def test_an_answer_has_the_room_that_is_left(llama: Assistant) -> None:
    prompt = Prompt(tuple(Texts(llama.processor.tokenizer).encode("Three small dogs stand left")))
    fits = len(prompt.tokens) + 5
    drawing = Drawing(config=GenerationConfig(max_new_tokens=fits, max_loop=0))
    (found,) = answers(llama, [(prompt, drawing)], batch_size=1, max_length=fits, shorten=False)
    five = Drawing(config=GenerationConfig(max_new_tokens=5, max_loop=0))
    assert [found] == answers(llama, [(prompt, five)], batch_size=1, max_length=99)
    assert found
    with pytest.raises(InputError, match="leave no prompt"):
        answers(llama, [(prompt, drawing)], batch_size=1, max_length=fits)
    with pytest.raises(InputError, match="no room"):
        answers(llama, [(prompt, five)], batch_size=1, max_length=fits - 5, shorten=False)


def test_one_picture_object_is_one_prompt() -> None:
    """Equal tokens about different pictures are different prompts, and do not share an answer."""
    assistant = load("tiny", device="cpu")
    texts = Texts(assistant.processor.tokenizer)
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    pictures = [Image.new("RGB", (64, 64), "red"), Image.fromarray(noise).resize((64, 64), 0)]
    prompts = [texts.with_media("<image>It is", {"image": [each]}) for each in pictures]
    follows = tuple(texts.tokenizer.encode(" red"))
    questions = [Question(prompt, follows) for prompt in (*prompts, prompts[0])]
    (red, _), (noisy, _), (again, _) = likelihoods(
        assistant, questions, batch_size=4, max_length=512
    )
    assert red == again
    assert abs(red - noisy) > 0.01


def test_media_are_read_with_the_placeholders_of_their_text(llama_directory: Path) -> None:
    tokenizer = load_tokenizer(llama_directory)
    texts = Texts(tokenizer)
    prompt = texts.with_media("a<image>b<audio>", {"image": ["p"], "audio": ["r"]})
    place, ear = tokenizer.image_id, tokenizer.audio_id
    ends = (tokenizer.encode("a"), tokenizer.encode("b"))
    assert prompt.tokens == (tokenizer.bos_id, *ends[0], place, *ends[1], ear)
    found = [(slot.kind, slot.position, slot.item) for slot in prompt.media]
    positions = [prompt.tokens.index(place), prompt.tokens.index(ear)]
    assert found == [("image", positions[0], "p"), ("audio", positions[1], "r")]
    assert prompt.last(2) == prompt
    assert Prompt((1, 2, 3)).last(2) == Prompt((2, 3))
