"""Our model of lmms-eval against the assistant that it stands on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lmms_eval")
pytest.importorskip("loguru")

from lmms_eval.models.registry_v2 import ModelRegistryV2

from language.errors import InputError
from multimodal.assistant import Assistant, load
from multimodal.evaluation.harness.lmms_eval_manifest import MANIFEST
from multimodal.evaluation.harness.lmms_eval_messages import messages_of, shown
from multimodal.evaluation.harness.lmms_eval_model import OpenherdLMM

pytestmark = pytest.mark.harness

Requests = Callable[..., list[Any]]

ASKED = {"max_new_tokens": 16, "do_sample": False, "temperature": 0}
QUESTIONS = ["What is on the left?", "How many are there?", "Which colour is it?"]


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    noise = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), dtype=np.uint8)
    pictures = [Image.fromarray(each).resize((64, 64), 0) for each in noise]
    return [{"picture": p, "question": q} for p, q in zip(pictures, QUESTIONS, strict=True)]


@pytest.fixture(scope="module")
def model(documents: list[dict[str, Any]]) -> OpenherdLMM:
    made = OpenherdLMM("tiny", device="cpu", batch_size="2")
    made.task_dict = {"looking": {"test": documents}}
    return made


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    made = load("tiny", device="cpu")
    made.configure(temperature=0.0, max_new_tokens=16, max_loop=0)
    return made


def to_messages(document: dict[str, Any]) -> list[dict[str, Any]]:
    parts = [
        {"type": "image", "url": document["picture"]},
        {"type": "text", "text": document["question"]},
    ]
    return [{"role": "user", "content": parts}]


@pytest.mark.parametrize("before", [(), ("the prompt of a simple model",)])
def test_answers_are_the_assistants(
    model: OpenherdLMM,
    assistant: Assistant,
    documents: list[dict[str, Any]],
    requests: Requests,
    before: tuple[str, ...],
) -> None:
    found = model.generate_until(
        requests(*((*before, to_messages, ASKED, n, "looking", "test") for n in range(3)))
    )
    assert found == [assistant.ask(each["picture"], each["question"]) for each in documents]
    assert len(set(found)) > 1


def test_an_answer_ends_before_its_stop(model: OpenherdLMM, requests: Requests) -> None:
    arguments = (to_messages, ASKED, 0, "looking", "test")
    (whole,) = model.generate_until(requests(arguments))
    stop = whole[len(whole) // 2 :][:2]
    asked = ASKED | {"until": [stop]}
    (found,) = model.generate_until(requests((to_messages, asked, 0, "looking", "test")))
    assert found == whole[: whole.index(stop)] != whole


def test_sampled_answers_differ_over_batches(model: OpenherdLMM, requests: Requests) -> None:
    asked = {"max_new_tokens": 16, "do_sample": True, "temperature": 3.0}
    four = requests(*[(to_messages, asked, 0, "looking", "test")] * 4)
    assert len(four) == 2 * model.batch_size
    found = model.generate_until(four)
    assert len(set(found)) == 4
    assert model.generate_until(four) == found


def test_a_clip_and_a_recording(assistant: Assistant, requests: Requests) -> None:
    rate, frames = 16_000, np.random.default_rng(1).integers(0, 255, (8, 48, 48, 3), dtype=np.uint8)
    wave = 0.1 * np.sin(np.arange(rate) / 9).astype(np.float32)
    clip = (frames, 8.0)
    parts = {
        "clip": {"type": "video", "url": clip},
        "recording": {"type": "video", "url": {"array": wave, "sampling_rate": rate}},
    }
    model = OpenherdLMM("tiny", device="cpu", batch_size=2)
    model.task_dict = {"sensing": {"test": parts}}

    def to_messages(part: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [part, {"type": "text", "text": "What happens?"}]}]

    asked = requests(*((to_messages, ASKED, each, "sensing", "test") for each in parts))
    text = {"type": "text", "text": "What happens?"}
    ours = [{"type": "video", "video": clip}, {"type": "audio", "audio": (wave, rate)}]
    expected = assistant.answer_all([{"role": "user", "content": [m, text]}] for m in ours)
    assert model.generate_until(asked) == expected


def test_rounds_go_on_until_the_task_ends_them(
    model: OpenherdLMM, assistant: Assistant, documents: list[dict[str, Any]], requests: Requests
) -> None:
    """Request n has n + 1 rounds; each asks again, with what was said before."""
    seen: list[tuple[int, list[str], Any]] = []

    def rounds(
        document: dict[str, Any],
        *,
        round_idx: int | None = None,
        previous_output: list[str] | None = None,
        previous_round_info: Any = None,
    ) -> Any:
        if round_idx is None:
            return to_messages(document)
        assert previous_output is not None
        seen.append((round_idx, previous_output, previous_round_info))
        again = document | {"question": f"{previous_output[-1]} And now?"}
        is_last = round_idx > QUESTIONS.index(document["question"])
        return to_messages(again), is_last, previous_output, f"after {round_idx}"

    found = model.generate_until_multi_round(
        requests(*((rounds, ASKED, number, "looking", "test") for number in range(3)))
    )
    assert [len(each) for each in found] == [1, 2, 3]
    document, said = documents[2], found[2]
    assert said[0] == assistant.ask(document["picture"], document["question"])
    assert said[1] == assistant.ask(document["picture"], f"{said[0]} And now?")
    assert (1, said[:1], None) in seen
    assert (2, said[:2], "after 1") in seen


def test_likelihoods_are_those_of_a_training_loss(
    model: OpenherdLMM, assistant: Assistant, documents: list[dict[str, Any]], requests: Requests
) -> None:
    """The processor's targets say what is predicted where, by a path of their own."""
    choices = [" two red circles", " a square"]
    question, picture = QUESTIONS[0], documents[0]["picture"]
    looking = (lambda document: [document["picture"]], 0, "looking", "test")
    found = model.loglikelihood(requests(*((question, choice, *looking) for choice in choices)))
    (by_function,) = model.loglikelihood(requests((question, lambda _: " a square", *looking)))
    assert by_function[0] == pytest.approx(found[1][0], abs=1e-4)
    for (value, _), choice in zip(found, choices, strict=True):
        parts = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
        answer = {"role": "assistant", "content": choice}
        row = assistant.processor.encode([{"role": "user", "content": parts}, answer])
        batch = assistant.processor.collate([row])
        assert batch.targets is not None
        targets = batch.targets[0]
        targets[int((targets != -100).nonzero()[-1])] = -100  # the token that ends the turn
        with torch.no_grad():
            logits = assistant.model(batch)[0]
        loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        assert value == pytest.approx(-loss.item(), abs=1e-3)


def test_what_the_model_says_is_greedy(model: OpenherdLMM, requests: Requests) -> None:
    (said,) = model.generate_until(requests((to_messages, ASKED, 0, "looking", "test")))
    looking = (lambda document: [document["picture"]], 0, "looking", "test")
    pairs = requests((QUESTIONS[0], said, *looking), (QUESTIONS[0], "zebra", *looking))
    assert [greedy for _, greedy in model.loglikelihood(pairs)] == [True, False]


def test_media_by_their_paths_and_mappings() -> None:
    kinds = ["a.png", "b.mp4", "c.flac", {"array": np.zeros(9), "sampling_rate": 16_000}]
    assert [shown(each)["type"] for each in kinds] == ["image", "video", "audio", "audio"]
    section = {"type": "video", "url": "b.mp4", "start_time": 3.0}
    with pytest.raises(InputError, match="start_time"):
        messages_of([{"role": "user", "content": [section]}], sound=False)
    clip = {"type": "video", "url": "b.mp4"}
    (message,) = messages_of([{"role": "user", "content": [clip]}], sound=True)
    assert message["content"] == [{"type": "video", "video": "b.mp4", "sound": True}]


def test_the_manifest_names_a_chat_model() -> None:
    registry = ModelRegistryV2()
    registry.register_manifest(MANIFEST)
    assert registry.get_model_class("openherd") is OpenherdLMM
    made = OpenherdLMM.create_from_arg_string("pretrained=tiny,dtype=float32", {"device": "cpu"})
    assert isinstance(made, OpenherdLMM)
    assert made.device == torch.device("cpu")
