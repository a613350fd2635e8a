"""The data modules under Lightning: YAML in, batches out, and a run that goes on where it stood."""

import json

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI

from language.errors import InputError
from language.tokenizer import train_bpe
from multimodal.batch import Batch
from multimodal.data.module import ContrastiveData, PictureData, SourceConfig, TextData
from multimodal.processor import Processor
from tests.multimodal.data.sample_files import captioned, write_shard

TOKENIZER = train_bpe(["picture number 0 1 2 3 4 5 6 7 8 9"] * 3, num_merged=20)


class Recorder(LightningModule):
    """Takes steps, and writes down what it was given."""

    def __init__(self, processor=None, every=None, folder=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.processor, self.every, self.folder = processor, every, folder
        self.seen, self.validated = [], []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch.tokens.tolist())
        return self.weight * 1.0

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch.tokens.tolist())

    def on_train_batch_end(self, *_):
        if self.every and self.global_step != getattr(self, "saved", 0):
            self.saved = self.global_step
            self.trainer.save_checkpoint(self.folder / f"{self.global_step}.ckpt")

    def configure_optimizers(self):
        return torch.optim.SGD([self.weight], lr=0.0)


def trainer(**settings):
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "accelerator": "cpu",
        "max_epochs": -1,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    return Trainer(**quiet | settings)


@pytest.fixture
def processor(config):
    return Processor(TOKENIZER, config, max_tokens=60)


@pytest.fixture
def data(tmp_path, cache):
    def make(**settings):
        path = tmp_path / "a.tar"
        if not path.exists():
            write_shard(path, {str(i): captioned(i) for i in range(22)})
        source = SourceConfig(path=str(path))
        settings = {"train": [source], "batch_size": 4, "num_workers": 0} | settings
        return PictureData(cache=str(cache), window=2, **settings)

    return make


@pytest.mark.parametrize("accumulate, num_workers", [(1, 0), (3, 0), (2, 2)])
@pytest.mark.filterwarnings("ignore")
def test_a_run_goes_on_with_the_next_batch(tmp_path, data, processor, accumulate, num_workers):
    """From the state saved after each step, over the ends of epochs (5 batches each)."""
    settings = {"max_steps": 7, "accumulate_grad_batches": accumulate}
    whole = Recorder(processor, every=1, folder=tmp_path)
    module = data(num_workers=num_workers)
    trainer(**settings).fit(whole, datamodule=module)
    assert all(isinstance(batch, list) for batch in whole.seen)
    assert len({str(batch) for batch in whole.seen}) == len(whole.seen)
    for step in range(1, 7):
        rest = Recorder(processor)
        trainer(**settings).fit(rest, datamodule=data(), ckpt_path=tmp_path / f"{step}.ckpt")
        taken = len(whole.seen) - len(rest.seen)
        assert 0 < taken < len(whole.seen)
        assert rest.seen == whole.seen[taken:]
        state = torch.load(tmp_path / f"{step}.ckpt", weights_only=True)
        assert state["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]["step"] == taken


@pytest.mark.filterwarnings("ignore")
def test_short_epochs_walk_through_all_data(data, processor):
    """Where Lightning's epoch is shorter than the data, the next one goes on behind it."""
    recorder = Recorder(processor)
    trainer(max_steps=11, limit_train_batches=3).fit(recorder, datamodule=data())
    plain = Recorder(processor)
    trainer(max_steps=11).fit(plain, datamodule=data())
    assert recorder.seen == plain.seen


@pytest.mark.filterwarnings("ignore")
def test_validation_reads_each_sample_once_and_leaves_training_alone(data, processor):
    plain, recorder = Recorder(processor), Recorder(processor)
    trainer(max_steps=8).fit(plain, datamodule=data())
    module = data(validation=data().configs["train"])
    trainer(max_steps=8, val_check_interval=3, check_val_every_n_epoch=None).fit(
        recorder, datamodule=module
    )
    assert recorder.seen == plain.seen
    assert len(recorder.validated) == 2 * 6
    rows = [str(row[:2]) + TOKENIZER.decode(row) for b in recorder.validated[:6] for row in b]
    assert len(rows) == 22 and len({row.split("<|finetune")[0] for row in rows}) == 22
    assert module.train_loader.metrics()["data/broken"] == 0


def test_yaml_names_it_all(tmp_path, data, processor, cache):
    data()
    config = {
        "data": {
            "class_path": "multimodal.data.module.PictureData",
            "init_args": {
                "train": [
                    {"path": str(tmp_path / "a.tar"), "weight": 3, "name": "captions"},
                    {"path": str(tmp_path / "{a,a}.tar"), "weight": 1.5},
                ],
                "batch_size": 8,
                "num_workers": 0,
                "cache": str(cache),
            },
        }
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    cli = LightningCLI(
        Recorder,
        PictureData,
        subclass_mode_data=True,
        run=False,
        save_config_callback=None,
        args=["--config", str(tmp_path / "config.yaml"), "--data.init_args.seed=5"],
        trainer_defaults={"accelerator": "cpu", "logger": False},
    )
    module = cli.datamodule
    module.processor = processor
    module.prepare_data()
    loader = module.train_dataloader()
    mixture = loader.batches.plan.mixture
    assert (mixture.sizes, mixture.weights, mixture.seed) == ((22, 44), (3.0, 1.5), 5)
    assert [source.name for source in loader.batches.sources][0] == "captions"
    assert len(next(iter(loader)).tokens) == 8


def test_wrong_settings_are_named(tmp_path, data):
    with pytest.raises(InputError, match="data.train: no sources"):
        data(train=[]).train_dataloader()
    mixed = [SourceConfig(path="a.tar", weight=1), SourceConfig(path="b.tar")]
    with pytest.raises(InputError, match="weight to every source, or to none"):
        data(train=mixed).train_dataloader()
    module = data()
    place = {"rank": 0, "num_replicas": 3}
    module.trainer = type("Trainer", (), {"distributed_sampler_kwargs": place})()
    with pytest.raises(InputError, match="4 samples do not divide over 3 data ranks"):
        module.train_dataloader()


def test_texts(tmp_path, cache):
    TOKENIZER.save(tmp_path)
    texts = [f"picture number {i}" for i in range(40)]
    (tmp_path / "a.txt").write_text("\n\n".join(texts))
    source = SourceConfig(path=str(tmp_path / "a.txt"))
    module = TextData(
        train=[source],
        validation=[source],
        batch_size=2,
        tokenizer=str(tmp_path),
        max_tokens=40,
        num_workers=0,
        cache=str(cache),
    )
    module.prepare_data()
    batch = next(iter(module.train_dataloader()))
    assert isinstance(batch, Batch) and batch.images is None
    assert batch.documents is not None and batch.tokens.shape[0] == 2
    rows = [row for batch in module.val_dataloader() for row in batch.tokens.tolist()]
    words = "".join(TOKENIZER.decode(row) for row in rows)
    assert all(words.count(f"{text}<|end_of_text|>") == 1 for text in texts)


def test_pictures_with_wrong_captions(tmp_path, cache, config):
    TOKENIZER.save(tmp_path)
    samples = {str(i): captioned(i, width=40) for i in range(6)}
    for i in range(6):
        samples[str(i)]["json"]["negatives"] = [f"no {i}", f"not {i}", "never used"][: i % 4]
    path = write_shard(tmp_path / "a.tar", samples)
    module = ContrastiveData(
        train=[SourceConfig(path=str(path))],
        validation=[SourceConfig(path=str(path))],
        batch_size=3,
        tokenizer=str(tmp_path),
        num_negatives=2,
        num_workers=0,
        cache=str(cache),
    )
    module.trainer = type("Trainer", (), {"distributed_sampler_kwargs": None})()
    module.trainer.lightning_module = type("Module", (), {"tiles": config.tiles})()
    found = []
    for batch in module.val_dataloader():
        assert batch.arrangements.tolist() == [[1, 3]] * 3 and len(batch.tiles) == 9
        for own, lengths in zip(batch.tokens, batch.lengths, strict=True):
            rows = [row[:length].tolist() for row, length in zip(own, lengths, strict=True)]
            assert all(row[0] == TOKENIZER.bos_id for row in rows if row)
            found.append([TOKENIZER.decode(row, skip_special=True) for row in rows])
    wanted = [[f"picture number {i}", f"no {i}", f"not {i}"][: 1 + min(i % 4, 2)] for i in range(6)]
    assert sorted(found) == sorted(texts + [""] * (3 - len(texts)) for texts in wanted)
    for record in ({"text": "a", "negatives": "b"}, {"messages": []}):
        with pytest.raises(InputError, match="sample x: (negatives|dialogues)"):
            write_shard(path, {"x": {"jpg": samples["0"]["jpg"], "json": record}})
            module.max_broken_share = 0.0
            next(iter(module.train_dataloader()))
