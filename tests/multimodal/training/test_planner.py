"""Plans against measured steps, the counts of the trainings themselves, and brute force."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.h100 import IMAGE, VARIANTS, sizes, some_rows
from multimodal.cli import main
from multimodal.config import MULTIMODAL_CONFIGS
from multimodal.model import MultimodalLlama
from multimodal.training.devices import DEVICES
from multimodal.training.flops import Trained, step_work
from multimodal.training.planner import (
    Layout,
    Sample,
    forecast,
    layouts,
    plan,
    workload,
)

ROOT = Path(__file__).resolve().parents[3]
RECORD = ROOT / "benchmarks" / "results" / "h100-2026-11-27.json"
MEASURED = {found["name"]: found for found in json.loads(RECORD.read_text())["variants"]}
CONFIGS = ROOT / "configs"


@pytest.mark.parametrize(
    "variant",
    [v for v in VARIANTS if v.compile and v.frozen_aware],  # a plan knows of no other
    ids=lambda variant: variant.name,
)
def test_measured_steps_take_as_long_as_planned(variant):
    """The constants are fitted to some of these; all must agree."""
    found = MEASURED[variant.name]
    sample = Sample() if variant.medium == "image" else Sample(tokens=200, targets=48)
    work = workload(sizes(variant, dry=False), variant.train, sample)
    assert work.needed.total * variant.rows * found["micro_batches"] / 1e12 == pytest.approx(
        found["teraflop_per_step"], rel=1e-3
    )
    layout = Layout(
        pipeline=1, tensor=1, data=1, rows=variant.rows, micro_batches=found["micro_batches"]
    )
    planned = forecast(work, layout, DEVICES["h100"])
    assert planned.seconds == pytest.approx(found["step_s"], rel=0.10)
    assert sum(planned.memory.values()) / 1e9 == pytest.approx(found["memory_gb"], rel=0.16)
    assert planned.mfu == pytest.approx(found["mfu"], rel=0.10)


@pytest.mark.parametrize("train", [IMAGE, IMAGE[:2], IMAGE[1:], IMAGE[1:2]])
def test_operations_are_those_that_the_training_counts(train):
    variant = replace(VARIANTS[0], train=train)
    config = sizes(variant, dry=True)
    batch = some_rows(config, variant, dry=True)
    names = {pattern.partition(".")[0] for pattern in train}
    trained = Trained(
        **{name: name in names for name in ("image_encoder", "image_adapter", "extra_embedding")}
    )
    counted = step_work(config, batch, trained=trained)
    work = workload(config, train, Sample())
    assert work.needed.total == pytest.approx(float(counted.flops) / len(batch.tokens), rel=1e-6)
    assert 0 < work.forward.total < work.needed.total
    with torch.device("meta"):
        model = MultimodalLlama(config)
    whole = sum(parameter.numel() for parameter in model.parameters())
    assert sum(work.frozen.values()) + sum(work.trained.values()) == whole


def test_layouts_divide_and_the_fastest_comes_first():
    work = workload(MULTIMODAL_CONFIGS["8b"], IMAGE, Sample())
    device = DEVICES["h100"]
    every = list(layouts(work, gpus=48, global_batch=192, device=device))
    assert len(every) == len(set(every)) > 20
    for layout in every:
        assert layout.pipeline * layout.tensor * layout.data == 48
        assert layout.data * layout.rows * layout.micro_batches == 192
        assert layout.micro_batches >= layout.pipeline
        assert work.config.language.num_kv_heads % layout.tensor == 0
    fits, others = plan(work, gpus=48, global_batch=192, device=device)
    assert len(fits) + len(others) == len(every)
    assert [f.seconds for f in fits] == sorted(f.seconds for f in fits)
    assert all(sum(f.memory.values()) <= 80e9 for f in fits)
    assert all(f.why_not for f in others)
    assert all(f.seconds == pytest.approx(sum(f.parts.values())) for f in fits)


def test_the_paper_s_sizes():
    """The adapter of 405B has about 100B parameters (section 7.2), and fits no single node."""
    config = MULTIMODAL_CONFIGS["405b"]
    core = replace(config.language, activation_checkpointing=True)
    encoder = replace(config.image_encoder, activation_checkpointing=True)
    config = replace(config, language=core, image_encoder=encoder)
    work = workload(config, ("image_adapter.*",), Sample())
    assert sum(work.trained.values()) == pytest.approx(100e9, rel=0.02)
    fits, others = plan(work, gpus=8, global_batch=256, device=DEVICES["h100"])
    assert not fits and others
    more = plan(work, gpus=512, global_batch=16_384, device=DEVICES["h100"])[0]
    whole = [f for f in more if f.layout.shards == 1]
    assert whole and all(f.layout.pipeline > 1 for f in whole)


def test_cutting_weights_over_data_ranks_saves_memory_and_costs_messages():
    work = workload(MULTIMODAL_CONFIGS["8b"], ("image_adapter.*",), Sample())
    whole, cut = (
        forecast(
            work,
            Layout(pipeline=1, tensor=1, data=8, rows=4, micro_batches=1, shards=shards),
            DEVICES["h100"],
        )
        for shards in (1, 8)
    )
    walk = 2 * work.frozen["walk"] + 10 * work.trained["walk"]
    spared = sum(whole.memory[kind] - cut.memory[kind] for kind in ("frozen", "trained"))
    assert spared == pytest.approx(walk * 7 / 8)
    assert 0 < cut.memory["together"] < spared
    assert cut.memory["moments"] == pytest.approx(whole.memory["moments"])
    assert whole.parts["shards"] == 0 < cut.parts["shards"]
    assert cut.parts["data"] < whole.parts["data"]


def test_the_command(capsys):
    config = str(CONFIGS / "image" / "pretrain-70b.yaml")
    words = ["plan", "--config", config, "--gpus", "512", "--global_batch", "16384"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "TFLOP a sample" in said and "imbalance" in said and "layouts do not fit" in said
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["layouts"][0]["why_not"] == "" and found["layouts"][-1]["why_not"]
    assert (
        main(["plan", "--config", str(CONFIGS / "speech" / "finetune-8b.yaml"), "--gpus", "8"]) == 0
    )
    assert "micro-batches" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["image/pretrain-8b.yaml", "--gpus", "0"], "--gpus: must be 1 or more"),
        (["image/pretrain-8b.yaml", "--gpus", "8", "--gpu", "abacus"], "none of h100"),
        (["image/pretrain-405b.yaml", "--gpus", "8"], "no layout of 8 GPUs fits; the nearest"),
        (["image/pretrain-8b.yaml", "--gpus", "11", "--global_batch", "9"], "divides 9 samples"),
        (["image/pretrain-8b.yaml", "--gpus", "8", "--global_batch", "-4"], "--global_batch: must"),
        (["speech/finetune-8b.yaml", "--gpus", "8", "--seconds", "0"], "--seconds: must be above"),
        (["image/contrastive-8b.yaml", "--gpus", "8"], "trains an encoder alone"),
        (["video/pretrain-8b.yaml", "--gpus", "8"], "not on clips"),
    ],
)
def test_what_cannot_be_planned_is_one_line(words, fault, capsys):
    config, *rest = words
    assert main(["plan", "--config", str(CONFIGS / config), *rest]) == 2
    said = capsys.readouterr().err.strip()
    assert fault in said and "\n" not in said
