"""BEST-RQ as a training: it learns, resumes exactly, probes, says what is wrong, and exports."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor
from torch.utils.data import DataLoader

from language.errors import InputError
from language.optimization import AdamWConfig, ScheduleConfig
from speech.best_rq import BestRqConfig
from speech.checkpoint import load_encoder, save_encoder
from speech.conformer import ConformerConfig
from speech.encoder import SpeechEncoderConfig, build_encoder
from speech.pretraining import SpeechPretraining, differences
from speech.probe import ProbeConfig
from speech.recordings import SpeechBatch
from speech.w2v_bert import W2vBertConfig
from speech.whisper import WhisperEncoderConfig

CONFORMER = SpeechEncoderConfig(
    conformer=ConformerConfig(dim=32, num_layers=2, num_heads=2, ffn_dim=48)
)
W2V_BERT = SpeechEncoderConfig(
    w2v_bert=W2vBertConfig(dim=32, num_layers=2, num_heads=2, ffn_dim=48, kernel_size=5)
)
BEST_RQ = BestRqConfig(num_codebooks=2, codebook_size=32, codebook_dim=8)
RATE = 16_000


def tones(seed: int, *, recordings: int = 6) -> SpeechBatch:
    """Recordings of about a second: a buzzing tone of four, then another, and their names."""
    generator = torch.Generator().manual_seed(seed)
    waveforms, texts = [], []
    for _ in range(recordings):
        pitches = torch.randperm(4, generator=generator)[:2].tolist()
        parts = []
        for pitch in pitches:
            length = int(torch.randint(6_000, 10_000, (), generator=generator))
            phase = 2 * torch.pi * 110 * (pitch + 1) / RATE * torch.arange(length)
            parts.append(0.2 * phase.sin().sign())  # with overtones
        waveform = torch.cat(parts)
        waveforms.append(waveform + 0.01 * torch.randn(len(waveform), generator=generator))
        texts.append("".join("abcd"[pitch] for pitch in pitches))
    return SpeechBatch.of(waveforms, texts)


def module(encoder: SpeechEncoderConfig | None = CONFORMER, **changes: Any) -> SpeechPretraining:
    settings: dict[str, Any] = {
        "encoder": encoder,
        "best_rq": BEST_RQ,
        "optimizer": AdamWConfig(learning_rate=5e-3),
        "schedule": ScheduleConfig(warmup_steps=2),
        "codes_every_n_steps": 2,
    }
    return SpeechPretraining(**settings | changes)


class Log(Logger):
    """Keeps what is logged, by step and name."""

    name, version = "log", ""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: dict[int, dict[str, float]] = {}

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics.setdefault(step or 0, {}).update(metrics)


def trainer(steps: int, **changes: Any) -> Trainer:
    settings: dict[str, Any] = {
        "max_steps": steps,
        "max_epochs": -1,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(**settings | changes)


def loader(*batches: SpeechBatch) -> DataLoader:
    return DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]


def weights(training: SpeechPretraining) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in training.model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("encoder", [CONFORMER, W2V_BERT], ids=["conformer", "w2v_bert"])
def test_it_learns_and_the_encoder_is_exported(
    encoder: SpeechEncoderConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    log, training = Log(), module(encoder)
    run = trainer(80, logger=log, gradient_clip_val=1.0)
    held_out = loader(tones(1000))
    run.validate(training, held_out, verbose=False)
    first, before = dict(run.callback_metrics), weights(training)
    run.fit(training, loader(*map(tones, range(80))))
    run.validate(training, held_out, verbose=False)
    assert run.callback_metrics["val/loss"] < 0.92 * first["val/loss"]
    assert run.callback_metrics["val/accuracy"] > first["val/accuracy"] + 0.05
    after = weights(training)
    for name in ("quantizer.projections", "quantizer.codebooks"):
        assert torch.equal(before[name], after[name])

    logged = log.metrics[80]
    assert logged["codes/mask_share"] == pytest.approx(0.555, abs=0.15)
    assert 0.05 < logged["codes/accuracy_01"] <= 1 and logged["codes/perplexity_min"] > 1
    assert 0 < logged["codes/usage"] <= 1
    assert logged["gradient_norm/encoder"] > 0 and logged["gradient_norm/heads"] > 0
    assert set(log.metrics) >= {2, 4, 78}

    training.export(tmp_path / "encoder")
    exported = load_encoder(tmp_path / "encoder")
    batch = tones(5)
    features = exported.features(batch.waveforms, batch.lengths)
    with torch.no_grad():
        expected = training.model.encoder.eval()(features).values
        assert torch.equal(exported(features).values, expected)
    again = module(None, start=str(tmp_path / "encoder"))
    again.configure_model()
    assert same(again.model.encoder.state_dict(), training.model.encoder.state_dict())


def test_a_resumed_run_is_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    """With dropout, and two batches a step; masks, noise and dropout go by the step."""
    encoder = SpeechEncoderConfig(
        conformer=ConformerConfig(dim=32, num_layers=2, num_heads=2, ffn_dim=48, dropout=0.1)
    )
    data, settings = [tones(0, recordings=3)] * 20, {"accumulate_grad_batches": 2}
    torch.manual_seed(0)
    whole = module(encoder)
    trainer(4, **settings).fit(whole, loader(*data))

    class SaveAtTwo(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 2 and not (tmp_path / "two.ckpt").exists():
                trainer.save_checkpoint(tmp_path / "two.ckpt")

    torch.manual_seed(0)
    first = module(encoder)
    trainer(4, callbacks=[SaveAtTwo()], **settings).fit(first, loader(*data))
    assert same(weights(first), weights(whole))
    torch.manual_seed(7)  # a new process stands anywhere
    second = module(encoder, best_rq=BestRqConfig(**vars(BEST_RQ) | {"seed": 5}))
    trainer(4, **settings).fit(
        second, loader(*data), ckpt_path=str(tmp_path / "two.ckpt"), weights_only=False
    )
    assert same(weights(second), weights(whole))  # codebooks, too: they are in the state


def test_draws_go_by_seed_step_micro_batch_and_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for seed in (0, 1):
        training = module(seed=seed)
        for rank in (0, 1):
            monkeypatch.setattr(SpeechPretraining, "global_rank", rank)
            for numbers in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]:
                draws = []
                for _ in range(2):
                    training._seed(*numbers)
                    draws.append(float(torch.rand((), generator=training._generator)))
                assert draws[0] == draws[1]
                found.add(draws[0])
    assert len(found) == 16


def test_every_masked_frame_of_a_step_weighs_the_same() -> None:
    torch.manual_seed(0)
    training = module(seed=3)
    training.configure_model()
    start = weights(training)
    batches = [tones(0, recordings=2), tones(1, recordings=5)]
    sums = torch.zeros(2)
    training.trainer = run = trainer(1, accumulate_grad_batches=2)
    for index, batch in enumerate(batches):
        training._seed(0, 0, index)
        output = training.output(batch)
        output.loss.backward()
        sums += torch.stack([output.loss.detach(), output.count.float()])
    gradient = training.model.heads.grad / sums[1]

    class Keep(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            self.gradient = pl_module.model.heads.grad.clone()

    again, keep = module(seed=3), Keep()
    again.configure_model()
    again.model.load_state_dict(start)
    run = trainer(1, accumulate_grad_batches=2, callbacks=[keep])
    run.fit(again, loader(*batches))
    torch.testing.assert_close(again.step_loss, sums[0] / sums[1])
    # callbacks are told before the module divides by the number of frames
    torch.testing.assert_close(keep.gradient / sums[1], gradient, rtol=1e-4, atol=1e-7)


def test_layers_are_probed_at_validation_and_the_run_does_not_notice(capsys: Any) -> None:
    def trained(probe: ProbeConfig | None) -> tuple[SpeechPretraining, Log]:
        torch.manual_seed(0)
        log, training = Log(), module(probe=probe)
        run = trainer(4, logger=log, val_check_interval=2)
        run.fit(training, loader(*map(tones, range(4))), loader(tones(8), tones(9), tones(10)))
        return training, log

    config = ProbeConfig(num_steps=60, minutes=0.2, every_n_steps=4)
    probed, log = trained(config)
    unprobed, _ = trained(None)
    assert same(weights(probed), weights(unprobed)) and unprobed.probed is None
    result = probed.probed
    assert result is not None and len(result.error_rates) == 2
    found = log.metrics[2]  # the second validation came too early
    assert "probe/cer" not in log.metrics[4] and "val/loss" in log.metrics[4]
    assert found["probe/best_layer"] == result.best_layer
    assert found["probe/cer_layer_01"] == pytest.approx(result.error_rates[0])
    assert f"layer {result.best_layer} of 2 serves best" in capsys.readouterr().out
    assert min(result.error_rates) < 0.5  # which tone it is can be heard


def test_an_encoder_of_another_frame_rate_is_trained_too() -> None:
    """Whisper's: two mel frames an output frame, of 20 ms, in a window that is never full."""
    sizes = {"dim": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 16, "max_frames": 100}
    whisper = SpeechEncoderConfig(whisper=WhisperEncoderConfig(**sizes))
    training = module(whisper)
    training.configure_model()
    batch = tones(0)
    before = weights(training)
    trainer(1).fit(training, loader(batch))
    assert training.model.quantizer.projections.shape == (2, 160, 8)
    moved = {
        name for name, value in weights(training).items() if not torch.equal(value, before[name])
    }
    assert {"heads", "encoder.conv1.weight"} <= moved
    training._seed(0, 0, 0)
    found = training.output(batch).statistics
    assert found.frames == (batch.lengths / 160).ceil().long().floor_divide(2).sum()


def test_no_more_is_probed_than_is_asked_for() -> None:
    training = module(probe=ProbeConfig(num_steps=2, minutes=0.05))
    run = trainer(1)
    run.validate(training, loader(tones(0), tones(1)), verbose=False)
    assert training.probed is not None and training._labelled == []
    short = module(probe=ProbeConfig(num_steps=2))
    with pytest.warns(UserWarning, match="no probe of the layers"):
        trainer(1).validate(short, loader(tones(0, recordings=2)), verbose=False)
    unlabelled = tones(0)
    unlabelled.texts = None
    with pytest.warns(UserWarning, match="4 labelled recordings or more, not 0"):
        unheard = module(probe=ProbeConfig(num_steps=2))
        trainer(1).validate(unheard, loader(unlabelled), verbose=False)


def test_long_recordings_are_cropped() -> None:
    training = module(max_seconds=0.5)
    training.configure_model()
    batch = tones(0)
    heard = []
    training.model.encoder.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    for seed in range(3):
        training._seed(0, seed, 0)
        training.output(batch)
    frames = int(training.model.encoder.num_frames(RATE // 2))
    assert all(features.lengths.tolist() == [frames] * 6 for features in heard)
    work = training.work(batch)
    assert work.samples == 6 and work.tokens == 6 * frames and work.flops > 0


def test_a_crop_is_a_part_of_the_recording() -> None:
    batch = SpeechBatch.of([torch.arange(1.0, 11), torch.arange(21.0, 25)], ["ten", "four"])
    crop = batch.cropped(torch.tensor([3, 0]), num_samples=5)
    assert crop.lengths.tolist() == [5, 4] and crop.texts is None
    assert crop.waveforms[0].tolist() == [4, 5, 6, 7, 8]
    assert crop.waveforms[1].tolist() == [21, 22, 23, 24, 0]


def test_a_collapse_is_told_once() -> None:
    silence = SpeechBatch(waveforms=torch.zeros(4, RATE), lengths=torch.full((4,), RATE))
    training = module()
    with pytest.warns(UserWarning, match="codes have collapsed") as caught:
        trainer(6).fit(training, loader(*[silence] * 6))
    assert sum("codes have collapsed" in str(warning.message) for warning in caught) == 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*collapsed.*")
        trainer(6).fit(module(), loader(*map(tones, range(6))))


def test_a_start_of_another_shape_is_refused(tmp_path: Path) -> None:
    save_encoder(build_encoder(CONFORMER), tmp_path / "encoder")
    wider = SpeechEncoderConfig(
        conformer=ConformerConfig(dim=64, num_layers=2, num_heads=2, ffn_dim=48)
    )
    for other, key in [(wider, "dim"), (W2V_BERT, "conformer")]:
        with pytest.raises(InputError, match=key):
            module(other, start=str(tmp_path / "encoder")).configure_model()
    fewer_heads = SpeechEncoderConfig(
        conformer=ConformerConfig(dim=32, num_layers=2, num_heads=4, ffn_dim=48)
    )
    assert differences(CONFORMER, fewer_heads) == ["conformer.num_heads"]  # in no tensor's shape
    dropping = SpeechEncoderConfig(
        conformer=ConformerConfig(dim=32, num_layers=2, num_heads=2, ffn_dim=48, dropout=0.2)
    )
    assert differences(CONFORMER, dropping) == []
    with pytest.raises(InputError):
        module(None, start=str(tmp_path / "nothing")).configure_model()
    with pytest.raises(ValueError, match="start"):
        module(None)


def test_a_yaml_can_say_everything() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model")
    given = {
        "class_path": "speech.pretraining.SpeechPretraining",
        "init_args": {
            "encoder": {"conformer": {"dim": 32, "num_layers": 2, "num_heads": 2, "ffn_dim": 48}},
            "best_rq": {"num_codebooks": 4},
            "probe": {"minutes": 2.5},
            "optimizer": {"learning_rate": 0.001},
            "schedule": {"warmup_steps": 3},
        },
    }
    made = parser.instantiate_classes(parser.parse_object({"model": given})).model
    assert made.best_rq == BestRqConfig(num_codebooks=4) and made.probe.minutes == 2.5
    assert made.encoder.conformer.dim == 32 and made.schedule.warmup_steps == 3
