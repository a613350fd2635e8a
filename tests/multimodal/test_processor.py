"""Rows of tokens and pictures: who sees what, what is learned, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.mllama.processing_mllama import get_cross_attention_token_mask

from language.errors import InputError
from language.tokenizer import train_bpe
from multimodal.batch import IGNORED
from multimodal.config import MultimodalConfig
from multimodal.processor import Processor, TooLongError, spans
from vision.tiles import tile_picture

TOKENIZER = train_bpe(["a few words to merge " * 3], num_merged=20)
NAMES = {token: name for name, token in TOKENIZER.special_tokens.items()}


def picture(seed=0, size=(20, 20)):
    values = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def image(item):
    return {"type": "image", "image": item}


def text(words):
    return {"type": "text", "text": words}


def user(*parts):
    return {"role": "user", "content": list(parts)}


def answer(words):
    return {"role": "assistant", "content": words}


@pytest.fixture
def processor(config):
    return Processor(TOKENIZER, replace(config, visibility="until_next"), max_tokens=500)


def test_a_prompt_ends_with_the_header(processor):
    batch = processor([user(image(picture()), text("a word?"))])
    assert TOKENIZER.decode(batch.tokens[0].tolist()) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<|image|>a word?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert batch.lengths.tolist() == [len(batch.tokens[0])]
    assert batch.num_targets == 0 and batch.documents is None
    placeholder = batch.tokens[0].tolist().index(TOKENIZER.image_id)
    seen = torch.arange(len(batch.tokens[0])) >= placeholder
    assert torch.equal(batch.visible[0, :, 0], seen)


def test_only_what_the_assistant_says_is_learned(processor):
    row = processor.encode([user(text("one")), answer("two"), user(text("three")), answer("four")])
    learned = row.targets != IGNORED
    assert (row.targets[learned] == row.tokens[1:][learned[:-1]]).all()
    assert TOKENIZER.decode(row.targets[learned].tolist()) == "two<|eot_id|>four<|eot_id|>"


def test_a_caption_is_learned_from_the_picture_on(processor):
    shown = picture(size=(40, 20))
    row = processor.encode_caption(shown, "a few <|eot_id|> words")
    names = [NAMES.get(token) for token in row.tokens.tolist()]
    assert names[:2] == ["<|image|>", "<|begin_of_text|>"] and names[-1] == "<|end_of_text|>"
    assert names[2:-1] == [None] * (len(names) - 3)
    assert row.targets[0] == IGNORED and row.targets[-1] == IGNORED
    assert (row.targets[1:-1] == row.tokens[2:]).all()
    assert row.visible.all()
    assert torch.equal(row.images[0].pixels, tile_picture(shown, processor.config.tiles).pixels)
    prompt = processor.encode_caption(shown)
    assert prompt.tokens.tolist() == row.tokens[:2].tolist()


@given(
    kinds=st.lists(st.booleans(), min_size=1, max_size=14),
    visibility=st.sampled_from(["until_next", "all_before"]),
)
@settings(max_examples=60, deadline=None)
def test_spans_equal_the_release(kinds, visibility):
    """Against transformers' mask of Llama 3.2 for any order of pictures and text."""
    positions = [i for i, is_picture in enumerate(kinds) if is_picture]
    found = spans(positions, len(kinds), until_next=visibility == "until_next")
    if visibility == "all_before":
        assert found == [(position, len(kinds)) for position in positions]
        return
    wanted = get_cross_attention_token_mask([int(kind) for kind in kinds], 1)
    wanted = [(start, len(kinds) if stop == -1 else stop) for start, stop in wanted]
    assert found == wanted


def test_several_pictures_of_a_dialogue(processor):
    """Two pictures side by side, an answer, then a third one."""
    a, b, c = picture(1), picture(2, size=(40, 20)), picture(3)
    batch = processor(
        [user(image(a), image(b), text("and?")), answer("yes"), user(image(c), text("so"))]
    )
    tokens = batch.tokens[0].tolist()
    first, second, third = (i for i, t in enumerate(tokens) if t == TOKENIZER.image_id)
    for t in range(len(tokens)):
        seen = batch.visible[0, t].tolist()
        assert seen == [first <= t < third, second <= t < third, t >= third]
    tiles = [tile_picture(p, processor.config.tiles) for p in (a, b, c)]
    assert torch.equal(batch.images.tiles, torch.cat([t.pixels for t in tiles]))
    assert batch.images.arrangements.tolist() == [list(t.arrangement) for t in tiles]
    assert batch.images.rows.tolist() == [0, 0, 0]


def test_dialogues_about_one_picture_share_it(processor):
    shown, other = picture(1), picture(2)
    talks = [
        [user(image(shown), text("one?")), answer("this")],
        [user(text("nothing to see")), answer("no")],
        [user(image(other), text("two?"), image(shown)), answer("those")],
    ]
    row = processor.encode(talks)
    alone = [processor.encode(talk) for talk in talks]
    assert len(row.images) == 2
    assert (row.tokens == np.concatenate([part.tokens for part in alone])).all()
    assert (row.targets == np.concatenate([part.targets for part in alone])).all()
    assert (row.documents == np.repeat([0, 1, 2], [len(part.tokens) for part in alone])).all()
    for number, columns in ((0, [0]), (1, []), (2, [1, 0])):
        seen = row.visible[row.documents == number]
        assert (seen[:, columns] == alone[number].visible).all()
        assert not np.delete(seen, columns, axis=1).any()


def test_a_path_shown_twice_is_one_picture(processor, tmp_path):
    path = tmp_path / "a.png"
    picture().save(path)
    row = processor.encode([user(image(path), text("or"), image(str(path)))], train=False)
    assert len(row.images) == 1 and (row.tokens == TOKENIZER.image_id).sum() == 2


def test_rows_of_a_batch_are_those_rows_padded(processor):
    rows = [
        processor.encode([user(text("no picture at all, but many words")), answer("none")]),
        processor.encode([user(image(picture(1)), image(picture(2))), answer("two")]),
        processor.encode([[user(image(p := picture(3))), answer("x")], [user(image(p))]]),
    ]
    batch = processor.collate(rows)
    assert batch.images.rows.tolist() == [1, 1, 2]
    for number, row in enumerate(rows):
        length, num_images = row.visible.shape
        assert batch.lengths[number] == length
        assert batch.tokens[number, :length].tolist() == row.tokens.tolist()
        assert (batch.tokens[number, length:] == TOKENIZER.pad_id).all()
        assert batch.targets[number, :length].tolist() == row.targets.tolist()
        assert (batch.targets[number, length:] == IGNORED).all()
        assert batch.documents[number, :length].tolist() == row.documents.tolist()
        assert not np.isin(batch.documents[number, length:].numpy(), row.documents).any()
        assert (batch.visible[number, :length, :num_images].numpy() == row.visible).all()
        assert not batch.visible[number, length:].any()
        assert not batch.visible[number, :, num_images:].any()


def test_too_many_tokens_are_refused_before_any_work(config, monkeypatch):
    processor = Processor(TOKENIZER, config, max_tokens=8192)
    monkeypatch.setattr("multimodal.processor.open_picture", None)  # no picture is opened
    with pytest.raises(TooLongError, match=r"^messages: [\d,]+ tokens, at most 8,192 fit$"):
        processor([user(image("a.png"), text("?!" * 150_000))])
    with monkeypatch.context() as patch:
        patch.setattr("multimodal.processor.encode_dialog", None)  # nor is text looked at
        with pytest.raises(TooLongError, match="characters"):
            processor([user(text("words " * 500_000))])
    with pytest.raises(TooLongError):
        processor.encode_caption("a.png", "?!" * 150_000)


def test_the_last_token_that_fits_fits(config):
    messages = [user(text("a word")), answer("!")]
    length = len(Processor(TOKENIZER, config).encode(messages).tokens)
    assert len(Processor(TOKENIZER, config, max_tokens=length).encode(messages).tokens) == length
    with pytest.raises(TooLongError):
        Processor(TOKENIZER, config, max_tokens=length - 1).encode(messages)


@pytest.mark.parametrize(
    "messages, fault",
    [
        ([], "no messages"),
        ([[]], "no messages"),
        ([user(image("/no/such/file.png"))], "no such file"),
        ([user(image(None))], "NoneType is not a picture"),
        ([user({"type": "eot_id"})], "eot_id"),
        ([user(*[image(picture(i)) for i in range(65)])], "65 pictures, at most 64"),
    ],
)
def test_bad_messages_are_one_line(processor, messages, fault):
    with pytest.raises(InputError, match=fault) as caught:
        processor.encode(messages, train=False)
    assert "\n" not in str(caught.value)


def test_a_model_of_text_refuses_pictures(config):
    processor = Processor(TOKENIZER, MultimodalConfig(language=config.language))
    assert processor([user(text("words"))]).images is None
    with pytest.raises(InputError, match="reads text alone"):
        processor([user(image(picture()))])
