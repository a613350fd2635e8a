"""Every YAML that ships parses, and builds the model that it should, without weights."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import LightningModule

from language.checkpoint import save_llama
from language.config import LLAMA_CONFIGS, LlamaConfig
from language.model import Llama
from multimodal.adapter_checkpoint import save_adapter
from multimodal.data.measured import MAX_PHONES
from multimodal.model import MultimodalLlama
from multimodal.training.command import TrainingCLI, run
from multimodal.training.config_files import CARRIED, config_names
from multimodal.training.frozen_core import choose_trainable
from multimodal.training.parts import build, config_of
from speech.encoder import build_encoder
from speech.prosody.model import ProsodyModel
from vision.checkpoint import save_encoder
from vision.encoder import ImageEncoder

pytestmark = pytest.mark.filterwarnings("ignore")
NAMES = config_names()
STAGES = ("contrastive", "pretrain", "anneal", "finetune")
VIDEO_SIZES = ("tiny", "8b", "70b")
SIZES = ("tiny", "8b", "70b", "405b")


class Parser(TrainingCLI):
    """Parses, and does nothing."""

    def instantiate_classes(self) -> None:
        pass

    def _run_subcommand(self, subcommand: str) -> None:
        pass


@cache
def parsed(name: str) -> Namespace:
    """A config with all its defaults."""
    return run(["fit", "--config", name], cli=Parser).config.fit


def training(name: str) -> LightningModule:
    """What a config trains, before anything is built."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model")
    return parser.instantiate(Namespace(model=parsed(name).model)).model


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def core_size(core: LlamaConfig) -> int:
    """Parameters of a core, from its table of sizes."""
    heads, kv_heads = core.num_heads * core.head_dim, core.num_kv_heads * core.head_dim
    block = 2 * core.dim * (heads + kv_heads) + 3 * core.dim * core.ffn_dim + 2 * core.dim
    tables = 1 if core.tied_embeddings else 2
    return tables * core.vocab_size * core.dim + core.num_layers * block + core.dim


def adapter_size(core: LlamaConfig, *, num_layers: int, feature_dim: int) -> int:
    """Parameters of an adapter that is as wide as its core."""
    heads, kv_heads = core.num_heads * core.head_dim, core.num_kv_heads * core.head_dim
    layer = 2 * core.dim * (heads + kv_heads) + 3 * core.dim * core.ffn_dim
    layer += 2 * core.dim + 2 * core.head_dim + 2
    return num_layers * layer + (feature_dim + 1) * core.dim


def test_all_stages_are_there_at_all_sizes():
    wanted = {f"image/{stage}-{size}" for stage in STAGES for size in SIZES}
    wanted |= {"image/finetune-llama-3.2-11b", "language/pretrain-tiny", "language/anneal-tiny"}
    assert wanted <= set(NAMES)


def test_speech_has_its_stages():
    wanted = {"pretrain-1b", "finetune-8b", "finetune-70b", "finetune-w2v-bert-8b"}
    wanted |= {"pretrain-w2v-bert", "pretrain-tiny", "warm-up-tiny", "finetune-tiny"}
    assert {f"speech/{name}" for name in wanted} <= set(NAMES)


@pytest.mark.parametrize(
    ("name", "steps", "rate"),
    [("finetune-8b", 650_000, 1e-4), ("finetune-70b", 600_000, 4e-5)],
)
def test_speech_is_fine_tuned_as_the_paper_says(name, steps, rate):
    config = parsed(f"speech/{name}")
    assert config.trainer.max_steps == steps
    module = training(f"speech/{name}")
    assert module.optimizer_config.learning_rate == rate
    with torch.device("meta"):
        model = MultimodalLlama(module.config)
        choose_trainable(model, module.patterns)
    assert count(model.speech_encoder) == pytest.approx(1.002e9, rel=3e-3)
    assert count(model.speech_adapter) == pytest.approx(1e8, rel=0.03)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == count(model.speech_encoder) + count(model.speech_adapter)


def test_speech_is_pre_trained_as_the_paper_says():
    config = parsed("speech/pretrain-1b")
    assert config.trainer.max_steps == 500_000
    module = training("speech/pretrain-1b")
    best_rq = module.best_rq
    assert (best_rq.num_codebooks, best_rq.codebook_size, best_rq.codebook_dim) == (16, 8192, 16)
    assert (best_rq.mask_probability, best_rq.mask_span) == (0.025, 32)
    with torch.device("meta"):
        assert count(build_encoder(module.encoder)) == pytest.approx(1.002e9, rel=3e-3)


def test_prosody_is_trained_as_the_paper_says():
    """Section 8.2: batch, rate, steps, warm-up, heads, size and the core's layer."""
    config = parsed("speech/prosody-8b")
    assert (config.trainer.max_steps, config.data.init_args.batch_size) == (1_000_000, 1024)
    module = training("speech/prosody-8b")
    assert module.optimizer_config.learning_rate == 9e-4
    schedule = config.model.init_args.schedule
    assert (schedule.shape, schedule.warmup_steps) == ("cosine", 3000)
    assert (module.config.num_heads, module.config.dim) == (6, 864)
    assert (module.core_layer, MAX_PHONES) == (16, 500)
    with torch.device("meta"):
        model = ProsodyModel(replace(module.config, core_dim=LLAMA_CONFIGS["3-8b"].dim))
    assert model.layers[0].core is not None


def test_video_has_its_stages():
    wanted = {f"video/{stage}-{size}" for stage in ("pretrain", "finetune") for size in VIDEO_SIZES}
    assert wanted | {"video/finetune-llama-3.2-11b"} <= set(NAMES)


@pytest.mark.parametrize("size", ["8b", "70b"])
def test_video_is_trained_as_the_paper_says(size):
    config = parsed(f"video/pretrain-{size}")
    batch = config.data.init_args.batch_size * config.trainer.accumulate_grad_batches
    assert batch == 4096 and config.model.init_args.max_tokens == 190
    first, last = training(f"video/pretrain-{size}"), training(f"video/finetune-{size}")
    assert first.optimizer_config.learning_rate == 1e-4
    for module, frames, group in ((first, 16, 16), (last, 64, 32)):
        assert module.config.clips.num_frames == frames
        assert module.config.video_aggregator.frames_per_group == group
        assert module.config.video_aggregator.num_positions == frames
    assert first.config.clips.max_num_tiles == 4
    with torch.device("meta"):
        model = MultimodalLlama(first.config)
        choose_trainable(model, first.patterns)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == count(model.video_aggregator) + count(model.video_adapter)
    assert trained == pytest.approx({"8b": 0.6e9, "70b": 4.6e9}[size], abs=5e7)


@pytest.mark.parametrize("name", NAMES)
def test_parses_and_knows_its_place(name):
    config = parsed(name)
    assert config.trainer.max_steps > 0
    assert config.trainer.gradient_clip_val == 1.0
    assert config.trainer.default_root_dir.startswith("runs/")
    assert config.data.init_args.train
    lines = (CARRIED / f"{name}.yaml").read_text().splitlines()
    assert len(lines) <= 60


def test_no_config_repeats_what_it_extends():
    """A value that a base has already is left out above it; tuned ones may happen to be equal."""

    def flat(settings, prefix=""):
        for key, value in settings.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    def bases(file):
        names = yaml.safe_load(file.read_text()).get("extends", [])
        for name in [names] if isinstance(names, str) else names:
            base = (file.parent / name).resolve()
            yield from bases(base)
            yield base

    for file in CARRIED.rglob("*.yaml"):
        if file.stem.endswith("-tiny"):
            continue
        inherited = {}
        for base in bases(file):
            inherited |= dict(flat(yaml.safe_load(base.read_text())))
        own = dict(flat(yaml.safe_load(file.read_text())))
        own.pop("extends", None)
        repeated = [key for key, value in own.items() if inherited.get(key, own) == value]
        assert not repeated, (file.name, repeated)


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("stage", STAGES[1:])
def test_builds_at_the_papers_sizes(stage, size):
    module = training(f"image/{stage}-{size}")
    config = config_of(module.parts)
    with torch.device("meta"):
        model = MultimodalLlama(config)
    choose_trainable(model, module.patterns)
    core = LLAMA_CONFIGS[f"3.1-{size}"]
    assert count(model.language) == core_size(core)
    assert not any(parameter.requires_grad for parameter in model.language.parameters())
    assert config.language.activation_checkpointing
    expected = adapter_size(core, num_layers=core.num_layers // 4, feature_dim=6 * 1280)
    assert count(model.image_adapter) == expected
    assert count(model.image_encoder) == pytest.approx(850e6, rel=0.05)
    tile = {"pretrain": 336, "anneal": 448, "finetune": 448}[stage]
    assert config.tiles.tile_size == config.image_encoder.image_size == tile
    assert config.tiles.max_num_tiles == 4


def test_the_papers_numbers():
    """Section 7.4: batch, rates, decay and images of the two pre-training stages."""
    pretrain, anneal = parsed("image/pretrain-8b"), parsed("image/anneal-8b")
    for config, images in ((pretrain, 6e9), (anneal, 5e8)):
        batch = config.data.init_args.batch_size * config.trainer.accumulate_grad_batches
        assert batch == 16_384
        assert batch * config.trainer.max_steps == pytest.approx(images, rel=0.01)
        assert config.model.init_args.optimizer.weight_decay == 0.01
        assert config.model.init_args.schedule.shape == "cosine"
    assert pretrain.model.init_args.optimizer.learning_rate == 1e-3
    assert anneal.model.init_args.optimizer.learning_rate == 2e-5
    assert parsed("image/finetune-8b").model.init_args.parts.core.endswith("-Instruct")


def test_the_released_model():
    module = training("image/finetune-llama-3.2-11b")
    config = config_of(module.parts)
    with torch.device("meta"):
        model = MultimodalLlama(config)
    choose_trainable(model, module.patterns)
    core = LLAMA_CONFIGS["3.1-8b"]
    assert count(model.language) == core_size(core)
    assert count(model.image_adapter) == adapter_size(core, num_layers=8, feature_dim=7680)
    assert config.image_adapter.positions == tuple(range(3, 32, 4))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == count(model) - count(model.language)


@pytest.mark.parametrize("size", SIZES[1:])
def test_contrastive_encoder_is_the_one_that_pretraining_takes(size):
    module = training(f"image/contrastive-{size}")
    with torch.device("meta"):
        encoder = ImageEncoder(module.image_encoder)
    wanted = config_of(training(f"image/pretrain-{size}").parts).image_encoder
    assert module.image_encoder.image_size == 224
    with torch.device("meta"):
        larger = ImageEncoder(wanted)
    shapes, others = (
        {(name, p.shape) for name, p in module.named_parameters()} for module in (encoder, larger)
    )
    different = {name for name, _ in shapes ^ others}
    assert different == {"position_embedding.table", "position_embedding.tile_table"}
    locals_ = sum(count(block) for block in encoder.local_blocks)
    assert locals_ == pytest.approx(630e6, rel=0.01)


def test_long_context_scales_rotary_positions():
    module = training("language/long-context-8b")
    with torch.device("meta"):
        assert count(Llama(module.core)) == core_size(LLAMA_CONFIGS["3.1-8b"])
    assert module.core.rope_scaling == LLAMA_CONFIGS["3.1-8b"].rope_scaling
    assert module.core.max_positions == 131_072


def test_tiny_stages_follow_one_another(tmp_path, monkeypatch):
    """Each stage starts from what the one before exports, with random weights in their places."""
    monkeypatch.chdir(tmp_path)
    core = training("language/anneal-tiny")
    assert core.core == training("language/pretrain-tiny").core
    model = Llama(core.core)
    model.reset_parameters()
    contrastive = training("image/contrastive-tiny")
    pretrain = training("image/pretrain-tiny")
    save_llama(model, Path(pretrain.parts.core))
    save_encoder(
        ImageEncoder(contrastive.image_encoder),
        Path(pretrain.parts.image_encoder),
        tiles=contrastive.tiles,
    )
    composed = build(pretrain.parts)
    assert count(composed) < 8e6
    for name in ("anneal", "finetune"):
        stage = training(f"image/{name}-tiny")
        save_adapter(composed, Path(stage.parts.start))
        composed = build(stage.parts)
        choose_trainable(composed, stage.patterns)
    assert stage.export_whole
