"""Operations from the config against torch's own count of what ran."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from language.flops import causal_pairs, core_flops
from multimodal.batch import IGNORED
from multimodal.training.flops import Trained, seen_pairs, step_work
from multimodal.training.frozen_core import choose_trainable
from multimodal.training.parts import build
from multimodal.training.progress import peak_flops
from tests.multimodal.training.fakes import Rows, picture_batch


@pytest.mark.parametrize(
    "patterns, trained",
    [
        (("image_encoder.*", "image_adapter.*", "extra_embedding.*"), (True, True, True)),
        (("image_encoder.*", "image_adapter.*"), (True, True, False)),
        (("image_adapter.*",), (False, True, False)),
        (("image_adapter.*", "extra_embedding.*"), (False, True, True)),
    ],
)
def test_a_step_costs_what_is_counted(parts, patterns, trained):
    """One-tile pictures that every token sees, so that no padding is computed; causal attention is
    counted as if nothing were masked, which is allowed for."""
    model = build(parts)
    choose_trainable(model, patterns)
    batch = picture_batch([Rows(num_rows=3, length=6, seed=i)[0] for i in range(2)])
    batch.visible[:] = True
    batch.images.rows = torch.tensor([0, 1])
    batch.images.arrangements = torch.tensor([[1, 1], [1, 1]])
    batch.images.tiles = torch.randn(2, 3, 16, 16)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        hidden = model.walk(
            model.embed(batch.tokens), sights=model.look_at(batch, model.sense(batch))
        )
        wanted = batch.targets != IGNORED
        model.language.logits(hidden[wanted]).sum().backward()
    names = ("image_encoder", "image_adapter", "extra_embedding")
    flags = Trained(**dict(zip(names, trained, strict=True)))
    found = step_work(model.config, batch, trained=flags)
    core = model.config.language
    nothing = torch.zeros(())
    first_block = 0 if trained[2] else min(model.config.image_adapter.positions)
    masked = core_flops(
        core,
        tokens=nothing,
        pairs=torch.tensor(2 * 6 * 6) - causal_pairs(batch.lengths),
        logits=nothing,
        trained=False,
        first_block=first_block,
    )
    patches = model.image_encoder.patch_embedding.weight.numel() * 2 * 2 * 4  # pixels: no gradient
    extra = patches if trained[0] else 0
    assert counter.get_total_flops() == int(found.flops + masked) - extra
    assert found.samples == 2 and found.tokens == 12


def test_pairs_are_counted_by_picture():
    batch = picture_batch([Rows(num_rows=3, length=6, seed=i)[0] for i in range(4)])
    expected = 0
    of_row = {0: [1], 1: [2], 2: [1]}
    for row, tiles in of_row.items():
        for token in range(6):
            for picture, count in enumerate(tiles):
                expected += count * bool(batch.visible[row, token, picture])
    assert seen_pairs(batch.images, batch.visible) == expected


def test_peaks_are_found_by_the_longest_name():
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA L40S") == 362e12
    assert peak_flops("CPU") is None
