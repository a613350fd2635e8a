"""Training a tagger: it learns, by embeddings what no token says, and the core stays as it was."""

import random

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from language.checkpoint import load_llama, save_llama
from language.errors import InputError
from language.optimization import AdamWConfig, ScheduleConfig
from speech.normalization.checkpoint import load_tagger
from speech.normalization.data import LabelledText
from speech.normalization.training import (
    IGNORED,
    NormalizationTraining,
    WrittenBatch,
    WrittenRow,
)
from speech.normalization.written import split

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def core(tmp_path, embeddings):
    embeddings.tokenizer.save(tmp_path)
    save_llama(embeddings.core, tmp_path / "core", companions=tmp_path)
    return tmp_path / "core"


def new_training(core=None, **changes):
    return NormalizationTraining(
        optimizer=AdamWConfig(learning_rate=1e-2),
        schedule=ScheduleConfig(shape="constant"),
        core=None if core is None else str(core),
        core_layer=2,
        **{"dim": 32, "hidden_dim": 32, "num_word_rows": 64, "dropout": 0.0, **changes},
    )


def row(rng, labels):
    number, is_code = str(rng.randint(100, 999)), rng.random() < 0.5
    text = f"{'the code is' if is_code else 'there are'} {number}"
    named = ["plain"] * (len(split(text)) - 1) + ["digits" if is_code else "cardinal"]
    return WrittenRow.of(LabelledText(text, tuple(named)), labels)


def batches(training, number):
    rng = random.Random(0)
    rows = [[row(rng, training.rules.labels) for _ in range(8)] for _ in range(number)]
    return DataLoader([WrittenBatch.of(each) for each in rows], batch_size=None)


def fit(training, tmp_path, steps):
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        gradient_clip_val=1.0,
    )
    data = batches(training, steps)
    trainer.fit(training, data)
    trainer.validate(training, data, verbose=False)
    return trainer.callback_metrics


def test_it_learns_beside_a_core_that_stays_as_it_is(core, tmp_path):
    torch.manual_seed(0)
    training = new_training(core)
    measured = fit(training, tmp_path, 60)
    assert measured["val/texts"] > 0.95
    before, after = load_llama(core).state_dict(), training.core.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert {name.split(".")[0] for name, _ in training.trainable()} >= {"see", "look_back", "lstm"}
    training.export(tmp_path / "export")
    tagger, rules = load_tagger(tmp_path / "export")
    assert tagger.config.core_dim == 32 and rules.code == "en"


def test_it_learns_without_embeddings(tmp_path):
    torch.manual_seed(0)
    training = new_training(look_ahead=None)
    assert fit(training, tmp_path, 60)["val/texts"] > 0.95
    assert not hasattr(training, "core")


def test_rows_without_targets_teach_nothing():
    training = new_training()
    training.configure_model()
    training.eval()
    rng = random.Random(1)
    rows = [row(rng, training.rules.labels) for _ in range(3)]
    total, count = training.loss(WrittenBatch.of(rows))
    with_one_more = [*rows, row(rng, training.rules.labels).without_targets()]
    again, same = training.loss(WrittenBatch.of(with_one_more))
    assert same == count == sum(len(each.targets) for each in rows)
    torch.testing.assert_close(again, total)
    assert set(with_one_more[-1].targets) == {IGNORED}


def test_work_counts_tokens():
    training = new_training()
    training.configure_model()
    batch = WrittenBatch.of([row(random.Random(2), training.rules.labels)])
    work = training.work(batch)
    assert work.tokens == len(batch.rows[0].tokens) and work.samples == 1 and work.flops > 0


def test_a_core_that_is_not_there(tmp_path):
    with pytest.raises(InputError):
        new_training(tmp_path / "nowhere").configure_model()
