"""The video parts' training: nothing else moves, stages follow one another, features are kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from language.checkpoint import load_llama
from language.errors import InputError
from language.optimization import AdamWConfig, ScheduleConfig
from multimodal.adapter_checkpoint import IMAGE_PARTS, load_adapter, save_adapter
from multimodal.assistant import load
from multimodal.batch import Recordings
from multimodal.checkpoint import load_model
from multimodal.data.feature_cache import HEADER_BYTES, FeatureCache
from multimodal.locations import load_weights
from multimodal.training.checkpoints import Checkpoints, latest
from multimodal.training.flops import hearing_flops
from multimodal.training.parts import build
from multimodal.training.video import VideoAdapterTraining, disordered, exchanged_clips
from multimodal.training.video_flops import video_step_work
from multimodal.training.video_parts import (
    FreshAggregator,
    FreshVideoAdapter,
    VideoParts,
    build_video,
    video_config_of,
)
from tests.multimodal.speaking import speaking_model
from tests.multimodal.training.fakes import (
    Counting,
    Recorder,
    Rows,
    clip_batch,
    picture_batch,
    quiet_trainer,
    text_batch,
)

pytestmark = pytest.mark.filterwarnings("ignore")
AGGREGATOR = FreshAggregator(dim=16, num_layers=1, num_heads=2, ffn_dim=24, num_latents=3)


@pytest.fixture
def image(parts, tmp_path) -> str:
    """Directory of image parts beside the core."""
    torch.manual_seed(3)
    model = build(parts)
    save_adapter(model, tmp_path / "image", parts=IMAGE_PARTS)
    return str(tmp_path / "image")


@pytest.fixture
def video_parts(core, image) -> VideoParts:
    return VideoParts(
        core=core,
        image=image,
        aggregator=AGGREGATOR,
        adapter=FreshVideoAdapter(positions=(1, 4), gate_init=0.4),
        num_frames=4,
        frames_per_group=3,
    )


@pytest.fixture
def watch(tmp_path: Path, video_parts: VideoParts) -> Any:
    """Trains from seed 0; gives the module and what was recorded."""

    def run(
        *,
        data: Any = None,
        callbacks: Any = (),
        trainer: Any = None,
        fit: Any = None,
        **settings: Any,
    ):
        torch.manual_seed(0)
        usual = {
            "parts": video_parts,
            "optimizer": AdamWConfig(learning_rate=1e-2),
            "schedule": ScheduleConfig(warmup_steps=2),
        }
        module, recorder = VideoAdapterTraining(**usual | settings), Recorder()
        lightning = quiet_trainer(
            tmp_path / "run",
            callbacks=[recorder, *callbacks],
            **{"max_steps": 8, **(trainer or {})},
        )
        lightning.fit(module, data or Counting(clips=True), **(fit or {}))
        return module, recorder

    return run


def some_rows(number=4):
    return [Rows(num_rows=number, length=12, seed=7)[i] for i in range(number)]


def test_what_is_frozen_stays_bit_for_bit(watch, core, video_parts, parts, image):
    torch.manual_seed(0)
    before = dict(build_video(video_parts).named_parameters())
    module, _ = watch()
    trained = {name for name, _ in module.trainable()}
    assert {name.split(".")[0] for name in trained} == {"video_aggregator", "video_adapter"}
    for name, parameter in module.model.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in trained), name
    pictures = load_adapter(image, load_llama(core))
    with torch.no_grad():
        for batch in (picture_batch(some_rows()), text_batch(some_rows())):
            assert torch.equal(module.model.eval()(batch), pictures(batch))


def test_fresh_video_parts_are_the_image_model(core, image):
    fresh = build_video(VideoParts(core=core, image=image, aggregator=AGGREGATOR)).eval()
    assert fresh.config.video_adapter.positions == (3,)  # before the last of two image layers
    pictures = load_adapter(image, load_llama(core))
    batch = clip_batch(some_rows())
    with torch.no_grad():
        without = pictures(replace(batch, clips=None, visible_clips=None))
        assert torch.equal(fresh(batch), without)


def test_learns_what_clips_fade_to(watch, video_parts):
    """Four clips by heart: the loss falls, and more with the true clips than with others."""
    module, recorder = watch(
        parts=replace(video_parts, adapter=FreshVideoAdapter(positions=(1, 4), gate_init=0.5)),
        data=Counting(clips=True, num_rows=4),
        optimizer=AdamWConfig(learning_rate=5e-3),
        trainer={"max_steps": 250},
    )
    assert recorder.losses[-1] < 0.5 * recorder.losses[0]
    rows = Rows(num_rows=4, length=12, seed=1)
    with torch.no_grad():
        found = module.validation_losses(clip_batch([rows[i] for i in range(4)]))
    losses = {name: float(total / count) for name, (total, count) in found.items()}
    assert losses["loss"] < losses["loss_disordered"]
    assert losses["loss"] < losses["loss_shuffled"] < losses["loss_without"]


def test_validation_tells_who_watches(watch):
    module, _ = watch(trainer={"val_check_interval": 4, "limit_val_batches": 2})
    names = {f"val/loss{end}" for end in ("", "_shuffled", "_disordered", "_without")}
    assert names <= set(module.trainer.callback_metrics)


def test_the_next_stage_samples_more_frames(watch, core, image, tmp_path):
    first, _ = watch()
    first.export(tmp_path / "pretrain")
    batch = clip_batch(some_rows())
    again = load_adapter(tmp_path / "pretrain", load_adapter(image, load_llama(core)))
    with torch.no_grad():
        assert torch.equal(again(batch), first.model.eval()(batch))
    longer = VideoParts(
        core=core,
        image=image,
        start=str(tmp_path / "pretrain"),
        num_frames=16,
        frames_per_group=8,
    )
    model = build_video(longer)
    assert video_config_of(longer) == model.config
    assert model.config.clips.num_frames == 16
    assert model.config.video_aggregator.frames_per_group == 8
    table, old = model.video_aggregator.positions, first.model.video_aggregator.positions
    assert table.shape[0] == 16
    torch.testing.assert_close(table[::5], old)  # 16 entries hold the 4 old ones
    kept = build_video(VideoParts(core=core, image=image, start=str(tmp_path / "pretrain")))
    assert kept.config.clips.num_frames == 4


def test_whole_export_needs_nothing_else(watch, tmp_path):
    module, _ = watch(export_whole=True)
    module.export(tmp_path / "whole")
    batch = clip_batch(some_rows())
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "whole")(batch), module.model.eval()(batch))
    assert load(tmp_path / "whole").processor.watcher is not None


def test_video_parts_join_a_whole_model(watch, core, image, tmp_path):
    module, _ = watch()
    module.export(tmp_path / "video")
    base = load_adapter(image, load_llama(core))
    from multimodal.checkpoint import save_model

    save_model(base, tmp_path / "seeing", companions=Path(core))
    joined = load_weights(tmp_path / "video", core=tmp_path / "seeing")
    batch = clip_batch(some_rows())
    with torch.no_grad():
        assert torch.equal(joined(batch), module.model.eval()(batch))


def test_another_core_or_encoder_is_refused(watch, core, sibling, image, parts, tmp_path):
    module, _ = watch()
    module.export(tmp_path / "video")
    torch.manual_seed(9)
    other = build(parts)
    torch.nn.init.normal_(other.image_encoder.position_embedding.table)
    save_adapter(other, tmp_path / "other", parts=IMAGE_PARTS)
    base = load_adapter(tmp_path / "other", load_llama(core))
    with pytest.raises(InputError, match="belong to another image encoder"):
        load_adapter(tmp_path / "video", base)
    with pytest.raises(InputError, match="need a model that sees"):
        load_adapter(tmp_path / "video", load_llama(core))
    start = str(tmp_path / "video")
    with pytest.raises(InputError, match="this one is another"):
        build_video(VideoParts(core=sibling, image=image, start=start))
    build_video(VideoParts(core=sibling, image=image, start=start, other_core=True))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"core": ""}, "directory of the frozen model"),
        ({"core": "x", "sizes": "9b"}, "none of 8b-video"),
    ],
)
def test_wrong_settings_are_refused(settings, fault):
    with pytest.raises(ValueError, match=fault):
        VideoParts(**settings)


def test_directories_that_do_not_do_are_named(core, image, tmp_path):
    with pytest.raises(InputError, match="has no image parts"):
        build_video(VideoParts(core=core))
    with pytest.raises(InputError, match="holds no video parts"):
        build_video(VideoParts(core=core, image=image, start=image))
    with pytest.raises(InputError, match="model.parts.sizes"):
        build_video(VideoParts(core=core, image=image, sizes="8b-video", aggregator=AGGREGATOR))


def test_kept_features_change_nothing(watch, tmp_path):
    _, plain = watch()
    _, kept = watch(feature_cache=str(tmp_path / "features"))
    assert kept.losses == plain.losses
    files = list((tmp_path / "features").rglob("*.safetensors"))
    assert files and not list((tmp_path / "features").rglob("*.partial"))


def test_features_are_found_again(watch, video_parts, tmp_path):
    module, _ = watch(feature_cache=str(tmp_path / "features"))
    batch = clip_batch(some_rows())
    module.with_features(batch)
    cache = FeatureCache.of(tmp_path / "features", module.model)
    features = module.model.frame_features(batch.clips)
    parts = features.split(batch.clips.tiles_per_clip.tolist())
    for key, part, times in zip(batch.clips.keys, parts, batch.clips.times, strict=True):
        found = cache.find(key)
        assert torch.equal(found.features, part) and found.times == times
        assert len(found.pixels) == 0 and found.arrangement == (1, 1)
    assert cache.find("0" * 64) is None
    file = next((tmp_path / "features").rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:100])  # as a crash or a full disk leaves it
    key = file.parent.name + file.stem
    assert cache.find(key) is None


def test_no_more_features_are_kept_than_there_is_room_for(watch, tmp_path):
    whole, bounded = tmp_path / "whole", tmp_path / "bounded"
    watch(feature_cache=str(whole))
    sizes = [file.stat().st_size for file in whole.rglob("*.safetensors")]
    bound = 4 * (max(sizes) + HEADER_BYTES)
    assert len(sizes) > 8
    _, plain = watch()
    _, kept = watch(feature_cache=str(bounded), feature_cache_gb=bound / 1e9)
    assert kept.losses == plain.losses
    held = [file.stat().st_size for file in bounded.rglob("*.safetensors")]
    assert 3 <= len(held) < len(sizes) and sum(held) <= bound
    _, again = watch(feature_cache=str(bounded), feature_cache_gb=bound / 1e9)
    assert again.losses == plain.losses  # what is there counts
    assert sum(file.stat().st_size for file in bounded.rglob("*.safetensors")) <= bound


def test_a_full_disk_ends_the_keeping_and_not_the_run(watch, tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("multimodal.data.feature_cache.save_file", full)
    with pytest.warns(UserWarning, match="kept no more.*No space left"):
        _, kept = watch(feature_cache=str(tmp_path / "features"))
    assert len(kept.losses) == 8 and not list((tmp_path / "features").rglob("*.*"))


def test_a_cache_belongs_to_its_encoder_and_way_of_watching(video_parts, tmp_path):
    model = build_video(video_parts)
    before = FeatureCache.of(tmp_path, model).folder
    assert FeatureCache.of(tmp_path, build_video(video_parts)).folder == before
    more = build_video(replace(video_parts, num_frames=5))
    assert FeatureCache.of(tmp_path, more).folder != before
    with torch.no_grad():
        next(model.image_encoder.parameters()).add_(1)
    assert FeatureCache.of(tmp_path, model).folder != before


def test_features_of_an_encoder_that_trains_are_not_kept(video_parts):
    with pytest.raises(ValueError, match="feature_cache"):
        VideoAdapterTraining(
            parts=video_parts,
            optimizer=AdamWConfig(learning_rate=1e-2),
            schedule=ScheduleConfig(),
            train=("image_encoder.*",),
            feature_cache="somewhere",
        )


def test_resumed_is_uninterrupted(watch, tmp_path):
    _, whole = watch()
    watch(
        trainer={"limit_train_batches": 5, "max_epochs": 1},
        callbacks=[Checkpoints(every_n_steps=2)],
    )
    last = str(latest(tmp_path / "run"))
    _, rest = watch(callbacks=[Checkpoints(every_n_steps=2)], fit={"ckpt_path": last})
    assert 0 < len(rest.losses) < 8
    assert rest.losses == whole.losses[-len(rest.losses) :]


def test_controls_move_frames_and_clips(watch, video_parts):
    torch.manual_seed(0)
    model = build_video(video_parts)
    clips = clip_batch(some_rows()).clips
    features = model.frame_features(clips)
    known = replace(clips, features=features, known=torch.ones(3, dtype=torch.bool))
    others = exchanged_clips(known)
    parts = features.split(clips.tiles_per_clip.tolist())
    assert torch.equal(others.features, torch.cat([*parts[1:], parts[0]]))
    assert others.lengths.tolist() == [4, 3, 3] and clips.lengths.tolist() == [3, 4, 3]
    mixed = disordered(known, seed=1).features.split(clips.tiles_per_clip.tolist())
    for before, after in zip(parts, mixed, strict=True):
        assert torch.equal(before.flatten(1).sum(1).sort()[0], after.flatten(1).sum(1).sort()[0])
    assert not torch.equal(torch.cat(parts), torch.cat(mixed))


def test_work_without_clips_is_the_cores_forward(video_parts):
    config = build_video(video_parts).config
    batch = clip_batch(some_rows())
    with_clips = float(video_step_work(config, batch).flops)
    known = replace(batch.clips, known=torch.ones(3, dtype=torch.bool))
    cached = float(video_step_work(config, replace(batch, clips=known)).flops)
    without = float(video_step_work(config, replace(batch, clips=None)).flops)
    assert without < cached < with_clips


def test_work_with_sound_counts_what_is_heard():
    """Against torch's own count of the frozen speech parts' forward pass on equal recordings."""
    model = speaking_model().eval()
    recordings = Recordings(
        waveforms=torch.randn(2, 8000), lengths=torch.tensor([8000, 8000]), rows=torch.arange(2)
    )
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        with FlopCounterMode(display=False) as whole:
            model.hear(recordings)
        with FlopCounterMode(display=False) as front:  # spectra are no part of a model's work
            model.speech_encoder.features(recordings.waveforms, recordings.lengths)
    expected = float(hearing_flops(model, recordings, trained=()))
    counted = whole.get_total_flops() - front.get_total_flops()
    assert expected == pytest.approx(counted, rel=0.1)
    both = float(hearing_flops(model, recordings, trained=("speech_adapter", "speech_encoder")))
    assert both == pytest.approx(3 * expected, rel=0.05)
