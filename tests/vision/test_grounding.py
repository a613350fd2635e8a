"""Labels of patches against a count of pixels, and a training on them."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from language.optimization import AdamWConfig, ScheduleConfig
from vision.encoder import ImageEncoder, ImageEncoderConfig
from vision.grounding import (
    IGNORED,
    GroundedPictures,
    GroundingModel,
    GroundingPretraining,
    Region,
    patch_labels,
)
from vision.tiles import TilesConfig, fitted_size

ATTRIBUTES = {"kind": ["dog", "cat"], "colour": ["red", "blue"]}


@pytest.mark.parametrize("arrangement", [(1, 1), (1, 2), (2, 2)])
def test_labels_are_what_covers_the_patch(arrangement):
    tiles = TilesConfig(tile_size=24, max_num_tiles=4)
    size = (24 * arrangement[0], 24 * arrangement[1])
    regions = [
        Region(box=(0.05, 0.1, 0.45, 0.6), labels={"kind": "dog", "colour": "blue"}),
        Region(box=(0.55, 0.3, 0.95, 0.9), labels={"kind": "cat"}),
    ]
    labels = patch_labels(
        regions, ATTRIBUTES, size=size, arrangement=arrangement, tiles=tiles, patch_size=6
    )
    height, width = fitted_size(*size, tile_size=24, arrangement=arrangement)
    owner = np.zeros((10 * height, 10 * width), dtype=int)  # ten samples a pixel
    for number, region in enumerate(regions, start=1):
        left, top, right, bottom = region.box
        y = (np.arange(owner.shape[0]) + 0.5) / owner.shape[0]
        x = (np.arange(owner.shape[1]) + 0.5) / owner.shape[1]
        owner[np.ix_((y > top) & (y < bottom), (x > left) & (x < right))] = number
    wanted = {0: (0, IGNORED, IGNORED), 1: (1, 0, 1), 2: (1, 1, IGNORED)}
    asked = 0
    for tile in range(arrangement[0] * arrangement[1]):
        for patch in range(16):
            row = tile // arrangement[1] * 4 + patch // 4
            column = tile % arrangement[1] * 4 + patch % 4
            part = owner[60 * row : 60 * row + 60, 60 * column : 60 * column + 60]
            shares = [(part == number).mean() for number in (0, 1, 2)]
            if max(shares[1:]) > 0.4 or shares[0] > 0.95:
                answer = 0 if shares[0] > 0.95 else int(np.argmax(shares[1:])) + 1
                assert tuple(labels[tile, patch]) == wanted[answer]
                asked += 1
    assert asked > 10


def test_an_unknown_value_is_refused():
    with pytest.raises(ValueError, match="green"):
        patch_labels(
            [Region(box=(0, 0, 0.5, 0.5), labels={"colour": "green"})],
            ATTRIBUTES,
            size=(24, 24),
            arrangement=(1, 1),
            tiles=TilesConfig(tile_size=24),
            patch_size=6,
        )


def test_the_encoder_learns_where_the_bright_half_is():
    torch.manual_seed(0)
    config = ImageEncoderConfig(
        image_size=16, patch_size=4, dim=16, num_layers=1, num_heads=2, ffn_dim=32, max_num_tiles=1
    )
    model = GroundingModel(ImageEncoder(config), {"kind": ["left", "right"]})
    tiles = torch.randn(8, 3, 16, 16) * 0.1
    labels = torch.zeros(8, 16, 2, dtype=torch.int64)
    labels[..., 1] = IGNORED
    for index in range(8):
        right = index % 2
        tiles[index, :, :, 8 * right : 8 * right + 8] += 2
        columns = torch.arange(16) % 4 // 2 == right
        labels[index, columns, 0] = 1
        labels[index, columns, 1] = right
    batch = GroundedPictures(
        tiles=tiles, arrangements=torch.ones(8, 2, dtype=torch.int64), labels=labels
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = sum(
            torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), labels[..., index].flatten(), ignore_index=IGNORED
            )
            for index, logits in enumerate(model(batch))
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for index, logits in enumerate(model(batch)):
        asked = labels[..., index] != IGNORED
        assert (logits.argmax(-1) == labels[..., index])[asked].float().mean() > 0.95


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_held_out_shares_are_of_all_patches_that_are_asked(stage, tmp_path):
    torch.manual_seed(0)
    module = GroundingPretraining(
        image_encoder=ImageEncoderConfig(
            image_size=8, patch_size=4, dim=8, num_layers=1, num_heads=2, ffn_dim=8, max_num_tiles=1
        ),
        tiles=TilesConfig(tile_size=8, max_num_tiles=1),
        attributes={"kind": ["left", "right"]},
        optimizer=AdamWConfig(learning_rate=1e-2),
        schedule=ScheduleConfig(),
    )
    batches = [
        GroundedPictures(
            tiles=torch.randn(number, 3, 8, 8),
            arrangements=torch.ones(number, 2, dtype=torch.int64),
            labels=torch.randint(0, 2, (number, 4, 2)),
        )
        for number in (3, 5)
    ]
    batches[0].labels[0, 0] = IGNORED
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    getattr(trainer, stage)(module, DataLoader(batches, batch_size=None), verbose=False)
    right = [0, 0]
    for batch in batches:
        for index, logits in enumerate(module.model(batch)):
            right[index] += int((logits.argmax(-1) == batch.labels[..., index]).sum())
    shares = trainer.callback_metrics
    prefix = {"validate": "val", "test": "test"}[stage]
    assert shares[f"{prefix}/shown"] == pytest.approx(right[0] / 31)
    assert shares[f"{prefix}/kind"] == pytest.approx(right[1] / 31)
