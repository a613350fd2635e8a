"""Stand-ins for recordings: they spell the sentence, and only the answer is learned."""

import json
import random
from itertools import groupby

import pytest

from language.tokenizer import train_bpe
from multimodal.data.packing import PackedText
from multimodal.world.hearing import FILLER, hearing_sample, stand_in, write_hearing

TOKENIZER = train_bpe(["The dog sings. user assistant system\n\n Repeat after me in"] * 3,
                      num_merged=60)  # fmt: skip
BLANK = TOKENIZER.special_tokens[FILLER]


@pytest.mark.parametrize("text", ["The dog sings.", "Repeat after me", ""])
def test_a_stand_in_spells_its_text(text):
    rng = random.Random(0)
    for _ in range(50):
        placed = stand_in(text, TOKENIZER, rng)
        wanted = TOKENIZER.encode(text)
        said = [token for token, _ in groupby(placed) if token != BLANK]
        collapsed = [token for token, _ in groupby(wanted)]
        # as CTC reads it: equal neighbours are one, fillers part them
        assert [t for t, _ in groupby(said)] == collapsed
        assert len(placed) >= len(wanted)
        if not text:
            assert set(placed) == {BLANK}


def test_only_the_answer_is_learned():
    rng = random.Random(0)
    for _ in range(200):
        sample = hearing_sample(rng, TOKENIZER, split="train")
        ((first, stop),) = sample["learned"]
        assert stop == len(sample["tokens"])
        assert TOKENIZER.decode(sample["tokens"][first:]).endswith("<|eot_id|>")
        before = TOKENIZER.decode(sample["tokens"][:first])
        assert before.endswith("assistant<|end_header_id|>\n\n")


def test_written_rows_are_packed_as_they_are(tmp_path):
    file = write_hearing(tmp_path, TOKENIZER, split="train", number=40)
    again = write_hearing(tmp_path / "again", TOKENIZER, split="train", number=40)
    assert file.read_bytes() == again.read_bytes()
    rows = [json.loads(line) for line in file.open()]
    packed = PackedText(
        str(file), tokenizer=TOKENIZER, max_tokens=600, learn="assistant", cache=tmp_path / "cache"
    )
    found, wanted = [], sorted(row["tokens"] for row in rows)
    for index in range(len(packed)):
        row = packed.read(index)
        for document in range(row.documents.max() + 1):
            mine = row.documents == document
            tokens = row.tokens[mine].tolist()
            found.append(tokens)
            ((first, _),) = next(r["learned"] for r in rows if r["tokens"] == tokens)
            learned = row.targets[mine] >= 0
            assert learned.tolist() == [i + 1 >= first for i in range(len(tokens) - 1)] + [False]
    assert sorted(found) == wanted
