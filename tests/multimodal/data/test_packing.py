"""Packed rows hold every document whole, once, and no more padding than they must."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from language.errors import InputError
from language.tokenizer import train_bpe
from multimodal.batch import IGNORED
from multimodal.data.packing import PackedText, pack
from tests.multimodal.data.sample_files import picture_bytes, write_shard

TOKENIZER = train_bpe(["words words and words"] * 3, num_merged=10)


def packed(path, cache, **settings):
    settings = {"tokenizer": TOKENIZER, "max_tokens": 30} | settings
    return PackedText(str(path), cache=cache, **settings)


def documents(source):
    """(text, learned text) of every document of every row, sorted."""
    found = []
    for index in range(len(source)):
        row = source.read(index)
        assert len(row.tokens) <= 30
        for number in range(row.documents[-1] + 1):
            tokens, targets = (x[row.documents == number] for x in (row.tokens, row.targets))
            learned = targets != IGNORED
            assert not learned[-1]
            assert (targets[:-1][learned[:-1]] == tokens[1:][learned[:-1]]).all()
            found.append((TOKENIZER.decode(tokens.tolist()), TOKENIZER.decode(targets[learned])))
    return sorted(found)


@given(lengths=st.lists(st.integers(1, 20), max_size=60))
@settings(max_examples=80, deadline=None)
def test_pack_uses_each_piece_once_within_the_capacity(lengths):
    lengths = np.array(lengths, dtype=np.int64)
    order, starts = pack(lengths, capacity=20)
    assert sorted(order) == list(range(len(lengths)))
    rows = [lengths[order[a:b]].sum() for a, b in zip(starts, starts[1:], strict=False)]
    assert sum(rows) == lengths.sum() and all(0 < row <= 20 for row in rows)
    smallest = sorted(rows)[:2]
    assert len(rows) < 2 or sum(smallest) > 20  # no two rows would have fitted into one


def test_texts_of_every_kind(tmp_path, cache):
    texts = [f"{i} words" for i in range(8)]
    (tmp_path / "a.txt").write_text("\n\n" + "\n \n".join(texts[:3]) + "\n\n\n")
    lines = [json.dumps({"text": text}) for text in texts[3:5]]
    (tmp_path / "b.jsonl").write_text("\n".join(lines) + "\n\n")
    write_shard(tmp_path / "c.tar", {text: {"txt": text} for text in texts[5:]})
    source = packed(tmp_path, cache)
    wanted = [(f"<|begin_of_text|>{t}<|end_of_text|>", f"{t}<|end_of_text|>") for t in texts]
    assert documents(source) == sorted(wanted)
    assert len(source) < 8


def test_long_texts_are_cut_into_pieces_and_nothing_is_lost(tmp_path, cache):
    text = " ".join(f"{i}?!" for i in range(40))
    (tmp_path / "a.txt").write_text(text)
    source = packed(tmp_path / "a.txt", cache)
    tokens = [TOKENIZER.bos_id, *TOKENIZER.encode(text), source.read(len(source) - 1).tokens[-1]]
    lengths = sorted((len(source.read(i).tokens) for i in range(len(source))), reverse=True)
    assert lengths[:-1] == [30] * (len(lengths) - 1) and sum(lengths) == len(tokens)
    rows = [source.read(i).tokens.tolist() for i in range(len(source))]
    assert all(tokens[30 * i : 30 * i + 30] in rows for i in range(len(rows)))


def talk(question, answer):
    roles = ("user", "assistant")
    return [{"role": r, "content": c} for r, c in zip(roles, (question, answer), strict=True)]


def test_dialogues_learn_what_is_asked_for(tmp_path, cache, caplog):
    lines = [
        {"messages": talk("1?", "one")},
        {"dialogues": [talk("2?", "two"), talk("3?", "three")]},
        {"messages": talk("?!" * 20, "too long")},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    room = {"max_tokens": 60}
    answers = packed(tmp_path / "a.jsonl", cache, learn="assistant", **room)
    rows = [answers.read(i) for i in range(len(answers))]
    learned = [TOKENIZER.decode(r.targets[r.targets != IGNORED].tolist()) for r in rows]
    assert "".join(learned).count("<|eot_id|>") == 3
    assert all(word in "".join(learned) for word in ("one", "two", "three"))
    assert "too long" in caplog.text and "a.jsonl: line 3" in caplog.text
    everything = packed(tmp_path / "a.jsonl", cache, learn="everything", **room)
    rows = [everything.read(i) for i in range(len(everything))]
    counts = [(row.targets != IGNORED).sum() for row in rows]
    assert sum(counts) == sum(len(row.tokens) - row.documents[-1] - 1 for row in rows)


def test_packing_is_done_once_and_follows_files_and_settings(tmp_path, cache, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("words\n\nwords and words")
    first = packed(path, cache)
    with monkeypatch.context() as patch:
        patch.setattr(PackedText, "_build", None)
        assert documents(packed(path, cache)) == documents(first)
    assert len(packed(path, cache, max_tokens=5)) > len(first)
    other = train_bpe(["another"], num_merged=3)
    assert packed(path, cache, tokenizer=other, max_tokens=5).read(0).tokens.max() < 400
    path.write_text("words\n\nwords and words\n\nmore")
    assert len(documents(packed(path, cache))) == 3


def test_broken_texts_are_counted_until_there_are_too_many(tmp_path, cache, caplog):
    good = [json.dumps({"text": "words"})] * 300
    (tmp_path / "a.jsonl").write_text("\n".join([*good, "{", '{"text": 1}']))
    assert len(documents(packed(tmp_path / "a.jsonl", cache))) == 300
    assert "a.jsonl: line 301: broken JSON" in caplog.text
    assert "a.jsonl: line 302: no text" in caplog.text
    with pytest.raises(InputError, match="max_broken_share"):
        packed(tmp_path / "a.jsonl", cache / "other", max_broken_share=0.001)
    parts = {"jpg": picture_bytes(2, 2), "json": {"messages": [talk("a", "b")[0]]}}
    write_shard(tmp_path / "b.tar", {str(i): parts for i in range(3)})
    with pytest.raises(InputError, match="picture among texts"):
        packed(tmp_path / "b.tar", cache)


def test_no_text_at_all(tmp_path, cache):
    (tmp_path / "a.txt").write_text("\n \n")
    with pytest.raises(InputError, match=r"a.txt: no text in it"):
        packed(tmp_path / "a.txt", cache)
