"""The assistant end to end on random weights: what it says is what the model's logits say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from language.errors import InputError
from multimodal import load
from multimodal.assistant import Assistant
from multimodal.cli import main
from multimodal.conversation import Conversation


@pytest.fixture(scope="module")
def assistant(model_directory: Path) -> Assistant:
    assistant = load(model_directory, device="cpu")
    assistant.configure(max_new_tokens=12)
    return assistant


def picture(seed: int, *, size: tuple[int, int] = (24, 16)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def turn(text: str, *pictures: Image.Image) -> dict:
    images = [{"type": "image", "image": each} for each in pictures]
    return {"role": "user", "content": [*images, {"type": "text", "text": text}]}


def said_anew(assistant: Assistant, messages: list[dict]) -> str:
    """Greedy decoding in the plainest way: the whole sequence through the model, each step."""
    batch = assistant.processor(messages)
    tokenizer = assistant.processor.tokenizer
    said: list[int] = []
    for _ in range(assistant.generation.max_new_tokens):
        with torch.no_grad():
            token = int(assistant.model(batch)[0, -1].argmax())
        if token in tokenizer.stop_ids:
            break
        said.append(token)
        batch.tokens = torch.cat([batch.tokens, torch.tensor([[token]])], dim=1)
        batch.lengths = batch.lengths + 1
        if batch.visible is not None:
            batch.visible = torch.cat([batch.visible, batch.visible[:, -1:]], dim=1)
    return tokenizer.decode(said, skip_special=True)


def test_answers_are_the_models_own(assistant):
    first, second = picture(1), picture(2)
    question = "What colour is the cup?"
    assert assistant.ask(first, question) == said_anew(assistant, [turn(question, first)])
    assert assistant.ask(second, question) != assistant.ask(first, question)
    request = [turn("Describe the picture.", first)]
    assert assistant.caption(first) == said_anew(assistant, request)
    assert assistant.caption(first, request=None) != assistant.caption(first)


def test_lists_are_answered_as_one_by_one(assistant, monkeypatch):
    monkeypatch.setattr("multimodal.assistant.BATCH_SIZE", 3)
    pictures = [picture(i, size=(16 + 24 * (i % 3), 16 + 9 * (i % 2))) for i in range(7)]
    assert assistant.caption(pictures) == [assistant.caption(each) for each in pictures]
    assert assistant.ask(pictures, "What?") == [assistant.ask(each, "What?") for each in pictures]
    assert assistant.caption([]) == []


def test_a_dialogue_reads_each_turn_once(assistant, monkeypatch):
    seen = []
    prefill = assistant.model.walk
    monkeypatch.setattr(
        assistant.model,
        "walk",
        lambda hidden, **rest: seen.append(hidden.shape[1]) or prefill(hidden, **rest),
    )
    messages = [turn("What is the picture?", picture(1))]
    lengths = []
    for number in range(3):
        seen.clear()
        answer = "".join(assistant.stream(messages))
        lengths.append(max(seen))
        monkeypatch.undo()
        assert answer == said_anew(assistant, messages)
        monkeypatch.setattr(
            assistant.model,
            "walk",
            lambda hidden, **rest: seen.append(hidden.shape[1]) or prefill(hidden, **rest),
        )
        pictures = [picture(9)] if number == 0 else []
        messages += [{"role": "assistant", "content": answer}, turn("And the cup?", *pictures)]
    whole = len(assistant.processor(messages[:-2]).tokens[0])
    assert sum(lengths) < 1.5 * whole < 3 * whole


def test_pieces_join_to_the_answer(assistant):
    pieces = list(assistant.stream([turn("What?", picture(3))]))
    assert len(pieces) > 1
    assert "".join(pieces) == assistant.ask(picture(3), "What?")


def test_streams_side_by_side_do_not_disturb_each_other(assistant):
    dialogues = [[turn("What?", picture(3))], [turn("What?", picture(5))]]
    first, second = (assistant.stream(dialogue) for dialogue in dialogues)
    pieces = [next(first)], [next(second)]
    pieces[0].extend(first)
    pieces[1].extend(second)
    expected = [said_anew(assistant, dialogue) for dialogue in dialogues]
    assert ["".join(some) for some in pieces] == expected


def test_saved_and_loaded_it_says_the_same(assistant, tmp_path: Path):
    assistant.save(tmp_path / "copy")
    copy = load(tmp_path / "copy", device="cpu")
    copy.configure(max_new_tokens=12)
    assert copy.caption(picture(4)) == assistant.caption(picture(4))


def test_logits_have_gradients(assistant):
    batch = assistant.processor([turn("What?", picture(5))])
    logits = assistant.model(batch)
    assert logits.shape == (*batch.tokens.shape, assistant.model.config.language.vocab_size)
    logits.logsumexp(-1).mean().backward()
    assert float(assistant.model.image_adapter.projection.weight.grad.abs().max()) > 0
    assistant.model.zero_grad(set_to_none=True)


def test_drawn_answers_follow_their_seed(assistant):
    drawn = {}
    try:
        for seed in (1, 1, 2):
            assistant.configure(temperature=1.0, seed=seed)
            answer = assistant.caption(picture(6))
            assert drawn.setdefault(seed, answer) == answer
    finally:
        assistant.configure(temperature=0.0, seed=0)
    assert drawn[1] != drawn[2]


def test_attention_falls_where_the_picture_lies(assistant, tmp_path: Path):
    """The weights of all patches are a share of one, drawn at the place that they are of."""
    from multimodal.attention_map import attention_map, draw_attention, with_answer

    shown = picture(7, size=(40, 12))
    batch = assistant.processor([turn("What?", shown)])
    said = list(assistant._tokens(batch, Conversation(assistant.model)))
    weights = attention_map(assistant.model, with_answer(batch, said[:-1]), num_tokens=len(said))
    rows, columns = batch.images.arrangements[0].tolist()
    assert weights.shape == (4 * rows, 4 * columns)
    assert float(weights.sum()) < 1.001  # what is missing lies on the class tokens
    answer, drawn = assistant.look(shown, "What?")
    assert answer == assistant.ask(shown, "What?")
    assert max(drawn.size) == 512 and drawn.size[0] / drawn.size[1] == pytest.approx(40 / 12, 0.02)
    # One bright patch: the brightest place of a grey picture is where that patch stands.
    one = torch.zeros_like(weights)
    one[1, 5] = 1.0
    bright = np.asarray(
        draw_attention(Image.new("RGB", (40, 12), "grey"), one, assistant.model.config.tiles)
    ).astype(float)
    row, column = np.unravel_index(bright[..., 0].argmax(), bright.shape[:2])
    # 40 x 12 pixels lie as they are at the canvas's top left; the patch covers 20..23 x 4..7.
    assert column / bright.shape[1] == pytest.approx(22 / 40, abs=0.03)
    assert row / bright.shape[0] == pytest.approx(6 / 12, abs=0.1)


def test_through_the_command(model_directory, tmp_path, capsys, assistant):
    picture(8).save(tmp_path / "a.png")
    words = ["--model", str(model_directory), "--device", "cpu", "--max_new_tokens", "12"]
    file = str(tmp_path / "a.png")
    assert main(["caption", file, *words]) == 0
    assert capsys.readouterr().out == assistant.caption(picture(8)) + "\n"
    assert main(["caption", file, "--base", *words]) == 0
    assert capsys.readouterr().out == assistant.caption(picture(8), request=None) + "\n"
    target = tmp_path / "map.png"
    assert main(["ask", file, "What?", "--attention", str(target), *words]) == 0
    assert capsys.readouterr().out == assistant.ask(picture(8), "What?") + "\n"
    assert max(Image.open(target).size) == 512


@pytest.mark.parametrize(
    ("change", "fault"),
    [({"temperature": -1.0}, "temperature"), ({"max_new_tokens": 0}, "max_new_tokens")],
)
def test_settings_out_of_range(assistant, change, fault):
    with pytest.raises(InputError, match=fault):
        assistant.configure(**change)


def test_a_dialogue_past_the_last_position(assistant):
    """512 positions: what is left is the longest answer, and nothing left is said so."""
    word = [turn("cup " * 240)]
    room = 512 - len(assistant.processor(word).tokens[0])
    assert room > 12
    with pytest.raises(InputError, match="tokens, at most 512 fit"):
        next(assistant.stream([turn("cup " * 1000)]))
