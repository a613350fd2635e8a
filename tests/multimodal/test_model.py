"""The composition: the bare core's logits to the bit, pictures that stay apart, cached decoding."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from multimodal.batch import Batch, Images
from multimodal.config import MULTIMODAL_CONFIGS, MultimodalConfig
from multimodal.model import MultimodalLlama
from multimodal.session import MultimodalSession

MakeBatch = Callable[..., Batch]
MIXED = [[(2, (1, 1))], [], [(0, (1, 2)), (5, (2, 2)), (6, (1, 1))]]


def row_of(batch: Batch, row: int) -> Batch:
    """One row of a batch, alone."""
    assert batch.images is not None and batch.visible is not None
    keep = batch.images.rows == row
    if not keep.any():
        return Batch(tokens=batch.tokens[row : row + 1], lengths=batch.lengths[row : row + 1])
    images = Images(
        tiles=batch.images.tiles[keep[batch.images.of_tiles]],
        arrangements=batch.images.arrangements[keep],
        rows=torch.zeros(int(keep.sum()), dtype=torch.long),
    )
    return Batch(
        tokens=batch.tokens[row : row + 1],
        lengths=batch.lengths[row : row + 1],
        images=images,
        visible=batch.visible[row : row + 1, :, : int(keep.sum())],
    )


def test_text_alone_is_the_cores_own_to_the_bit(
    model: MultimodalLlama, make_batch: MakeBatch
) -> None:
    batch = make_batch([[], []])
    assert torch.equal(model(batch), model.language(batch.tokens))


def test_a_row_without_pictures_is_the_cores_own_to_the_bit(
    model: MultimodalLlama, make_batch: MakeBatch
) -> None:
    batch = make_batch(MIXED)
    logits = model(batch)
    text = batch.tokens.clamp(max=299)
    assert torch.equal(logits[1], model.language(text)[1])
    assert torch.equal(logits[0, :2], model.language(text)[0, :2])
    assert not torch.allclose(logits[0, 2:], model.language(text)[0, 2:], atol=1e-3)


def test_rows_are_the_same_alone_and_together(
    model: MultimodalLlama, make_batch: MakeBatch
) -> None:
    batch = make_batch(MIXED)
    together = model(batch)
    for row in range(3):
        alone = model(row_of(batch, row))[0]
        torch.testing.assert_close(together[row], alone, atol=2e-5, rtol=1e-4)


def test_a_picture_changes_only_tokens_that_see_it(
    model: MultimodalLlama, make_batch: MakeBatch
) -> None:
    batch = make_batch(MIXED)
    assert batch.images is not None
    before = model(batch)
    batch.images.tiles = batch.images.tiles.clone()
    batch.images.tiles[-1] += 1  # the last picture of row 2, which stands at token 6
    after = model(batch)
    assert torch.equal(before[:2], after[:2]) and torch.equal(before[2, :6], after[2, :6])
    assert not torch.allclose(before[2, 6:], after[2, 6:], atol=1e-4)


def test_cached_decoding_equals_reading_at_once(
    model: MultimodalLlama, make_batch: MakeBatch
) -> None:
    batch = make_batch(MIXED, num_tokens=16)
    assert batch.visible is not None
    whole = model(batch)
    session = MultimodalSession(model, batch_size=3, max_length=16)
    lengths = torch.tensor([9, 3, 8])
    prompt = replace(batch, tokens=batch.tokens[:, :9], visible=batch.visible[:, :9])
    found = [session.prefill(replace(prompt, lengths=lengths))]
    for step in range(3):
        found.append(session.append(batch.tokens[torch.arange(3), lengths + step, None]))
    rows = torch.arange(3)
    for step, logits in enumerate(found):
        expected = whole[rows, lengths - 1 + step]
        torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-4)


def test_a_later_turn_brings_its_own_picture(model: MultimodalLlama, make_batch: MakeBatch) -> None:
    batch = make_batch([[(0, (1, 2)), (7, (1, 1))]])
    assert batch.images is not None and batch.visible is not None
    whole = model(batch)
    images = batch.images
    session = MultimodalSession(model, batch_size=1, max_length=12)
    turns = [(slice(0, 6), slice(0, 2), slice(0, 1)), (slice(6, 12), slice(2, 3), slice(1, 2))]
    for tokens, tiles, picture in turns:
        turn = Batch(
            tokens=batch.tokens[:, tokens],
            lengths=torch.tensor([6]),
            images=Images(
                tiles=images.tiles[tiles],
                arrangements=images.arrangements[picture],
                rows=images.rows[picture],
            ),
            visible=batch.visible[:, tokens, : picture.stop],
        )
        logits = session.prefill(turn)
        torch.testing.assert_close(logits, whole[:, tokens.stop - 1], atol=2e-5, rtol=1e-4)


def test_gradients_reach_every_image_part_and_not_the_frozen_core(
    model: MultimodalLlama, make_batch: MakeBatch
) -> None:
    model.language.requires_grad_(False)
    model(make_batch(MIXED)).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith("language."):
            assert parameter.grad is None
        elif name.startswith(("image_encoder.", "image_adapter.")):
            assert parameter.grad is not None and parameter.grad.any(), name


def test_maps_are_distributions_over_visible_slots(
    model: MultimodalLlama, make_batch: MakeBatch
) -> None:
    batch = make_batch(MIXED)
    maps, memory = model.cross_attention_maps(batch)
    assert maps.shape == (3, 3, 12, memory.owner.shape[1])
    torch.testing.assert_close(maps.sum(-1), torch.ones(3, 3, 12))
    assert not maps[:, 2, 5, memory.owner[2] == 2].any()  # token 5 comes before the third picture


def test_pictures_need_image_parts(config: MultimodalConfig, make_batch: MakeBatch) -> None:
    text_only = MultimodalLlama(MultimodalConfig(language=config.language))
    with pytest.raises(ValueError, match="no image encoder"):
        text_only(make_batch(MIXED))


@pytest.mark.parametrize("name", MULTIMODAL_CONFIGS)
def test_configs_survive_json(name: str) -> None:
    config = MULTIMODAL_CONFIGS[name]
    assert MultimodalConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("name", "billions"), [("llama-3.2-11b", 10.670), ("llama-3.2-90b", 88.594)]
)
def test_released_parameter_counts(name: str, billions: float) -> None:
    with torch.device("meta"):
        model = MultimodalLlama(MULTIMODAL_CONFIGS[name])
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e9 == pytest.approx(billions, abs=0.001)


def test_unknown_and_missing_keys_are_named(config: MultimodalConfig) -> None:
    data = config.to_json()
    with pytest.raises(ValueError, match="MultimodalConfig has no key 'audio'"):
        MultimodalConfig.from_json({**data, "audio": {}})
    del data["image_encoder"]["patch_size"]
    with pytest.raises(ValueError, match="ImageEncoderConfig needs the key 'patch_size'"):
        MultimodalConfig.from_json(data)
