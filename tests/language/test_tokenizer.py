"""Both tokenizer formats against each other and against transformers; text stays text."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from language.errors import InputError
from language.tokenizer import (
    SPECIAL_TOKENS,
    HuggingFaceTokenizer,
    TextStream,
    TiktokenTokenizer,
    load_tokenizer,
)

WORDS = st.lists(
    st.sampled_from(["dog", " dogs", "é", "漢", "\n", " ", "\t", "123", "'ll", "<|eot_id|>", "🙂"])
)
TEXT = st.one_of(st.text(), WORDS.map("".join))


@settings(max_examples=200, deadline=None)
@given(text=TEXT)
def test_both_formats_give_the_same_ids(
    bpe: HuggingFaceTokenizer, tiktoken_bpe: TiktokenTokenizer, text: str
) -> None:
    assert bpe.encode(text) == tiktoken_bpe.encode(text)


@settings(max_examples=200, deadline=None)
@given(text=TEXT)
def test_text_comes_back(bpe: HuggingFaceTokenizer, text: str) -> None:
    ids = bpe.encode(text)
    assert bpe.decode(ids) == text.encode("utf-8", "replace").decode()
    assert b"".join(map(bpe.token_bytes, ids)).decode() == bpe.decode(ids)


@settings(max_examples=100, deadline=None)
@given(text=TEXT)
def test_transformers_gives_the_same_ids(bpe: HuggingFaceTokenizer, text: str) -> None:
    theirs = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer)
    ids = theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert bpe.encode(text) == ids
    special = theirs.encode(text, add_special_tokens=False)
    assert bpe.encode(text, allow_special=True) == special


@pytest.mark.parametrize("name", ["<|eot_id|>", "<|image|>", "<|begin_of_text|>"])
def test_typed_special_tokens_stay_text(
    bpe: HuggingFaceTokenizer, tiktoken_bpe: TiktokenTokenizer, name: str
) -> None:
    for tokenizer in (bpe, tiktoken_bpe):
        special = tokenizer.special_tokens[name]
        assert special not in tokenizer.encode(f"a {name} b")
        assert tokenizer.decode(tokenizer.encode(name)) == name
        assert tokenizer.encode(name, allow_special=True) == [special]


def test_special_tokens_stand_where_llama_has_them(tiktoken_bpe: TiktokenTokenizer) -> None:
    start = tiktoken_bpe.bos_id
    published = {
        "<|end_of_text|>": 1,
        "<|finetune_right_pad_id|>": 4,
        "<|start_header_id|>": 6,
        "<|end_header_id|>": 7,
        "<|eom_id|>": 8,
        "<|eot_id|>": 9,
        "<|python_tag|>": 10,
        "<|reserved_special_token_246|>": 256 - 1,
        "<|image|>": 256,
    }
    for name, offset in published.items():
        assert tiktoken_bpe.special_tokens[name] == start + offset
    assert len(SPECIAL_TOKENS) == 256
    assert tiktoken_bpe.vocab_size == start + 256 == tiktoken_bpe.image_id
    assert tiktoken_bpe.pad_id == start + 4


def test_very_long_runs_are_read(
    bpe: HuggingFaceTokenizer, tiktoken_bpe: TiktokenTokenizer
) -> None:
    text = "a" * 60_000 + " " * 30_000 + "dog " * 100_000
    ids = tiktoken_bpe.encode(text)
    assert ids == bpe.encode(text)
    assert tiktoken_bpe.decode(ids) == text


def test_saved_tokenizers_are_the_same(
    bpe: HuggingFaceTokenizer, tiktoken_bpe: TiktokenTokenizer, tmp_path: Path
) -> None:
    for tokenizer in (bpe, tiktoken_bpe):
        folder = tmp_path / type(tokenizer).__name__
        folder.mkdir()
        tokenizer.save(folder)
        again = load_tokenizer(folder)
        assert again.special_tokens == tokenizer.special_tokens
        assert again.encode("Three 漢字 dogs") == tokenizer.encode("Three 漢字 dogs")


@settings(max_examples=100, deadline=None)
@given(text=TEXT)
def test_a_stream_never_shows_half_a_character(tiktoken_bpe: TiktokenTokenizer, text: str) -> None:
    stream = TextStream(tiktoken_bpe)
    pieces = [stream.push(token) for token in tiktoken_bpe.encode(text)]
    clean = text.encode("utf-8", "replace").decode()
    assert "".join(pieces) == clean and stream.finish() == ""
    assert clean.count("\ufffd") == "".join(pieces).count("\ufffd")


def test_a_stream_leaves_special_tokens_out_and_ends_broken_text(bpe: HuggingFaceTokenizer) -> None:
    stream = TextStream(bpe)
    broken = bpe.encode("🙂")[:-1]
    assert stream.push(bpe.bos_id) == ""
    assert "".join(map(stream.push, broken)) == ""
    assert stream.finish() == "\ufffd"


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("tokenizer.json", b"{}", "not a tokenizer.json"),
        ("tokenizer.json", b"\xff\xfe", "not a tokenizer.json"),
        ("tokenizer.model", b"IQ== 0\nnonsense\n", "line 2 is not a token and its rank"),
        ("tokenizer.model", b"IQ== 0\nIg== 7\n", "ranks are not 0, 1, 2"),
        ("tokenizer.model", b"", "ranks are not 0, 1, 2"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, name: str, content: bytes, fault: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=fault) as error:
        load_tokenizer(tmp_path)
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tokenizer\.json and no tokenizer\.model"):
        load_tokenizer(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_tokenizer(tmp_path / "absent.json")
