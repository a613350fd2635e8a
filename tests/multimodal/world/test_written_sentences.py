"""Sentences to be read aloud: every label reads, and what is tested was never trained on."""

import re
from itertools import islice

import pytest

from multimodal.world import reading_matter
from multimodal.world.lexicon import CLASSES, SHARED, members
from multimodal.world.speaking import core_texts, write_core_data, write_written
from multimodal.world.written_sentences import labelled, sentences
from multimodal.world.written_templates import PHRASES, TEMPLATES
from speech.normalization.data import read_tsv, spoken, words_of
from speech.normalization.rules import language

ENGLISH = language("en")
SPLITS = ("train", "validation", "test")
WORD = re.compile(r"[^\W\d_]+")


@pytest.mark.parametrize("name", CLASSES)
def test_words_of_splits_are_apart(name):
    parts = [set(members(name, split=split)) for split in SPLITS]
    assert all(parts)
    if name not in SHARED:
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
        assert set.union(*parts) == set(CLASSES[name])


def test_templates_of_splits_are_apart():
    parts = [
        {*PHRASES[split]} | {each for kind in TEMPLATES[split].values() for each in kind}
        for split in SPLITS
    ]
    shared = {"[person] {&:verbatim} [person]"}
    parts = [part - shared for part in parts]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


@pytest.mark.parametrize("split", SPLITS)
def test_sentences_are_read_by_their_labels(split):
    for sentence in islice(sentences(split=split, seed=3), 400):
        text = labelled([sentence])
        assert text.text == sentence.text
        said = spoken(text, ENGLISH)
        assert not re.search(r"\d", said)
        assert text.text[0].isupper() or not text.text[0].isalpha()


@pytest.mark.parametrize("name", ["ruler", "part", "code", "quantity", "team"])
def test_words_that_decide_are_held_out(name):
    held_out = set(members(name, split="test")) | set(members(name, split="validation"))
    others = {word for key in CLASSES if key != name for word in CLASSES[key]}
    held_out -= others  # "Martin" may be a ruler and a saint
    for sentence in islice(sentences(split="train", seed=1), 3000):
        read = {word.lower() for word in WORD.findall(sentence.text)}
        assert not read & {word.lower() for word in held_out}, sentence.text


def test_the_same_seed_writes_the_same():
    first = [s.text for s in islice(sentences(split="test", seed=5), 20)]
    assert first == [s.text for s in islice(sentences(split="test", seed=5), 20)]
    assert first != [s.text for s in islice(sentences(split="test", seed=6), 20)]


def test_the_core_reads_all_words_and_no_test_template():
    told = list(islice(reading_matter.sentences(seed=0), 20000))
    met = {word.lower() for text in told for word in WORD.findall(text)}
    for name in ("ruler", "part", "code", "quantity", "team", "saint", "street", "person"):
        assert {word.lower() for word in CLASSES[name]} <= met
    fixed = {re.sub(r"[<\[{].*?[>\]}]", "#", t) for k in TEMPLATES["test"].values() for t in k}
    frames = {re.sub(r"\[.*?\]", "#", f) for group in reading_matter.FRAMES.values() for f in group}
    assert not fixed & frames


def test_the_core_reads_no_spoken_form():
    for text in islice(core_texts(seed=0), 300):
        assert not re.search(r"\b(reed|red every|leed)\b", text)


def test_files(tmp_path):
    file = tmp_path / "written.tsv"
    write_written(file, split="train", number=50, seed=0)
    read = list(read_tsv(file, ENGLISH))
    assert len(read) == 50
    for line, text in zip(file.read_text().splitlines(), read, strict=True):
        assert words_of(line.split("\t")[1]) == words_of(spoken(text, ENGLISH))
    write_core_data(tmp_path, number=20, seed=0)
    assert len((tmp_path / "core-train.jsonl").read_text().splitlines()) == 20
    assert (tmp_path / "tokenizer/tokenizer.json").exists()
