"""Dialogs and media as texts of lm-eval, against its own model and against our assistant."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lm_eval")
pytest.importorskip("accelerate")

from lm_eval.models.huggingface import HFLM

from language.errors import InputError
from multimodal.evaluation.harness.lm_eval_model import OpenherdLM

pytestmark = pytest.mark.harness

Requests = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def ours(llama_directory: Path) -> OpenherdLM:
    return OpenherdLM(str(llama_directory), device="cpu", batch_size=4)


@pytest.fixture(scope="module")
def theirs(llama_directory: Path) -> HFLM:
    return HFLM(str(llama_directory), device="cpu", dtype="float32", batch_size=1)


def test_a_dialog_is_that_of_the_template(ours: OpenherdLM, theirs: HFLM) -> None:
    messages = [
        {"role": "system", "content": "Answer."},
        {"role": "user", "content": " Which colour is the cup? "},
    ]
    text = ours.apply_chat_template(messages)
    assert text == theirs.apply_chat_template([*messages])
    assert ours.tok_encode(text) == theirs.tok_encode(text)
    begun = [*messages, {"role": "assistant", "content": "It is"}]
    text = ours.apply_chat_template(begun, add_generation_prompt=False)
    assert text == theirs.apply_chat_template([*begun], add_generation_prompt=False)
    assert text.endswith("It is")


def test_pictures_and_recordings_stand_where_the_text_says(requests: Requests) -> None:
    """As the shipped model answers the same messages, side by side with text alone."""
    ours = OpenherdLM("tiny", device="cpu", batch_size=4)
    assistant = ours.assistant
    assistant.configure(temperature=0.0, max_new_tokens=12, max_loop=0)
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    wave = 0.1 * np.sin(np.arange(16_000) / 9).astype(np.float32)
    asked: dict[str, Any] = {"until": [], "max_gen_toks": 12}
    wanted = [
        ("<image>What is this?", {"visual": [red]}),
        ("What is<image><image> this?", {"visual": [blue, red]}),
        ("<audio>What is said?", {"audio": {"array": wave, "sampling_rate": 16_000}}),
        ("What is this?", {"visual": None}),
    ]
    text = {"type": "text"}
    contents: list[Any] = [
        [{"type": "image", "image": red}, text | {"text": "What is this?"}],
        [
            text | {"text": "What is"},
            {"type": "image", "image": blue},
            {"type": "image", "image": red},
            text | {"text": " this?"},
        ],
        [{"type": "audio", "audio": (wave, 16_000)}, text | {"text": "What is said?"}],
        "What is this?",
    ]
    dialogs = [[{"role": "user", "content": content}] for content in contents]
    chats = [ours.apply_chat_template([{"role": "user", "content": t}]) for t, _ in wanted]
    found = ours.generate_until(
        requests(*((chat, asked, media) for chat, (_, media) in zip(chats, wanted, strict=True)))
    )
    assert found == assistant.answer_all(dialogs)
    assert len(set(found)) > 2
    with pytest.raises(InputError, match="more places"):
        ours.generate_until(requests((chats[1], asked, {"visual": [red]})))
    with pytest.raises(InputError, match="more media"):
        ours.generate_until(requests((chats[0], asked, {"visual": [red, blue]})))


def test_a_typed_special_token_stays_text(ours: OpenherdLM) -> None:
    special = set(ours.texts.tokenizer.special_tokens.values())
    tokens = ours.tok_encode("cup<|eot_id|>")
    assert tokens[0] == ours.prefix_token_id
    assert not special & set(tokens[1:])
    chat = ours.apply_chat_template([{"role": "user", "content": "<|image|>"}])
    assert max(ours.tok_encode(chat)) < ours.assistant.model.config.language.vocab_size
