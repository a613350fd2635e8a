"""Which file a name means, and the order in which a chain of configs is read."""

import json

import pytest

from language.errors import InputError
from multimodal.training.config_files import chain, config_names, expand, find_config


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes configs into a working directory."""
    monkeypatch.chdir(tmp_path)

    def make(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return make


def test_a_path_then_the_working_directory_then_what_is_carried(write):
    carried = find_config("image/pretrain-8b")
    assert carried == find_config("configs/image/pretrain-8b.yaml")
    write("configs/image/pretrain-8b.yaml", "a: 1")
    mine = find_config("image/pretrain-8b")
    assert mine != carried and mine.read_text() == "a: 1"
    write("image/pretrain-8b.yaml", "a: 2")
    assert find_config("image/pretrain-8b").read_text() == "a: 2"
    assert find_config(str(carried)) == carried
    assert "image/pretrain-8b" in config_names()
    assert not any(name.split("/")[-1].startswith("_") for name in config_names())


def test_a_chain_is_read_from_the_bottom(write):
    write("base.yaml", "a: 1\nb: 1")
    write("more/left.yaml", "extends: ../base.yaml\nb: 2")
    write("more/right.yaml", "extends: [../base.yaml]\nc: 3")
    top = write("more/top.yaml", "extends: [left.yaml, right.yaml]\nd: 4")
    names = [file.resolve().name for file in chain(top)]
    assert names == ["base.yaml", "left.yaml", "right.yaml", "top.yaml"]
    words = expand(["--x", "1", "--config", "more/top", "--config=base", "--y=2"])
    assert words[-3:] == ["--x", "1", "--y=2"]
    read = [json.loads(word) for word in words if word.startswith("{")]
    assert read == [{"a": 1, "b": 1}, {"b": 2}, {"c": 3}, {"d": 4}, {"a": 1, "b": 1}]


def test_what_is_carried_can_be_extended_from_anywhere(write):
    mine = write("mine.yaml", "extends: image/_pretrain.yaml\na: 1")
    files = chain(mine)
    assert files[-1] == mine and files[-2] == find_config("image/_pretrain.yaml")
    write("image/_pretrain.yaml", "b: 1")  # one beside it is nearer
    assert chain(mine) == [mine.parent / "image/_pretrain.yaml", mine]


@pytest.mark.parametrize(
    "text, fault",
    [
        ("extends: nowhere.yaml", "extends nowhere.yaml, which is not there"),
        ("extends: broken.yaml", "extends itself"),
        ("[1, 2]", "not a YAML mapping"),
        ("a: [1", "not a readable YAML file"),
        ("a: !!python/object/apply:os.system ['true']", "not a readable YAML file"),
        ("\x00", "not a readable YAML file"),
    ],
)
def test_broken_files_are_named_in_one_line(write, text, fault):
    file = write("broken.yaml", text)
    with pytest.raises(InputError) as error:
        chain(file)
    assert fault in str(error.value) and "\n" not in str(error.value)
    assert "broken.yaml" in str(error.value)
