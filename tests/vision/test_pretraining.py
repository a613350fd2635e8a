"""Contrastive pre-training: its loss by brute force, over ranks, and whether it learns to bind."""

import itertools
import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule, Trainer
from open_clip.loss import ClipLoss, SigLipLoss
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from language.config import LlamaConfig
from language.errors import InputError
from language.optimization import AdamWConfig, ScheduleConfig
from vision.checkpoint import load_encoder, save_encoder
from vision.contrastive import (
    CaptionedPictures,
    ContrastiveConfig,
    ContrastiveModel,
    Embedded,
    caption_keys,
    sigmoid_loss,
    softmax_loss,
)
from vision.encoder import ImageEncoder, ImageEncoderConfig
from vision.flops import encoder_flops
from vision.pretraining import ContrastivePretraining, retrieval
from vision.tiles import Tiles, TilesConfig

ENCODER = ImageEncoderConfig(
    image_size=16,
    patch_size=8,
    dim=32,
    num_layers=2,
    num_heads=2,
    ffn_dim=64,
    num_global_layers=1,
    class_token=True,
    tile_positions=False,
)
TEXT = LlamaConfig(
    vocab_size=32, dim=32, num_layers=2, num_heads=2, num_kv_heads=1, ffn_dim=64, max_positions=32
)


def contrastive(**changes: Any) -> ContrastiveConfig:
    return ContrastiveConfig(text=TEXT, embedding_dim=16, **changes)


def a_batch(*, pictures: int = 4, num_negatives: int = 2, seed: int = 0) -> CaptionedPictures:
    """Random pictures of one or two tiles; some captions are the same, some negatives absent."""
    generator = torch.Generator().manual_seed(seed)
    tiles, captions = [], []
    for picture in range(pictures):
        shape = (1, 2) if picture % 2 else (1, 1)
        pixels = torch.randn(math.prod(shape), 3, 16, 16, generator=generator)
        tiles.append(Tiles(pixels=pixels, arrangement=shape))
        own = [1, 2 + picture // 2 * 2]  # pictures 0 and 1 share a caption
        wrong = [[1, 4], [1, 9, picture]][: num_negatives - picture % 2]
        captions.append([own, *wrong])
    return CaptionedPictures.of(tiles, captions, num_negatives=num_negatives)


def unit(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def test_keys_are_equal_exactly_where_captions_are() -> None:
    captions = [list(c) for n in range(1, 5) for c in itertools.product(range(3), repeat=n)]
    captions += captions[::7]
    lengths = torch.tensor([len(caption) for caption in captions])
    tokens = torch.randint(0, 32, (len(captions), 6))  # what stands after the end is no matter
    for row, caption in zip(tokens, captions, strict=True):
        row[: len(caption)] = torch.tensor(caption)
    keys = caption_keys(tokens, lengths).tolist()
    for (i, one), (j, other) in itertools.combinations(enumerate(captions), 2):
        assert (keys[i] == keys[j]) == (one == other)
    assert caption_keys(tokens[:1], torch.tensor([0])) == 0


def test_losses_are_open_clips_without_twins_and_negatives() -> None:
    images, texts = unit(5, 8, seed=0), unit(5, 1, 8, seed=1)
    embedded = Embedded(images=images, texts=texts, keys=torch.arange(1, 6)[:, None])
    scale, bias = torch.tensor(9.0), torch.tensor(-3.0)
    expected = ClipLoss()(images, texts[:, 0], scale)
    torch.testing.assert_close(softmax_loss(embedded, scale, loss=ClipLoss()), expected)
    expected = SigLipLoss()(images, texts[:, 0], scale, bias)
    torch.testing.assert_close(sigmoid_loss(embedded, scale, bias, loss=SigLipLoss()), expected)


def test_losses_with_twins_and_negatives_by_brute_force() -> None:
    images, texts = unit(4, 8, seed=0), unit(4, 3, 8, seed=1)
    # pictures 0 and 3 share a caption; a negative of 1 is the caption of 2; one of 3 is absent
    keys = torch.tensor([[5, 7, 8], [6, 9, 10], [9, 11, 12], [5, 13, 0]])
    embedded = Embedded(images=images, texts=texts, keys=keys)
    scale, bias = 7.0, -2.0
    candidates = [(i, c) for i in range(4) for c in range(3) if c == 0 or keys[i, c] != 0]
    loss = 0.0
    for i in range(4):
        of_image = [
            math.exp(scale * float(images[i] @ texts[j, c]))
            for j, c in candidates
            if (j, c) == (i, 0) or keys[j, c] != keys[i, 0]
        ]
        of_text = [
            math.exp(scale * float(images[j] @ texts[i, 0]))
            for j in range(4)
            if j == i or keys[j, 0] != keys[i, 0]
        ]
        right = math.exp(scale * float(images[i] @ texts[i, 0]))
        loss -= (math.log(right / sum(of_image)) + math.log(right / sum(of_text))) / 2 / 4
    found = softmax_loss(embedded, torch.tensor(scale), loss=ClipLoss())
    assert float(found) == pytest.approx(loss)

    loss = 0.0
    for i, j, c in itertools.product(range(4), range(4), range(3)):
        if c == 0 or (i == j and keys[j, c] != 0):
            sign = 1 if (i, 0) == (j, c) else -1
            logit = scale * float(images[i] @ texts[j, c]) + bias
            loss += math.log1p(math.exp(-sign * logit)) / 4
    found = sigmoid_loss(embedded, torch.tensor(scale), torch.tensor(bias), loss=SigLipLoss())
    assert float(found) == pytest.approx(loss)


def rank_main(directory: str) -> None:
    """What one of several processes does: its share of the batch, with the gradients' mean."""
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    for kind in ("softmax", "sigmoid"):
        loss, gradients = loss_and_gradients(kind, rank=rank, world_size=world_size)
        for value in (loss, *gradients.values()):
            torch.distributed.all_reduce(value)
            value /= world_size
        if rank == 0:
            torch.save((loss, gradients), Path(directory, kind))
    torch.distributed.destroy_process_group()


def loss_and_gradients(
    kind: str, *, rank: int = 0, world_size: int = 1
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = ContrastiveModel(ImageEncoder(ENCODER), config=contrastive(loss=kind))
    whole = a_batch(pictures=8)
    share = 8 // world_size
    mine = slice(rank * share, (rank + 1) * share)
    counts = whole.arrangements.prod(1)
    tiles = torch.cat(whole.tiles.split(counts.tolist())[mine])
    batch = CaptionedPictures(
        tiles=tiles,
        arrangements=whole.arrangements[mine],
        tokens=whole.tokens[mine],
        lengths=whole.lengths[mine],
    )
    loss = model.loss(model(batch), rank=rank, world_size=world_size)
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def test_ranks_together_give_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    root = str(Path(__file__).parents[2])
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path)],
            env=os.environ | shared | {"RANK": str(rank), "PYTHONPATH": root},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    for kind in ("softmax", "sigmoid"):
        loss, gradients = torch.load(tmp_path / kind)
        expected_loss, expected = loss_and_gradients(kind)
        torch.testing.assert_close(loss, expected_loss)
        assert gradients.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[name], gradient, atol=1e-6, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["mean", "class"])
def test_embeddings_do_not_depend_on_neighbours_or_padding(pooling: str) -> None:
    torch.manual_seed(0)
    model = ContrastiveModel(ImageEncoder(ENCODER), config=contrastive(pooling=pooling)).eval()
    batch = a_batch()
    together = model(batch)
    tiles = batch.tiles.split(batch.arrangements.prod(1).tolist())
    for picture, own in enumerate(tiles):
        alone = model.embed_images(own, batch.arrangements[picture, None])[0]
        torch.testing.assert_close(together.images[picture], alone, atol=1e-6, rtol=1e-5)
        for place in range(3):
            length = int(batch.lengths[picture, place])
            found = together.texts[picture, place]
            if length == 0:
                assert not found.any()
                continue
            caption = batch.tokens[picture, place, None, :length]
            text = model.embed_texts(caption, torch.tensor([length]))[0]
            torch.testing.assert_close(found, text, atol=1e-6, rtol=1e-5)
    assert together.images.norm(dim=-1).allclose(torch.ones(4))


def test_retrieval_by_brute_force() -> None:
    images, texts = unit(9, 4, seed=2), unit(9, 2, 4, seed=3)
    keys = torch.tensor([[1, 9], [2, 9], [1, 0], [3, 9], [4, 9], [5, 9], [3, 9], [6, 9], [7, 9]])
    found = retrieval(Embedded(images=images, texts=texts, keys=keys), chunk=4)
    to_text = to_image = over = 0
    for i in range(9):
        best = max(range(9), key=lambda j: float(images[i] @ texts[j, 0]))
        to_text += int(keys[best, 0] == keys[i, 0])
        best = max(range(9), key=lambda j: float(images[j] @ texts[i, 0]))
        to_image += int(keys[best, 0] == keys[i, 0])
        own, negative = (float(images[i] @ texts[i, c]) for c in range(2))
        over += int(own > negative or keys[i, 1] == 0)
    assert 0 < to_text < 9 and 0 < over < 9
    assert found["image_to_text"] == pytest.approx(to_text / 9)
    assert found["text_to_image"] == pytest.approx(to_image / 9)
    assert found["own_over_negatives"] == pytest.approx(over / 9)


COLOURS = torch.tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])


def two_halves(seed: int) -> CaptionedPictures:
    """A colour on the left, another on the right; the negative says them the wrong way round."""
    generator = torch.Generator().manual_seed(seed)
    pictures, captions = [], []
    for left, right in itertools.permutations(range(4), 2):
        pixels = 0.3 * torch.randn(1, 3, 16, 16, generator=generator)
        pixels[..., :8] += COLOURS[left].view(3, 1, 1)
        pixels[..., 8:] += COLOURS[right].view(3, 1, 1)
        pictures.append(Tiles(pixels=pixels, arrangement=(1, 1)))
        captions.append([[10 + left, 20, 10 + right], [10 + right, 20, 10 + left]])
    return CaptionedPictures.of(pictures, captions, num_negatives=1)


def module(directory: Path | None = None, **changes: Any) -> ContrastivePretraining:
    return ContrastivePretraining(
        image_encoder=ENCODER,
        tiles=TilesConfig(tile_size=16, mean=(0.5, 0.5, 0.5)),
        contrastive=contrastive(**changes),
        optimizer=AdamWConfig(learning_rate=3e-3),
        schedule=ScheduleConfig(warmup_steps=5),
        start=None if directory is None else str(directory),
    )


def loader(*batches: CaptionedPictures) -> DataLoader:
    return DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]


def trainer(steps: int) -> Trainer:
    return Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=1,
        num_sanity_val_steps=0,
    )


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_it_learns_which_colour_is_where_and_is_exported(loss: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    training, run = module(loss=loss), trainer(120)
    batches = [two_halves(seed) for seed in range(120)]
    held_out = loader(two_halves(1000))
    run.validate(training, held_out, verbose=False)
    assert run.callback_metrics["val/image_to_text"] < 0.5
    run.fit(training, loader(*batches), held_out)
    run.validate(training, held_out, verbose=False)
    for name in ("image_to_text", "text_to_image", "own_over_negatives"):
        assert run.callback_metrics[f"val/{name}"] == 1, name

    training.export(tmp_path / "encoder")
    encoder, tiles = load_encoder(tmp_path / "encoder")
    assert tiles == training.tiles and not encoder.training
    batch = two_halves(0)
    expected = training.model.image_encoder.eval()(batch.tiles, batch.arrangements)
    assert torch.equal(encoder(batch.tiles, batch.arrangements), expected)
    again = module(tmp_path / "encoder")
    again.configure_model()
    theirs = training.model.image_encoder.state_dict()
    for name, tensor in again.model.image_encoder.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def test_scale_of_logits_is_kept_within_its_bound() -> None:
    training = module(max_logit_scale=14.0)
    trainer(1).fit(training, loader(two_halves(0)))
    assert training.model.logit_scale.exp().item() == pytest.approx(14.0)


def test_step_loss_is_the_mean_of_the_micro_batches() -> None:
    torch.manual_seed(0)
    training = module()
    training.configure_model()
    batches = [two_halves(seed) for seed in range(2)]
    with torch.no_grad():
        losses = [training.model.loss(training.model(b), rank=0, world_size=1) for b in batches]
    run = trainer(1)
    run.accumulate_grad_batches = 2
    run.fit(training, loader(*batches))
    torch.testing.assert_close(training.step_loss, torch.stack(losses).mean())


def test_a_yaml_can_say_everything() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model")
    given = {
        "class_path": "vision.pretraining.ContrastivePretraining",
        "init_args": {
            "image_encoder": {
                "image_size": 16,
                "patch_size": 8,
                "dim": 32,
                "num_layers": 2,
                "num_heads": 2,
                "ffn_dim": 64,
                "intermediate_layers": [0],
            },
            "tiles": {"tile_size": 16},
            "contrastive": {
                "embedding_dim": 16,
                "loss": "sigmoid",
                "text": {
                    "vocab_size": 32,
                    "dim": 32,
                    "num_layers": 1,
                    "num_heads": 2,
                    "num_kv_heads": 1,
                    "ffn_dim": 64,
                },
            },
            "optimizer": {"learning_rate": 0.001},
            "schedule": {"warmup_steps": 3},
        },
    }
    made = parser.instantiate_classes(parser.parse_object({"model": given})).model
    assert made.image_encoder.intermediate_layers == (0,)
    assert made.contrastive.loss == "sigmoid" and made.schedule.warmup_steps == 3


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="class_token"):
        encoder = ImageEncoder(ImageEncoderConfig(**(vars(ENCODER) | {"class_token": False})))
        ContrastiveModel(encoder, config=contrastive(pooling="class"))
    with pytest.raises(ValueError, match="contrastive.loss"):
        contrastive(loss="hinge")
    other = ImageEncoder(ImageEncoderConfig(**(vars(ENCODER) | {"activation": "quick_gelu"})))
    save_encoder(other, tmp_path / "other", tiles=TilesConfig(tile_size=16))
    with pytest.raises(InputError, match="differs from the config in activation"):
        module(tmp_path / "other").configure_model()
    (tmp_path / "other" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no image encoder"):
        load_encoder(tmp_path / "other")


@pytest.mark.parametrize("local_attention", ["tile", "image"])
@pytest.mark.parametrize("mode", ["packed", "released"])
def test_operations_are_those_that_torch_counts(mode: str, local_attention: str) -> None:
    changes = {"mode": mode, "local_attention": local_attention, "num_global_layers": 2}
    config = ImageEncoderConfig(**(vars(ENCODER) | changes))
    encoder = ImageEncoder(config)
    pictures = torch.tensor([[1, 1], [2, 2], [1, 1], [1, 3]])
    tiles = torch.randn(9, 3, 16, 16)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        encoder(tiles, pictures)
    counted, said = counter.get_total_flops(), encoder_flops(config, pictures, trained=False)
    assert float(said) == counted
    assert encoder_flops(config, pictures, trained=True) == 3 * said


if __name__ == "__main__":
    rank_main(sys.argv[1])
