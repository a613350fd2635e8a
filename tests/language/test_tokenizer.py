"""Both tokenizer formats against each other and against transformers; text stays text."""

import json
import pickle
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from language import tokenizer as module
from language.errors import InputError
from language.tokenizer import (
    IMAGE_TOKEN,
    PIECES,
    SPECIAL_TOKENS,
    HuggingFaceTokenizer,
    TextStream,
    TiktokenTokenizer,
    load_tokenizer,
    train_bpe,
    words,
)

WORDS = st.lists(
    st.sampled_from(["dog", " dogs", "é", "漢", "\n", " ", "\t", "123", "'ll", "<|eot_id|>", "🙂"])
)
ANY_CHARACTERS = st.text(st.characters())  # halves of surrogate pairs too
TEXT = st.one_of(st.text(), WORDS.map("".join))


@pytest.fixture(scope="module")
def theirs(bpe: HuggingFaceTokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer)


def whole_characters(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@settings(max_examples=200, deadline=None)
@given(text=st.one_of(TEXT, ANY_CHARACTERS))
def test_both_formats_give_the_same_ids(
    bpe: HuggingFaceTokenizer, tiktoken_bpe: TiktokenTokenizer, text: str
) -> None:
    assert bpe.encode(text) == tiktoken_bpe.encode(text)


@settings(max_examples=200, deadline=None)
@given(text=st.one_of(TEXT, ANY_CHARACTERS))
def test_text_comes_back(
    bpe: HuggingFaceTokenizer, tiktoken_bpe: TiktokenTokenizer, text: str
) -> None:
    for tokenizer in (bpe, tiktoken_bpe):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == whole_characters(text)
        assert b"".join(map(tokenizer.token_bytes, ids)).decode() == tokenizer.decode(ids)


@settings(max_examples=100, deadline=None)
@given(text=TEXT)
def test_transformers_gives_the_same_ids(
    bpe: HuggingFaceTokenizer, theirs: PreTrainedTokenizerFast, text: str
) -> None:
    ids = theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert bpe.encode(text) == ids
    special = theirs.encode(text, add_special_tokens=False)
    assert bpe.encode(text, allow_special=True) == special


@pytest.fixture(scope="module")
def converted(tiktoken_file: Path) -> tokenizers.Tokenizer:
    """Meta's file as transformers converts it, which finds the merges by itself."""
    converter = TikTokenConverter(
        vocab_file=str(tiktoken_file),
        pattern=PIECES,
        extra_special_tokens=[*SPECIAL_TOKENS, IMAGE_TOKEN],
    )
    return converter.converted()


@settings(max_examples=100, deadline=None)
@given(text=TEXT)
def test_transformers_reads_metas_format_alike(
    tiktoken_bpe: TiktokenTokenizer, converted: tokenizers.Tokenizer, text: str
) -> None:
    assert tiktoken_bpe.encode(text, allow_special=True) == converted.encode(text).ids


def test_pictures_can_be_added_to_a_text_model(
    tiktoken_bpe: TiktokenTokenizer, converted: tokenizers.Tokenizer
) -> None:
    described = json.loads(converted.to_str())
    described["added_tokens"] = [
        token for token in described["added_tokens"] if token["content"] != IMAGE_TOKEN
    ]
    text_only = tokenizers.Tokenizer.from_str(json.dumps(described))
    assert text_only.token_to_id(IMAGE_TOKEN) is None
    tokenizer = HuggingFaceTokenizer(text_only)
    assert tokenizer.special_tokens == tiktoken_bpe.special_tokens
    assert tokenizer.vocab_size == tokenizer.image_id == tiktoken_bpe.image_id
    assert IMAGE_TOKEN == tokenizer.decode([tokenizer.image_id])


def test_a_trained_tokenizer_ends_with_the_media() -> None:
    tokenizer = train_bpe(["to be or not to be"] * 3, num_merged=8)
    ids = tokenizer.special_tokens.values()
    assert sorted(ids) == list(range(min(ids), tokenizer.audio_id + 1))
    assert tokenizer.image_id == tokenizer.audio_id - 1 == tokenizer.vocab_size
    assert tokenizer.vocab_size == tokenizer.image_id
    assert min(ids) <= 256 + 8 and len(tokenizer.encode("to be")) < len("to be")
    assert set(tokenizer.stop_ids) | {tokenizer.bos_id, tokenizer.pad_id} < set(ids)


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


def cut_as_meta_does(text: str, *, max_characters: int, max_run: int) -> list[str]:
    """Character by character: a piece ends where its last run would grow too long."""
    pieces = []
    for start in range(0, len(text), max_characters):
        piece, run = "", ""
        for character in text[start : start + max_characters]:
            run = run if run and run[-1].isspace() == character.isspace() else ""
            if len(run) == max_run:
                pieces.append(piece)
                piece, run = "", ""
            piece, run = piece + character, run + character
        pieces.append(piece)
    return pieces


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from("aé漢 \n\t\x1c\x85\u200b\u3000")), max_run=st.integers(1, 5))
def test_long_texts_are_cut_where_meta_cuts(text: str, max_run: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_CHARACTERS", 13)
        patch.setattr(module, "MAX_RUN", max_run)
        expected = cut_as_meta_does(text, max_characters=13, max_run=max_run)
        assert list(module._parts(text)) == expected


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
        other = pickle.loads(pickle.dumps(tokenizer))  # as a loader's workers get it
        assert other.encode("Three 漢字 dogs") == tokenizer.encode("Three 漢字 dogs")


@settings(max_examples=100, deadline=None)
@given(text=TEXT)
def test_a_stream_shows_whole_characters_as_soon_as_they_are_whole(
    bpe: HuggingFaceTokenizer, tiktoken_bpe: TiktokenTokenizer, text: str
) -> None:
    for tokenizer in (bpe, tiktoken_bpe):
        stream, shown, so_far = TextStream(tokenizer), "", b""
        for token in tokenizer.encode(text):
            shown += stream.push(token)
            so_far += tokenizer.token_bytes(token)
            assert shown == so_far.decode("utf-8", "ignore")
        assert shown == text and stream.finish() == ""


def test_a_stream_leaves_special_tokens_out_and_ends_broken_text(bpe: HuggingFaceTokenizer) -> None:
    stream = TextStream(bpe)
    broken = bpe.encode("🙂")[:-1]
    assert stream.push(bpe.bos_id) == ""
    assert "".join(map(stream.push, broken)) == ""
    assert stream.finish() == "\ufffd"


def test_rows_of_a_core_that_are_no_tokens_say_nothing(bpe: HuggingFaceTokenizer) -> None:
    """A core may be padded to a rounder number of rows; random weights say those, too."""
    stream, told = TextStream(bpe), bpe.encode("ab")
    assert stream.push(bpe.vocab_size) == stream.push(bpe.vocab_size + 99) == ""
    assert "".join(map(stream.push, told)) == "ab"


@given(text=st.text("ab \u00e4\u4e16", min_size=1, max_size=20))
def test_words_are_those_between_spaces(bpe: HuggingFaceTokenizer, text: str) -> None:
    tokens = bpe.encode(text)
    found = words(tokens, bpe)
    assert [end for _, end in found] == sorted({end for _, end in found})
    assert found[-1][1] == len(tokens)
    assert "".join(word for word, _ in found).replace(" ", "") == text.replace(" ", "")
    starts = [0, *(end for _, end in found[:-1])]
    for (word, end), start in zip(found, starts, strict=True):
        assert bpe.decode(tokens[start:end]).strip() == word


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("tokenizer.json", b"{}", "not a tokenizer.json"),
        ("tokenizer.json", b"\xff\xfe", "not a tokenizer.json"),
        ("tokenizer.json", b"", "not a tokenizer.json"),
        (
            "tokenizer.json",
            tokenizers.Tokenizer(tokenizers.models.BPE()).to_str().encode(),
            "no byte-level BPE",
        ),
        (
            "tokenizer.json",
            tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a")).to_str().encode(),
            "no byte-level BPE",
        ),
        ("tokenizer.model", b"IQ== 0\nnonsense\n", "line 2 is not a token and its rank"),
        ("tokenizer.model", b"IQ== 0\nI!== 1\n", "line 2 is not a token and its rank"),
        ("tokenizer.model", b"IQ== 0\nIg== 7\n", "ranks are not 0, 1, 2"),
        ("tokenizer.model", b"IQ== 0\nIQ== 1\n", "ranks are not 0, 1, 2"),
        ("tokenizer.model", b"IQ== 0\nIg== 1\n", "some of the 256 bytes"),
        ("tokenizer.model", b"", "some of the 256 bytes"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, name: str, content: bytes, fault: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=fault) as error:
        load_tokenizer(tmp_path)
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


def test_other_models_tokenizers_are_refused(bpe: HuggingFaceTokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(file.read_text().replace("<|eot_id|>", "<|im_end|>"))
    with pytest.raises(InputError, match=r"tokenizer\.json: has no special token <\|eot_id\|>"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_cut_off_files_are_named(
    bpe: HuggingFaceTokenizer, tiktoken_bpe: TiktokenTokenizer, tmp_path: Path, share: float
) -> None:
    for tokenizer, name in ((bpe, "tokenizer.json"), (tiktoken_bpe, "tokenizer.model")):
        tokenizer.save(tmp_path)
        content = (tmp_path / name).read_bytes()
        end = content.index(b" ", int(share * len(content)))  # Meta's file: before a rank
        (tmp_path / name).write_bytes(content[:end])
        with pytest.raises(InputError, match=name):
            load_tokenizer(tmp_path / name)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tokenizer\.json and no tokenizer\.model"):
        load_tokenizer(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_tokenizer(tmp_path / "absent.json")
