"""The sentences whose prosody hangs on meaning, how they are spoken, and what is compared."""

import json
from itertools import islice

import numpy as np
import pytest

from multimodal.data.measured import MeasuredSource, ProsodyTask
from multimodal.world import prosody_corpus, prosody_evaluation
from multimodal.world.lexicon import SYNONYMS
from multimodal.world.prosody_corpus import SPEAKERS, read_phones, recorded, recordings
from multimodal.world.prosody_evaluation import compare, line, summary
from multimodal.world.prosody_sentences import (
    SHARES,
    MarkedWord,
    ProsodySentence,
    members,
    sentences,
    things,
)
from speech.espeak import synthesise
from speech.prosody.corpus import main as measure_folder
from speech.prosody.corpus import read_measured, words_in
from speech.prosody.phones import PhoneInput

SETS = [{word, *others} for word, others in SYNONYMS.items()]


def drawn(split, number=400):
    return [*islice(sentences(split=split, seed=1), number)]


def plain(words, mark):
    """A sentence all of whose words are said alike, but the one before the last by ``mark``."""
    *first, emphasised, last = words
    made = [MarkedWord(word) for word in first] + [MarkedWord(emphasised, " ", mark)]
    return ProsodySentence("", (*made, MarkedWord(last, ".")), "contrast")


@pytest.mark.parametrize("split", ["train", "test"])
def test_what_is_given_was_spoken_of_before(split):
    kinds = set()
    for sentence in drawn(split):
        kinds.add(sentence.kind)
        before = []
        for word in sentence.words:
            same = [w for w in before if any({w, word.text} <= named for named in SETS)]
            if word.reason == "repeated":
                assert word.text in before and word.mark == "given"
            elif word.reason == "synonym":
                assert same and word.text not in before and word.mark == "given"
            elif word.reason == "new":
                assert word.text not in before and not same and word.mark == "focus"
            before.append(word.text)
    assert kinds == set(SHARES)


def test_the_test_has_other_words_and_templates():
    named = [
        {word for kind in things(part) for names in kind for word in names}
        for part in ("train", "test")
    ]
    assert not named[0] & named[1] and len(named[1]) >= 40
    for name in ("colour", "adjective", "food", "place", "given"):
        assert not set(members(name, "train")) & set(members(name, "test"))
    told = [{word.text for s in drawn(split) for word in s.words} for split in ("train", "test")]
    assert not told[0] & named[1] and not told[1] & named[0]
    frames = [
        {" ".join(w.text for w in s.words if not w.reason)[:12] for s in drawn(split, 200)}
        for split in ("train", "test")
    ]
    assert frames[0] and frames[1]
    assert drawn("train", 5) == drawn("train", 5)


def test_words_are_those_that_the_corpus_reads():
    for sentence in drawn("train", 200):
        assert [word.text for word in words_in(sentence.text)] == [w.text for w in sentence.words]


class TestSpoken:
    @pytest.fixture(autouse=True)
    def libraries(self):
        pytest.importorskip("espeakng_loader")
        pytest.importorskip("parselmouth")

    def test_emphasis_is_heard_and_does_not_leak_into_the_phones(self):
        """Same words with and without: the same input; what is measured differs in that word."""
        words = ("the", "blue", "car")
        flat, high = plain(words, ""), plain(words, "focus")
        texts = [recorded(s, speaker=0, name="a")[0] for s in (flat, high)]
        inputs = [PhoneInput.of(text.phones, text.words) for text in texts]
        assert inputs[0].codes.equal(inputs[1].codes) and inputs[0].flags.equal(inputs[1].flags)
        assert texts[0].text == texts[1].text and texts[0].words == texts[1].words
        owner = [phone.word for phone in texts[0].phones]
        vowel = [p.stress == 2 and p.word == 1 for p in texts[0].phones].index(True)
        before, after = (text.targets().numpy() for text in texts)
        assert (after[vowel] - before[vowel] > (0.1, 0.1, 0.5)).all()
        first = owner.index(1)
        np.testing.assert_allclose(after[: first - 1, 0], before[: first - 1, 0], atol=1e-3)

    def test_marked_sentences_keep_the_phones_of_unmarked_ones(self):
        """That SSML changes no phone; what the lexicon names otherwise, no corpus has."""
        kept = 0
        for sentence in drawn("train", 40):
            said = synthesise(sentence.ssml()[0], SPEAKERS[0], ssml=True)
            unmarked = synthesise(sentence.text, SPEAKERS[0])
            kept += [p.symbol for p in said.phones] == [p.symbol for p in unmarked.phones]
        assert kept >= 36
        for _, text, _ in islice(recordings(split="train", seed=2), 8):
            voice = SPEAKERS[text.speaker]
            assert list(text.phones) == read_phones(text.words, voice)

    def test_a_folder_of_recordings_is_measured_to_the_same(self, tmp_path):
        folder = tmp_path / "recordings"
        prosody_corpus.main(["--number", "10", "--out", str(tmp_path), "--recordings", str(folder)])
        assert measure_folder([str(folder), str(tmp_path / "again.jsonl")]) == 0
        again = {text.name: text for text in read_measured(tmp_path / "again.jsonl")}
        source = MeasuredSource(str(tmp_path / "prosody-train.jsonl"), cache=tmp_path)
        assert len(source) == 10 and len(again) == 11
        for index in range(len(source)):
            text = source.read(index)
            other = again[text.name]
            assert (other.phones, other.words, other.text) == (text.phones, text.words, text.text)
            assert other.speaker == text.speaker
            np.testing.assert_allclose(other.targets(), text.targets(), atol=2e-3)
        task = ProsodyTask()
        batch = task.collate([task.encode(source.read(index)) for index in range(3)])
        assert batch.targets.shape == (*batch.is_known.shape, 3)

    def test_a_perfect_model_has_no_error_and_a_blind_one_tells_nothing(self):
        spoken = [(s, text) for s, text, _ in islice(recordings(split="test", seed=3), 30)]
        true = [text.targets().double().numpy() for _, text in spoken]
        found = summary("perfect", [compare(spoken, true)])
        for measure in ("duration", "f0", "power"):
            assert found[measure]["error"] == 0
            assert found[measure]["correlation"] == pytest.approx(1)
        assert found["emphasis, synonym"]["told"] > 90
        level = [np.zeros_like(row) + [-2.5, 5.0, -9.0] for row in true]
        with np.errstate(invalid="ignore"):
            blind = compare(spoken, level)
        assert blind.told("synonym") == blind.told("repeated") == 50
        rng = np.random.default_rng(0)
        noisy = [row + rng.normal(0, 0.25, row.shape) for row in true]
        off = summary("off", [compare(spoken, noisy)] * 2)
        low, high = off["f0"]["interval"]
        assert off["f0"]["error"] == pytest.approx(0.25 * np.sqrt(2 / np.pi), rel=0.05)
        assert 0.9 * off["f0"]["error"] < low < off["f0"]["error"] < high
        assert "off (2 seeds)" in line(off)
        assert json.dumps(off)


def test_what_is_compared_is_the_papers():
    assert len(prosody_evaluation.KINDS) == 4
