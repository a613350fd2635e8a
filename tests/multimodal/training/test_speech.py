"""The speech parts' training: what is frozen stays, the start by CTC, the ear test, resuming."""

import io
import itertools
import json
import math
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from language.errors import InputError
from language.optimization import AdamWConfig, ScheduleConfig
from multimodal.batch import Recordings
from multimodal.checkpoint import load_model
from multimodal.config import MULTIMODAL_CONFIGS
from multimodal.data.module import SourceConfig
from multimodal.data.speech_module import SpeechData
from multimodal.data.tasks import without_targets
from multimodal.locations import load_weights
from multimodal.training.checkpoints import Checkpoints, latest
from multimodal.training.speech import SpeechTraining, exchanged_recordings
from multimodal.training.speech_parts import FreshSpeechAdapter, SpeechParts, build_speech
from multimodal.training.warm_up import SpeechWarmUp
from speech.augmentation import AugmentationConfig
from speech.checkpoint import save_encoder
from tests.multimodal.speaking import RATE, TOKENIZER, sound, speaking_model, write_speaking
from tests.multimodal.training.fakes import Recorder, quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore")
WORDS = ("one", "two", "three")


@pytest.fixture(scope="module")
def seeing(tmp_path_factory) -> str:
    """Directory of a model that sees; its speech parts are not taken over."""
    return str(write_speaking(tmp_path_factory.mktemp("models") / "seeing"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    """Directory of a pre-trained speech encoder."""
    directory = tmp_path_factory.mktemp("models") / "encoder"
    save_encoder(speaking_model().speech_encoder, directory)
    return str(directory)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    """Each word is a sound of its own."""
    file = tmp_path_factory.mktemp("shards") / "speech.tar"
    rng = np.random.default_rng(0)
    with tarfile.open(file, "w") as archive:
        for index in range(24):
            said = [int(word) for word in rng.integers(3, size=rng.integers(1, 4))]
            wave = np.concatenate([sound(0.5, seed=40 + word)[0] for word in said])
            wave += 0.001 * rng.standard_normal(len(wave)).astype(np.float32)
            buffer = io.BytesIO()
            soundfile.write(buffer, wave, RATE, format="FLAC")
            record = {"text": " ".join(WORDS[word] for word in said), "lang": "en"}
            for name, data in (("flac", buffer.getvalue()), ("json", json.dumps(record).encode())):
                member = tarfile.TarInfo(f"{index:04d}.{name}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return str(file)


@pytest.fixture
def train(tmp_path, seeing, encoder, shards):
    """Trains from seed 0; gives the module and what was recorded."""

    def run(kind=SpeechTraining, *, callbacks=(), trainer=None, fit=None, name="run", **settings):
        torch.manual_seed(0)
        adapter = FreshSpeechAdapter(dim=16, ffn_dim=24, num_heads=2)
        usual = {
            "parts": SpeechParts(core=seeing, speech_encoder=encoder, adapter=adapter),
            "optimizer": AdamWConfig(learning_rate=1e-2),
            "schedule": ScheduleConfig(warmup_steps=2),
            "augmentation": AugmentationConfig(),
        }
        module, recorder = kind(**usual | settings), Recorder()
        data = SpeechData(
            train=[SourceConfig(path=shards)],
            validation=[SourceConfig(path=shards)],
            max_batch_seconds=24,
            batch_multiple=4,
            max_seconds=6,
            num_workers=0,
            cache=str(tmp_path / "cache"),
        )
        lightning = quiet_trainer(
            tmp_path / name, callbacks=[recorder, *callbacks], **{"max_steps": 6, **(trainer or {})}
        )
        lightning.fit(module, data, **(fit or {}))
        return module, recorder

    return run


@pytest.mark.parametrize("kind", [SpeechTraining, SpeechWarmUp])
def test_what_is_frozen_stays_bit_for_bit(train, seeing, kind):
    before = load_model(seeing)
    text = torch.randint(40, (2, 12))
    module, _ = train(kind)
    trained = {name for name, _ in module.trainable()}
    assert {name.split(".")[0] for name in trained} == {"speech_encoder", "speech_adapter"}
    for name, parameter in module.model.named_parameters():
        if name not in trained:
            assert torch.equal(parameter, before.get_parameter(name)), name
            assert parameter.grad is None
    with torch.no_grad():
        assert torch.equal(module.model.eval().language(text), before.language(text))


def test_every_trained_weight_changes(train, encoder):
    module, _ = train(augmentation=None)
    started = speaking_model().speech_encoder
    for name, parameter in module.model.speech_encoder.named_parameters():
        assert not torch.equal(parameter, started.get_parameter(name)), name


def test_encoder_alone_or_adapter_alone(train, encoder):
    module, _ = train(train=("speech_adapter.*",))
    started = speaking_model().speech_encoder
    for name, parameter in module.model.speech_encoder.named_parameters():
        assert torch.equal(parameter, started.get_parameter(name)), name
    assert not module.model.speech_encoder.training and module.model.speech_adapter.training


def test_a_resumed_run_is_the_whole_run(train, tmp_path):
    whole, losses = train(name="whole", trainer={"max_steps": 8})
    train(name="cut", trainer={"max_steps": 8, "limit_train_batches": 4, "max_epochs": 1},
          callbacks=[Checkpoints(every_n_steps=2)])  # fmt: skip
    resumed, rest = train(
        name="cut",
        trainer={"max_steps": 8},
        callbacks=[Checkpoints(every_n_steps=2)],
        fit={"ckpt_path": str(latest(tmp_path / "cut"))},
    )
    assert rest.losses == losses.losses[-len(rest.losses) :] and len(rest.losses) < 8
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, resumed.model.get_parameter(name)), name


def brute_force_ctc(scores: torch.Tensor, wanted: list[int], *, blank: int) -> float:
    """Minus the log of the sum over every path that spells ``wanted``; scores [frames, symbols]."""
    symbols = sorted({*wanted, blank})
    total = -math.inf
    for path in itertools.product(symbols, repeat=len(scores)):
        said = [s for i, s in enumerate(path) if s != blank and (i == 0 or path[i - 1] != s)]
        if said == wanted:
            score = sum(float(scores[i, s]) for i, s in enumerate(path))
            total = np.logaddexp(total, score)
    return -total


def test_warm_up_is_ctc_through_the_core(train):
    module, _ = train(SpeechWarmUp, trainer={"max_steps": 1})
    processor, model = module.processor, module.model
    rows = []
    for words, seconds in (("one two", 0.42), ("three", 0.3), ("", 0.2)):
        messages = [
            {"role": "user", "content": [{"type": "audio", "audio": sound(seconds)}]},
            {"role": "assistant", "content": words},
        ]
        rows.append(processor.encode(messages))
    batch = processor.collate(rows)
    with torch.no_grad():
        total, count = module.loss(batch)
        expected, tokens = 0.0, 0
        for row in rows:
            heard = Recordings(
                waveforms=row.recordings[0][None],
                lengths=torch.tensor([len(row.recordings[0])]),
                rows=torch.tensor([0]),
            )
            embedded = model.hear(heard)[1:-1]
            scores = model.language.logits(embedded).log_softmax(-1)
            wanted = row.targets[(row.targets >= 0)].tolist()[:-1]
            tokens += max(len(wanted), 1)
            if len(wanted) <= len(scores):
                expected += brute_force_ctc(scores, wanted, blank=module.blank_id)
    assert int(count) == tokens
    assert float(total) == pytest.approx(expected, rel=1e-4)


def test_greedy_errors_are_those_of_the_best_path(train):
    module, _ = train(SpeechWarmUp, trainer={"max_steps": 1})
    rows = []
    for words, seconds in (("one two", 0.42), ("", 0.2)):
        messages = [
            {"role": "user", "content": [{"type": "audio", "audio": sound(seconds)}]},
            {"role": "assistant", "content": words},
        ]
        rows.append(module.processor.encode(messages))
    with torch.no_grad():
        found, count = module.validation_losses(module.processor.collate(rows))["token_errors"]
        wrong = 0
        for row in rows:
            samples = row.recordings[0]
            heard = Recordings(
                waveforms=samples[None], lengths=torch.tensor([len(samples)]), rows=torch.zeros(1)
            )
            best = module.model.language.logits(module.model.hear(heard)[1:-1]).argmax(-1).tolist()
            said = [token for token, _ in itertools.groupby(best) if token != module.blank_id]
            wanted = row.targets[row.targets >= 0].tolist()[:-1]
            distances = np.arange(len(wanted) + 1)
            for i, token in enumerate(said, start=1):
                row_above, distances = distances, np.full(len(wanted) + 1, i)
                for j, other in enumerate(wanted, start=1):
                    distances[j] = min(
                        row_above[j] + 1, distances[j - 1] + 1, row_above[j - 1] + (token != other)
                    )
            wrong += int(distances[-1])
    assert int(found) == wrong
    assert int(count) == len(TOKENIZER.encode("one two")) + 1  # silence counts as one


def test_exchanged_recordings_keep_their_places():
    waveforms = torch.arange(1, 13, dtype=torch.float32).view(3, 4)
    lengths = torch.tensor([4, 2, 3])
    waveforms = waveforms * (torch.arange(4) < lengths[:, None])
    recordings = Recordings(waveforms=waveforms, lengths=lengths, rows=torch.arange(3))
    found = exchanged_recordings(recordings)
    assert torch.equal(found.lengths, lengths)
    assert found.waveforms.tolist() == [[5, 6, 0, 0], [9, 10, 0, 0], [1, 2, 3, 0]]


def test_a_model_that_does_not_listen_is_told_of(train, capsys):
    train(
        train=("speech_adapter.start",),
        optimizer=AdamWConfig(learning_rate=1e-9),
        trainer={"val_check_interval": 1, "limit_val_batches": 2, "max_steps": 2},
    )
    assert "the sound is not heard yet" in capsys.readouterr().out


def test_it_learns_to_listen(train, capsys):
    module, recorder = train(
        SpeechWarmUp,
        augmentation=None,
        optimizer=AdamWConfig(learning_rate=1e-2, orthogonal=("speech_*.weight",)),
        trainer={
            "max_steps": 120,
            "val_check_interval": 120,
            "check_val_every_n_epoch": None,
            "limit_val_batches": 4,
        },
    )
    metrics = module.trainer.callback_metrics
    assert metrics["val/loss"] < 0.7 * recorder.losses[0]
    assert metrics["val/loss_shuffled"] > 1.2 * metrics["val/loss"]


def test_export_and_next_stage(train, tmp_path, seeing):
    module, _ = train()
    module.export(tmp_path / "speech")
    joined = load_weights(tmp_path / "speech", core=Path(seeing))
    for name, parameter in module.model.named_parameters():
        assert torch.equal(parameter, joined.get_parameter(name)), name
    following = build_speech(SpeechParts(core=seeing, start=str(tmp_path / "speech")))
    for name, parameter in joined.named_parameters():
        assert torch.equal(parameter, following.get_parameter(name)), name
    whole, _ = train(
        parts=SpeechParts(core=seeing, start=str(tmp_path / "speech")),
        export_whole=True,
        name="next",
    )
    whole.export(tmp_path / "whole")
    assert load_model(tmp_path / "whole").config == whole.model.config


def test_wrong_parts_are_refused(seeing, encoder, tmp_path):
    with pytest.raises(ValueError, match="core"):
        SpeechParts(speech_encoder=encoder)
    with pytest.raises(ValueError, match="speech_encoder"):
        SpeechParts(core=seeing)
    with pytest.raises(ValueError, match="sizes"):
        SpeechParts(core=seeing, speech_encoder=encoder, sizes="9b")
    with pytest.raises(InputError, match="8b-speech"):
        build_speech(SpeechParts(core=seeing, speech_encoder=encoder, sizes="8b-speech"))
    with pytest.raises(InputError):
        build_speech(SpeechParts(core=seeing, speech_encoder=str(tmp_path / "nothing")))


def test_the_fresh_adapter_speaks_at_the_core_s_level(seeing, encoder):
    adapter = FreshSpeechAdapter(dim=16, ffn_dim=24, num_heads=2)
    model = build_speech(SpeechParts(core=seeing, speech_encoder=encoder, adapter=adapter))
    level = float(model.language.embedding.weight.square().mean().sqrt())
    samples = torch.from_numpy(sound(2.0)[0])
    heard = Recordings(
        waveforms=samples[None], lengths=torch.tensor([len(samples)]), rows=torch.tensor([0])
    )
    with torch.no_grad():
        embedded = model.hear(heard)
    assert 0.5 * level < float(embedded.square().mean().sqrt()) < 2 * level
    assert replace(model.config.speech_adapter, output_scale=level).output_scale == level


def test_rows_without_targets_weigh_nothing_in_the_warm_up(train):
    module, _ = train(SpeechWarmUp, trainer={"max_steps": 1})
    rows = []
    for words, seconds in (("one two", 0.42), ("one", 0.3)):
        messages = [
            {"role": "user", "content": [{"type": "audio", "audio": sound(seconds)}]},
            {"role": "assistant", "content": words},
        ]
        rows.append(module.processor.encode(messages))
    with torch.no_grad():
        alone = module.validation_losses(module.processor.collate(rows[:1]))
        both = [rows[0], without_targets(rows[1])]
        beside = module.validation_losses(module.processor.collate(both))
    for name in ("loss", "token_errors"):
        assert float(beside[name][0]) == pytest.approx(float(alone[name][0]), rel=1e-5)
        assert int(beside[name][1]) == int(alone[name][1])


def test_parts_of_the_right_sizes_are_taken(monkeypatch, seeing, encoder):
    adapter = FreshSpeechAdapter(dim=16, ffn_dim=24, num_heads=2)
    parts = SpeechParts(core=seeing, speech_encoder=encoder, adapter=adapter)
    monkeypatch.setitem(MULTIMODAL_CONFIGS, "mine", build_speech(parts).config)
    sized = replace(parts, sizes="mine", activation_checkpointing=True)
    model = build_speech(sized)
    assert model.config.speech_encoder.conformer.activation_checkpointing
    with pytest.raises(InputError, match="mine"):
        build_speech(replace(sized, adapter=replace(adapter, dim=32)))
