"""WordNet read from a folder: by hand, and against NLTK on random and real dictionaries."""

import os
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import nltk
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from language.errors import InputError
from multimodal.evaluation.metrics.wordnet import Synset, WordNet
from tests.multimodal.evaluation.metrics.dictionary_files import (
    Meanings,
    write_animals,
    write_dictionary,
)

REAL = Path(os.environ.get("OPENHERD_WORDNET", "/usr/share/wordnet"))


@pytest.fixture
def animals(tmp_path: Path) -> WordNet:
    return WordNet(write_animals(tmp_path / "wordnet"))


def alike(wordnet: WordNet, first: str, second: str) -> float:
    one, other = wordnet.synset(first), wordnet.synset(second)
    assert one and other
    return wordnet.similarity(one, other)


def test_similarity_by_hand(animals: WordNet) -> None:
    # thing 1, living thing 2, animal 3, dog and cat 4, poodle 5
    assert alike(animals, "dog", "cat") == 2 * 3 / (4 + 4)
    assert alike(animals, "poodle", "cat") == 2 * 3 / (5 + 4)
    assert alike(animals, "poodle", "dog") == 2 * 4 / (5 + 4)
    assert alike(animals, "hound", "dog") == 1
    assert alike(animals, "dog", "thing") == 2 * 1 / (4 + 1)
    assert alike(animals, "rex", "poodle") == 2 * 4 / (5 + 5)


def test_what_has_no_common_top_gets_one(animals: WordNet) -> None:
    # a root above all: each verb without one above it is a step below
    assert alike(animals, "move", "play") == 2 * 1 / (2 + 2)
    assert alike(animals, "big", "good") == 2 * 1 / (2 + 2)
    assert alike(animals, "big", "large") == 1
    # between run and walk lies move, as near to a top as the root; the root is taken
    assert alike(animals, "run", "leave") == 2 * 1 / (3 + 3)
    # except where the first one is itself above the other
    assert alike(animals, "move", "run") == 2 * 1 / (1 + 2)
    assert alike(animals, "run", "move") == 2 * 1 / (2 + 3)


def test_nouns_without_anything_above_both_are_unlike(tmp_path: Path) -> None:
    wordnet = WordNet(write_dictionary(tmp_path, nouns={"a": (["a"], []), "b": (["b"], [])}))
    assert alike(wordnet, "a", "b") == 0


def test_a_meaning_of_many_words(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(11)]  # 0b in the file
    nouns: Meanings = {"top": (["top"], []), "many": (words, ["top"])}
    assert alike(WordNet(write_dictionary(tmp_path, nouns=nouns)), "word10", "top") == 2 / 3


def test_the_first_meaning_of_nouns_before_verbs(animals: WordNet) -> None:
    for word, part in (("walk", "noun"), ("ran", "verb"), ("larger", "adj"), ("toward", "adv")):
        found = animals.synset(word)
        assert found and found.part == part
    assert animals.synset("Dog") == animals.synset("hound") != animals.synset("frump")
    assert animals.synset("unicorn") is None and animals.synset("") is None


def test_base_forms(animals: WordNet) -> None:
    for part, word, forms in (
        ("noun", "dogs", ["dog"]),
        ("noun", "glasses", ["glass"]),
        ("noun", "glass", ["glass"]),
        ("noun", "boxes", ["box"]),
        ("noun", "men", ["man"]),
        ("verb", "walking", ["walk"]),
        ("verb", "moving", ["move"]),
        ("verb", "moves", ["move"]),
        ("verb", "running", []),  # its double letter is no rule of morphy
        ("verb", "ran", ["run"]),
        ("adj", "larger", ["large"]),
        ("adj", "better", ["good"]),
        ("adv", "toward", ["toward"]),
        ("adv", "towards", []),
    ):
        assert animals.base_forms(word, part=part) == forms
    assert animals.is_irregular("ran", part="verb") and not animals.is_irregular("ran", part="noun")


def test_a_missing_folder_or_file_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no WordNet dictionary, since index.noun is "):
        WordNet(tmp_path / "nowhere")
    folder = write_animals(tmp_path / "wordnet")
    (folder / "data.verb").unlink()
    with pytest.raises(
        InputError, match="since data.verb is missing; it is what Debian"
    ) as failure:
        WordNet(folder)
    assert "\n" not in str(failure.value)


def test_broken_files_are_said_in_one_line(tmp_path: Path) -> None:
    folder = write_animals(tmp_path / "wordnet")
    data = folder / "data.noun"
    data.write_text("  1 Another licence.\n" + data.read_text())
    wordnet = WordNet(folder)
    with pytest.raises(InputError, match="data.noun: has no entry at byte .* of one version"):
        alike(wordnet, "dog", "cat")
    for index in ("dog n\n", "dog n 1 2 @ ~ 1 0 here\n"):
        (folder / "index.noun").write_text(index)
        with pytest.raises(InputError, match="index.noun: is no index of WordNet"):
            WordNet(folder).synset("dog")


def nltk_reader(root: Path) -> Any:
    """NLTK's reader of a folder, which has to be `ROOT/corpora/wordnet` for it."""
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):
        def map_wn(self, version: str = "wordnet") -> None:
            """Other versions' numbers are not wanted."""

    if str(root) not in nltk.data.path:
        nltk.data.path.append(str(root))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Reader(str(root / "corpora" / "wordnet"), None)


@st.composite
def hierarchies(draw: st.DrawFn) -> Meanings:
    """Meanings under up to three others each, some with words in common."""
    meanings: dict[str, tuple[list[str], list[str]]] = {}
    for number in range(draw(st.integers(1, 14))):
        above = (
            draw(st.lists(st.sampled_from(sorted(meanings)), max_size=3, unique=True))
            if meanings
            else []
        )
        own = [f"w{number}"] + draw(st.lists(st.sampled_from(["many", "more"]), max_size=1))
        name = f"m{number}{draw(st.sampled_from(['', '!']))}"
        meanings[name] = (draw(st.permutations(own)), above)
    return meanings


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(nouns=hierarchies(), verbs=hierarchies(), number=st.uuids())
def test_similarities_are_nltks_on_random_dictionaries(
    tmp_path: Path, nouns: Meanings, verbs: Meanings, number: Any
) -> None:
    verbs = {name: ([f"v{w}" for w in words], above) for name, (words, above) in verbs.items()}
    folder = tmp_path / str(number) / "corpora" / "wordnet"
    write_dictionary(folder, nouns=nouns, verbs=verbs)
    reference, wordnet = nltk_reader(tmp_path / str(number)), WordNet(folder)
    theirs = [*reference.all_synsets("n"), *reference.all_synsets("v")]
    assert len(theirs) == len(nouns) + len(verbs)
    ours = [Synset({"n": "noun", "v": "verb"}[s.pos()], s.offset()) for s in theirs]
    for one, their_one in zip(ours, theirs, strict=True):
        for other, their_other in zip(ours, theirs, strict=True):
            expected = their_one.wup_similarity(their_other) or 0.0
            assert wordnet.similarity(one, other) == pytest.approx(expected, rel=1e-12)


@pytest.mark.skipif(
    not (REAL / "data.noun").is_file(),
    reason="no dictionary: set OPENHERD_WORDNET to its folder, or install wordnet-base",
)
def test_the_real_dictionary_is_read_as_nltk_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    for file in REAL.iterdir():
        shutil.copy(file, folder)
    (folder / "lexnames").write_text("".join(f"{number:02}\tx\t1\n" for number in range(45)))
    reference, wordnet = nltk_reader(tmp_path), WordNet(REAL)
    drawn = random.Random(5)
    words = drawn.sample(sorted(reference.all_lemma_names()), 300)
    words += "dog cat man woman child lawyer walk sit ran ate fell big quickly chef fireman".split()
    for word in words:
        for form in (word, f"{word}s", f"{word}es", f"{word}ing", f"{word}ed"):
            theirs = next(iter(reference.synsets(form)), None)
            ours = wordnet.synset(form)
            assert (ours and ours.offset) == (theirs and theirs.offset()), form
    for _ in range(3000):
        one, other = drawn.sample(words, 2)
        theirs = reference.synsets(one)[0].wup_similarity(reference.synsets(other)[0])
        assert alike(wordnet, one, other) == pytest.approx(theirs or 0.0, rel=1e-12), (one, other)
