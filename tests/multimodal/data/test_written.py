"""Sentences for text normalization, through the project's own loaders."""

import pytest
from lightning.pytorch import LightningDataModule

from language.errors import InputError
from multimodal.data.module import SourceConfig
from multimodal.data.written import NormalizationTask, WrittenData, WrittenSource
from multimodal.training.command import run
from speech.normalization.rules import language

ENGLISH = language("en")
LINES = (
    "My PIN is 1234.\tMy PIN is one two three four\n"
    "It rained in 1984.\tIt rained in nineteen eighty four\n"
)


def test_a_source_gives_what_the_file_says(tmp_path):
    (tmp_path / "own.tsv").write_text(LINES)
    source = WrittenSource(str(tmp_path / "own.tsv"), rules=ENGLISH, cache=tmp_path)
    assert [source.read(i).text for i in range(len(source))] == [
        *("My PIN is 1234.", "It rained in 1984.")
    ]
    task = NormalizationTask(ENGLISH.labels)
    rows = [task.encode(source.read(i)) for i in range(2)]
    batch = task.collate(rows)
    assert batch.targets.shape == (2, 5)
    assert [ENGLISH.labels[i] for i in batch.targets[1]][3] == "year"
    assert task.cost(source.extent(1)) > task.cost(source.extent(0))
    assert set(task.without_loss(rows[0]).targets) == {-100}


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "own.tsv").write_text("a 1\n")
    with pytest.raises(InputError, match=r"own.tsv: line 1"):
        WrittenSource(str(tmp_path / "own.tsv"), rules=ENGLISH, cache=tmp_path)


def test_fit_from_a_config_and_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.tsv").write_text(LINES * 10)
    words = ["fit", "--config", "speech/normalization-tiny.yaml", "--model.init_args.core=null"]
    words += ["--data.init_args.train", '[{"path": "own.tsv"}]', "--trainer.devices=1"]
    words += ["--data.init_args.validation", "[]", "--data.init_args.num_workers=0"]
    words += ["--data.init_args.batch_size=4", "--trainer.val_check_interval=null"]
    run([*words, "--trainer.max_steps=2"])
    run([*words, "--trainer.max_steps=3", "--resume"])
    assert (tmp_path / "runs/speech/normalization-tiny/export/model.safetensors").exists()


def test_the_data_module_is_one():
    data = WrittenData(train=[SourceConfig(path="own.tsv")], batch_size=2)
    assert isinstance(data, LightningDataModule)
