"""The adapter's training: what is frozen stays, stages follow one another, masks hold."""

from dataclasses import replace

import pytest
import timm
import torch
from torch.utils.data import DataLoader

from language.checkpoint import load_llama
from language.errors import InputError
from language.optimization import AdamWConfig
from multimodal.adapter_checkpoint import load_adapter
from multimodal.assistant import load
from multimodal.batch import IGNORED
from multimodal.checkpoint import load_model
from multimodal.training.adapter import rolled
from multimodal.training.checkpoints import FILE, Checkpoints, latest
from multimodal.training.frozen_core import choose_trainable, describe
from multimodal.training.parts import FreshAdapter, ModelParts, build, config_of
from tests.multimodal.training.conftest import ENCODER
from tests.multimodal.training.fakes import TILE, Counting, Rows, picture_batch, text_batch
from vision.checkpoint import save_encoder
from vision.encoder import ImageEncoder
from vision.tiles import TilesConfig

pytestmark = pytest.mark.filterwarnings("ignore")


def some_rows(number=4):
    return [Rows(num_rows=number, length=12, seed=7)[i] for i in range(number)]


@pytest.mark.parametrize(
    "patterns",
    [
        ("image_encoder.*", "image_adapter.*", "extra_embedding.*"),
        ("image_adapter.layers.1.*",),
        ("image_encoder.global_blocks.*", "*_gate"),
    ],
)
def test_what_is_frozen_stays_bit_for_bit(adapt, core, parts, patterns):
    torch.manual_seed(0)
    before = dict(build(parts).named_parameters())
    bare, text = load_llama(core), torch.randint(40, (3, 12))
    module, _ = adapt(train=patterns)
    trained = {name for name, _ in module.trainable()}
    for name, parameter in module.model.named_parameters():
        same = torch.equal(parameter, before[name])
        assert same == (name not in trained), name
        assert (parameter.grad is None) or name in trained
    assert trained and not any(name.startswith("language.") for name in trained)
    optimizer = module.optimizers().optimizer
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for _, p in module.trainable()}
    with torch.no_grad():
        batch = text_batch([torch.cat([row, row[:1]]) for row in text])
        assert torch.equal(module.model.eval()(batch), bare(batch.tokens))


def test_frozen_parts_stay_in_eval_mode(adapt):
    module, _ = adapt(
        train=("image_adapter.*",), trainer={"limit_val_batches": 1, "val_check_interval": 2}
    )
    assert not any(part.training for part in module.model.language.modules())
    assert not any(part.training for part in module.model.image_encoder.modules())
    assert module.model.image_adapter.training


@pytest.fixture
def seeing(parts, adapt):
    """Trained until it knows four pictures by heart, on which all that its rows say depends."""
    adapter = FreshAdapter(positions=(1, 4), gate_init=0.5)
    return adapt(
        parts=replace(parts, adapter=adapter),
        data=Counting(pictures=True, num_rows=4),
        optimizer=AdamWConfig(learning_rate=2e-2),
        trainer={"max_steps": 60},
    )


def test_learns_from_pictures(seeing):
    """The loss falls, and more with the true pictures than with exchanged ones or none."""
    module, recorder = seeing
    assert recorder.losses[-1] < 0.5 * recorder.losses[0]
    rows = Rows(num_rows=4, length=12, seed=1)
    with torch.no_grad():
        found = module.validation_losses(picture_batch([rows[i] for i in range(4)]))
    losses = {name: float(total / count) for name, (total, count) in found.items()}
    assert set(losses) == {"loss", "loss_shuffled", "loss_without"}
    assert losses["loss"] < losses["loss_shuffled"] < losses["loss_without"]


def test_same_seed_same_losses(adapt):
    assert adapt()[1].losses == adapt()[1].losses


def test_accumulation_gives_the_gradient_of_the_big_batch(adapt):
    """Rows without a picture and unequal numbers of targets among them."""
    whole = adapt(data=Counting(pictures=True, batch_size=8), trainer={"max_steps": 3})[1]

    class Split(Counting):
        def train_dataloader(self):
            rows = Rows(num_rows=64, length=12, seed=1)
            batches = [picture_batch([rows[i] for i in range(s, s + 8)]) for s in range(0, 64, 8)]
            return DataLoader([part for b in batches for part in halves(b)], batch_size=None)

    parted = adapt(data=Split(), trainer={"max_steps": 3, "accumulate_grad_batches": 2})[1]
    assert parted.losses == pytest.approx(whole.losses, rel=1e-4)
    assert parted.norms == pytest.approx(whole.norms, rel=1e-4)


def halves(batch):
    """Rows 0 to 3 and rows 4 to 7; the last shows no picture."""
    counts = batch.images.arrangements.prod(dim=1).tolist()
    cut = sum(counts[:4])
    for rows, tiles, images in (
        (slice(0, 4), slice(0, cut), slice(0, 4)),
        (slice(4, 8), slice(cut, None), slice(4, 7)),
    ):
        yield replace(
            batch,
            tokens=batch.tokens[rows],
            lengths=batch.lengths[rows],
            targets=batch.targets[rows],
            visible=batch.visible[rows],
            images=replace(
                batch.images,
                tiles=batch.images.tiles[tiles],
                arrangements=batch.images.arrangements[images],
                rows=batch.images.rows[images] - rows.start,
            ),
        )


def test_tokens_that_see_no_picture_give_no_gradient(adapt):
    """Loss on such tokens alone: in rows without a picture, and before the picture."""
    module, _ = adapt(trainer={"max_steps": 1})
    batch = picture_batch(some_rows())
    sees = batch.visible.any(dim=-1)
    blind = replace(batch, targets=torch.where(sees, IGNORED, batch.tokens))
    module.zero_grad()
    module.loss(blind)[0].backward()
    for name, parameter in module.model.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name
    module.loss(replace(batch, targets=torch.where(sees, batch.tokens, IGNORED)))[0].backward()
    assert all(p.grad.any() for n, p in module.trainable() if n.startswith("image_adapter"))


def test_a_batch_of_text_trains_nothing_but_takes_part(adapt):
    """A rank whose batch has no picture must have gradients for all the others to add to."""
    module, _ = adapt(trainer={"max_steps": 1})
    module.zero_grad()
    total, count = module.loss(text_batch(some_rows()))
    total.backward()
    assert count > 0
    assert all(p.grad is not None and not p.grad.any() for _, p in module.trainable())


def test_loss_is_that_of_all_logits(adapt):
    """Logits are computed where there are targets; nothing else may change."""
    module, _ = adapt(trainer={"max_steps": 1})
    batch = picture_batch(some_rows())
    with torch.no_grad():
        total, count = module.loss(batch)
        logits = module.model(batch).flatten(0, 1)
        expected = torch.nn.functional.cross_entropy(
            logits, batch.targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
    torch.testing.assert_close(total, expected)
    assert count == batch.num_targets


def test_rolled_gives_each_place_the_next_picture():
    images = picture_batch(some_rows()).images
    moved = rolled(images)
    assert moved.arrangements.tolist() == [[1, 2], [1, 1], [1, 1]]
    colours = [float(tile.mean()) for tile in images.tiles]
    assert [float(tile.mean()) for tile in moved.tiles] == pytest.approx([*colours[1:], colours[0]])


@pytest.mark.parametrize(
    "patterns, fault",
    [
        (("image_encoder.*", "image_adaptor.*"), "'image_adaptor.*' matches no parameter"),
        (("*",), "core is frozen"),
        (("language.norm.weight",), "core is frozen"),
        ((), "nothing would train"),
    ],
)
def test_wrong_patterns_are_refused(parts, patterns, fault):
    with pytest.raises(InputError, match=fault.replace("*", r"\*")):
        choose_trainable(build(parts), patterns)


def test_the_table_says_how_much_trains(parts):
    model = build(replace(parts, core_dtype="bfloat16"))
    choose_trainable(model, ("image_adapter.projection.*",))
    table = {line.split()[0]: line.split()[1:] for line in describe(model).splitlines()}
    size = sum(p.numel() for p in model.image_adapter.parameters())
    projection = 32 * 32 + 32
    assert table["image_adapter"] == [f"{size:,}", f"{projection:,}", "float32"]
    assert table["language"][1:] == ["frozen", "bfloat16"]


def test_states_hold_what_trains_alone(adapt, tmp_path):
    module, _ = adapt(train=("image_adapter.*",), callbacks=[Checkpoints()])
    state = torch.load(latest(tmp_path / "run") / FILE, weights_only=True)
    assert set(state["state_dict"]) == {f"model.{name}" for name, _ in module.trainable()}
    with pytest.raises(InputError, match="another run: this one trains model.extra_embedding"):
        adapt(fit={"ckpt_path": str(latest(tmp_path / "run"))})


def test_stages_follow_one_another(adapt, core, sibling, tmp_path):
    """Pre-training, annealing with larger tiles, fine-tuning beside the core's sibling."""
    first, _ = adapt()
    first.export(tmp_path / "pretrain")
    again = load_adapter(tmp_path / "pretrain", load_llama(core))
    batch = picture_batch(some_rows())
    with torch.no_grad():
        assert torch.equal(again(batch), first.model.eval()(batch))

    annealing = ModelParts(core=core, start=str(tmp_path / "pretrain"), tile_size=24)
    model = build(annealing)
    assert model.config.image_encoder.image_size == model.config.tiles.tile_size == 24
    assert config_of(annealing) == model.config
    table = model.image_encoder.position_embedding.table
    assert table.shape[0] == 1 + 3 * 3
    assert torch.equal(table[0], first.model.image_encoder.position_embedding.table[0])
    assert torch.equal(model.image_adapter.projection.weight, again.image_adapter.projection.weight)

    swapped = ModelParts(core=sibling, start=str(tmp_path / "pretrain"))
    with pytest.raises(InputError, match="belongs to the core core, and this one is another"):
        build(swapped)
    tuned, _ = adapt(
        parts=replace(swapped, other_core=True),
        export_whole=True,
        optimizer=AdamWConfig(learning_rate=1e-3),
    )
    tuned.export(tmp_path / "whole")
    whole = load_model(tmp_path / "whole")
    for name, parameter in load_llama(sibling).named_parameters():
        assert torch.equal(parameter, whole.language.get_parameter(name))
    with torch.no_grad():
        assert torch.equal(whole(batch), tuned.model.eval()(batch))
    assert load(tmp_path / "whole").processor.config == tuned.config


def test_a_new_adapter_cuts_as_many_tiles_as_its_encoder_takes(core, tmp_path):
    """Also where the encoder's own training saw one tile a picture."""
    encoder = ImageEncoder(ENCODER)
    save_encoder(encoder, tmp_path, tiles=TilesConfig(tile_size=TILE, max_num_tiles=1))
    model = build(ModelParts(core=core, image_encoder=str(tmp_path)))
    assert model.config.tiles.max_num_tiles == ENCODER.max_num_tiles == 4


def test_a_whole_model_goes_on(model_directory):
    """As Llama 3.2 Vision is fine-tuned: everything from one directory."""
    model = build(ModelParts(start=str(model_directory)))
    for name, parameter in load_model(model_directory).named_parameters():
        assert torch.equal(parameter, model.get_parameter(name))


def test_a_fresh_adapter_is_the_core_itself(core, encoder):
    batch = picture_batch(some_rows())
    model = build(ModelParts(core=core, image_encoder=encoder))
    assert model.config.image_adapter.positions == (4,)
    with torch.no_grad():
        assert torch.equal(model(batch), load_llama(core)(batch.tokens))


def test_public_encoders_and_presets(core, tmp_path):
    name = "vit_tiny_patch16_224"
    source = timm.create_model(name, num_classes=0)
    torch.save(source.state_dict(), tmp_path / "vit.pth")
    public = f"timm:{name}:{tmp_path / 'vit.pth'}"
    parts = ModelParts(
        core=core, image_encoder=public, intermediate_layers=(2, 5), num_global_layers=1
    )
    model = build(replace(parts, tile_size=32))
    assert model.image_adapter.projection.in_features == 3 * 192
    assert len(model.image_encoder.global_blocks) == 1
    assert model.config.tiles.mean == tuple(source.pretrained_cfg["mean"])
    first = source.blocks[0].mlp.fc1.weight
    assert torch.equal(model.image_encoder.local_blocks[0].feed_forward.up.weight, first)
    assert build(replace(parts, image_encoder="tiny")).config.tiles.tile_size == 64
    for wrong in ("runs/nowhere", "timm:no_such_vit", f"timm:{name}:nowhere.pth"):
        with pytest.raises(InputError, match=wrong):
            build(replace(parts, image_encoder=wrong))


@pytest.mark.parametrize(
    "settings, fault",
    [
        ({}, "give the directory of the core"),
        ({"core": "a"}, "image_encoder for a new adapter"),
        ({"core": "a", "image_encoder": "b", "start": "c"}, "or start to go on"),
        ({"core": "a", "start": "c", "sizes": "9b"}, "'9b' is none of 8b"),
    ],
)
def test_parts_that_do_not_go_together(settings, fault):
    with pytest.raises(ValueError, match=fault):
        ModelParts(**settings)


def test_directories_of_other_sizes_are_refused(parts):
    with pytest.raises(
        InputError, match="core.vocab_size is 271, model.parts.sizes .8b. wants 128256"
    ):
        build(replace(parts, sizes="8b"))


def test_tile_sizes_must_hold_whole_patches(parts):
    with pytest.raises(InputError, match="tile_size: .*multiple of patch_size"):
        build(replace(parts, tile_size=20))


def test_adapters_start_as_told(core, encoder):
    told = FreshAdapter(positions=(0, 2, 4), gate_init=0.2, query_norm_init=3.0, extra_tokens=2)
    model = build(ModelParts(core=core, image_encoder=encoder, adapter=told))
    assert len(model.image_adapter.layers) == 3
    for layer in model.image_adapter.layers:
        assert layer.attention_gate.item() == pytest.approx(0.2)
        assert layer.attention.query_norm.weight.eq(3).all()
    assert model.extra_embedding.weight.shape == (2, 32)
