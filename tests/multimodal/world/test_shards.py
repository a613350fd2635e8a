"""Training data of the world: the same bytes for the same seed, and the loader reads them."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from language.tokenizer import load_tokenizer
from multimodal.data.samples import caption, dialogues
from multimodal.data.shards import ShardSource
from multimodal.training.config_files import find_config, read_yaml
from multimodal.world import rendering
from multimodal.world.__main__ import write_tokenizer
from multimodal.world.evaluation import wilson
from multimodal.world.shards import write
from multimodal.world.texts import NUMBERS


def digest(files: list[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@pytest.mark.parametrize("content", ["captions", "dialogues", "strangers", "language"])
def test_the_same_seed_writes_the_same_bytes(tmp_path, content):
    def written(name: str, seed: int) -> str:
        return digest(
            write(
                content,
                tmp_path / name,
                split="train",
                number=8,
                seed=seed,
                shapes_only=True,
            )
        )

    assert written("a", 1) == written("b", 1) != written("c", 2)


def test_shards_of_captions_load(tmp_path):
    (file,) = write("captions", tmp_path, split="validation", number=6, seed=0, shapes_only=True)
    source = ShardSource(str(file), name="", cache=tmp_path / "cache")
    assert len(source) == 6
    for index in range(6):
        sample = source.read(index)
        assert caption(sample) not in sample.record["negatives"]
        assert len(sample.pictures) == 1


def test_shards_of_dialogues_load_with_one_picture_and_with_two(tmp_path):
    (file,) = write("dialogues", tmp_path, split="train", number=40, seed=0, shapes_only=True)
    source = ShardSource(str(file), name="", cache=tmp_path / "cache")
    samples = [source.read(index) for index in range(len(source))]
    assert {len(sample.pictures) for sample in samples} == {1, 2}
    for sample in samples:
        for dialogue in dialogues(sample):
            assert dialogue[-1]["role"] == "assistant"


def test_strangers_are_counted_and_not_named(tmp_path):
    (file,) = write("strangers", tmp_path, split="train", number=60, seed=0, shapes_only=True)
    source = ShardSource(str(file), name="", cache=tmp_path / "cache")
    counts = Counter()
    for index in range(len(source)):
        regions = source.read(index).record["regions"]
        labels = [region["labels"] for region in regions]
        if labels[0]["relation"] == "none":
            assert all(set(label) == {"size", "count", "relation"} for label in labels)
            assert {label["count"] for label in labels} == {NUMBERS[len(regions)]}
            counts[len(regions)] += 1
        else:
            assert [label["count"] for label in labels] == ["one", "one"]
            assert all(set(label) == {*label} - {"kind", "colour"} for label in labels)
    assert set(counts) == {1, 2, 3, 4}


def test_strangers_are_unlike_what_has_a_name(tmp_path, monkeypatch):
    names = ["red-apple", "cat-face", "cherry-blossom", "guitar", "man-light-skin-tone"]
    (tmp_path / "icons.json").write_text(json.dumps({"icons": dict.fromkeys(names)}))
    monkeypatch.setenv("OPENHERD_EMOJI", str(tmp_path))
    rendering.strangers.cache_clear()
    rendering._icons.cache_clear()
    try:
        assert rendering.strangers() == ("guitar",)
    finally:
        rendering.strangers.cache_clear()
        rendering._icons.cache_clear()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, seed=0)
    return load_tokenizer(folder)


def test_words_of_the_world_are_single_tokens(tokenizer):
    text = "A big red circle left of a small dog."
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == 10
    assert tokenizer.decode(tokenizer.encode("Grüße, 你好 <|eot_id|>")) == "Grüße, 你好 <|eot_id|>"


@pytest.mark.parametrize("name", ["language/pretrain-tiny", "image/contrastive-tiny"])
def test_configs_know_how_many_tokens_there_are(tokenizer, name):
    config = read_yaml(find_config(f"{name}.yaml"))["model"]["init_args"]
    sizes = config.get("core") or config["contrastive"]["text"]
    assert sizes["vocab_size"] == tokenizer.vocab_size == tokenizer.image_id


def test_interval_of_a_share():
    low, high = wilson(8, 10)
    assert low == pytest.approx(0.4902, abs=1e-4) and high == pytest.approx(0.9433, abs=1e-4)
    assert wilson(0, 20)[0] == 0 and wilson(20, 20)[1] == pytest.approx(1)
