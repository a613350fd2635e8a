"""The data modules of speech under Lightning: YAML in, batches out, a run that goes on."""

import json
from dataclasses import replace

import pytest
from lightning.pytorch.cli import LightningCLI

from language.errors import InputError
from language.tokenizer import train_bpe
from multimodal.batch import Batch
from multimodal.data.module import SampleData, SourceConfig
from multimodal.data.speech_module import SpeechData, SpeechPretrainingData
from multimodal.processor import Processor
from speech.adapter import SpeechAdapterConfig
from speech.conformer import ConformerConfig
from speech.encoder import SpeechEncoderConfig
from speech.recordings import SpeechBatch
from tests.multimodal.data.recording_files import RATE, encoded, noise, spoken, write_manifest
from tests.multimodal.data.sample_files import write_shard
from tests.multimodal.data.test_module import Recorder, trainer

TOKENIZER = train_bpe(["recording number 0 1 2 3 4 5 6 7 8 9"] * 3, num_merged=20)


@pytest.fixture
def processor(config):
    conformer = ConformerConfig(dim=16, num_layers=1, num_heads=2, ffn_dim=24)
    hearing = replace(
        config,
        speech_encoder=SpeechEncoderConfig(conformer=conformer),
        speech_adapter=SpeechAdapterConfig(
            input_dim=16, output_dim=config.language.dim, dim=16, ffn_dim=24, num_heads=2
        ),
        max_seconds=2.5,
    )
    return Processor(TOKENIZER, hearing, max_tokens=400)


@pytest.fixture
def paths(tmp_path):
    """A shard of 22 recordings, and a manifest of 10 utterances of one file."""
    shard = write_shard(
        tmp_path / "a.tar", {str(n): spoken(n, seconds=0.3 + n / 20) for n in range(22)}
    )
    (tmp_path / "talk.flac").write_bytes(encoded(noise(9.0)))
    lines = [
        {"audio_filepath": "talk.flac", "offset": n, "duration": 0.5, "text": f"utterance {n}"}
        for n in range(8)
    ]
    return str(shard), str(write_manifest(tmp_path / "manifest.json", *lines))


@pytest.fixture
def data(paths, cache):
    def make(kind=SpeechData, **settings):
        settings = {
            "train": [SourceConfig(path=path) for path in paths],
            "max_batch_seconds": 12.0,
            "batch_multiple": 4,
            "max_seconds": 2.0,
            "window": 12,
            "num_workers": 0,
            **({"language": "de"} if kind is SpeechData else {}),
        } | settings
        return kind(cache=str(cache), **settings)

    return make


@pytest.mark.filterwarnings("ignore")
def test_a_run_goes_on_with_the_next_batch(tmp_path, data, processor):
    whole = Recorder(processor, every=1, folder=tmp_path)
    trainer(max_steps=9).fit(whole, datamodule=data(num_workers=2, speeds=(0.9, 1.0, 1.1)))
    assert len({str(batch) for batch in whole.seen}) == 9
    for step in (1, 4, 7):
        rest = Recorder(processor)
        trainer(max_steps=9).fit(
            rest, datamodule=data(speeds=(0.9, 1.0, 1.1)), ckpt_path=tmp_path / f"{step}.ckpt"
        )
        assert rest.seen == whole.seen[step:]


@pytest.mark.filterwarnings("ignore")
def test_validation_reads_all_and_leaves_training_alone(data, processor):
    plain, recorder = Recorder(processor), Recorder(processor)
    trainer(max_steps=8).fit(plain, datamodule=data())
    module = data(validation=data().configs["train"])
    trainer(max_steps=8, val_check_interval=4, check_val_every_n_epoch=None).fit(
        recorder, datamodule=module
    )
    assert recorder.seen == plain.seen
    half = recorder.validated[: len(recorder.validated) // 2]
    assert recorder.validated == half * 2
    rows = [TOKENIZER.decode(row) for batch in half for row in batch]
    assert len(rows) == 30
    assert sum("Repeat after me in German:" in row for row in rows) == 8
    assert all(any(f"utterance {n}<" in row for row in rows) for n in range(8))


def test_pretraining(data):
    module = data(SpeechPretrainingData, max_seconds=1.0)
    for _, batch in zip(range(8), module.train_dataloader(), strict=False):
        assert isinstance(batch, SpeechBatch)
        assert batch.waveforms.numel() <= 12.0 * RATE and batch.waveforms.shape[1] <= RATE


def test_nothing_is_played_faster_in_validation(data, processor):
    module = data(validation=data().configs["train"], speeds=(0.5,))
    module.processor = processor
    lengths = [
        sorted(n for batch in loader for n in batch.recordings.lengths.tolist())
        for loader in (module.val_dataloader(), data(speeds=(0.5,)).test_dataloader())
    ]
    assert max(lengths[0]) == round(1.35 * RATE) and lengths[1] == []
    batch = next(iter(module.train_dataloader()))
    assert isinstance(batch, Batch) and batch.recordings.lengths.min() >= round(0.6 * RATE)


@pytest.mark.parametrize("kind", ["SpeechData", "SpeechPretrainingData"])
def test_yaml_names_it_all(tmp_path, paths, processor, cache, kind):
    config = {
        "data": {
            "class_path": f"multimodal.data.speech_module.{kind}",
            "init_args": {
                "train": [
                    {"path": paths[0], "weight": 3, "name": "shards"},
                    {"path": paths[1], "weight": 1.5},
                ],
                "max_batch_seconds": 20,
                "max_batch_size": 8,
                "max_seconds": 2,
                "num_workers": 0,
                "cache": str(cache),
            }
            | ({"language": "English", "speeds": [0.9, 1.0]} if kind == "SpeechData" else {}),
        }
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    cli = LightningCLI(
        Recorder,
        SampleData,
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
    assert (mixture.sizes, mixture.weights, mixture.seed) == ((22, 8), (3.0, 1.5), 5)
    batch = next(iter(loader))
    lengths = batch.lengths if kind == "SpeechPretrainingData" else batch.recordings.lengths
    assert len(lengths) == 8


def test_wrong_settings_are_named(data):
    with pytest.raises(InputError, match=r"max_batch_seconds: 7 s for batch_multiple=4 .* 1.75 s"):
        data(max_batch_seconds=7)
    module = data()
    place = {"rank": 0, "num_replicas": 3}
    module.trainer = type("Trainer", (), {"distributed_sampler_kwargs": place})()
    with pytest.raises(InputError, match="batch_multiple: 4 samples do not divide over 3 data"):
        module.train_dataloader()
    with pytest.raises(InputError, match="data.train: no sources"):
        data(train=[]).train_dataloader()
