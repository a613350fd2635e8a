"""A training step of the image adapter (frozen core) on CPU, against transformers' Mllama.

Same weights on both sides, same pictures, same text; encoder, projection and cross-attention layers
train. transformers computes as released: every picture takes as long as four tiles, and its
cross-attention reads all four. Ours computes the real tiles alone (mode ``packed``, local blocks
over the tiles of a picture as in the release), which is how models are trained here. The features
of real tiles therefore differ by what padding adds; the equality of the released mode is tested in
``tests/oracles``.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

from benchmarks.paired import Ratio, compare
from benchmarks.released_models import MLLAMA_VOCABULARY, save_mllama
from multimodal.batch import Batch, Images
from multimodal.checkpoint import load_model
from multimodal.model import MultimodalLlama
from vision.tiles import arrangements

TILE = 112
NUM_TOKENS = 48
ARRANGEMENTS = {1: (1, 1), 2: (1, 2), 3: (3, 1), 4: (2, 2)}


def run() -> list[Ratio]:
    """Mixed pictures of one to four tiles, then one-tile pictures alone."""
    with tempfile.TemporaryDirectory() as folder:
        save_mllama(Path(folder), tile_size=TILE)
        ours = packed(load_model(Path(folder)))
        theirs = transformers.MllamaForConditionalGeneration.from_pretrained(folder)
    for parameter in theirs.model.language_model.parameters():
        parameter.requires_grad_(False)
    for index in theirs.config.text_config.cross_attention_layers:
        theirs.model.language_model.layers[index].requires_grad_(True)
    ours.language.requires_grad_(False)
    ours.train()
    theirs.train()
    results = []
    for name, tiles, target in [
        ("training step, 1 to 4 tiles", [1, 2, 3, 4, 1, 2, 1, 4], 1.5),
        ("training step, one tile", [1] * 8, 3.0),
    ]:
        steps = our_step(ours, tiles), their_step(theirs, tiles)
        results.append(
            compare(
                name,
                ours=steps[0],
                theirs=steps[1],
                against=f"transformers {transformers.__version__} Mllama",
                target=target,
            )
        )
    return results


def packed(released: MultimodalLlama) -> MultimodalLlama:
    """The same weights, computed over real tiles alone."""
    encoder = released.config.image_encoder
    assert encoder is not None
    encoder = replace(encoder, mode="packed", local_attention="image")
    model = MultimodalLlama(replace(released.config, image_encoder=encoder))
    model.load_state_dict(released.state_dict())
    return model


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW over what trains."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=1e-5, fused=True)


def text(batch_size: int) -> Tensor:
    """Random tokens [batch, tokens], the picture's placeholder first."""
    tokens = torch.randint(3, MLLAMA_VOCABULARY, (batch_size, NUM_TOKENS))
    tokens[:, 0] = MLLAMA_VOCABULARY
    return tokens


def our_step(model: MultimodalLlama, tiles: list[int]) -> Callable[[], None]:
    """Forward, backward and update on pictures of ``tiles`` tiles each."""
    torch.manual_seed(0)
    tokens, optimizer = text(len(tiles)), optimizer_of(model)
    batch = Batch(
        tokens=tokens,
        lengths=torch.full((len(tiles),), NUM_TOKENS),
        images=Images(
            tiles=torch.randn(sum(tiles), 3, TILE, TILE),
            arrangements=torch.tensor([ARRANGEMENTS[count] for count in tiles]),
            rows=torch.arange(len(tiles)),
        ),
        visible=torch.ones(len(tiles), NUM_TOKENS, 1, dtype=torch.bool),
    )

    def step() -> None:
        logits = model(batch)[:, :-1].flatten(0, 1)
        nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def their_inputs(tokens: Tensor, tiles: list[int]) -> dict[str, Tensor]:
    """Pictures in transformers' inputs, padded to four tiles."""
    batch_size, num_tokens = tokens.shape
    pixels = torch.zeros(batch_size, 1, 4, 3, TILE, TILE)
    tile_mask = torch.zeros(batch_size, 1, 4, dtype=torch.long)
    seen = torch.zeros(batch_size, num_tokens, 1, 4, dtype=torch.long)
    ids = torch.zeros(batch_size, 1, dtype=torch.long)
    for row, count in enumerate(tiles):
        pixels[row, 0, :count] = torch.randn(count, 3, TILE, TILE)
        tile_mask[row, 0, :count] = 1
        seen[row, :, 0, :count] = 1
        ids[row, 0] = arrangements(4).index(ARRANGEMENTS[count]) + 1
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "pixel_values": pixels,
        "aspect_ratio_ids": ids,
        "aspect_ratio_mask": tile_mask,
        "cross_attention_mask": seen,
    }


def their_step(model: nn.Module, tiles: list[int]) -> Callable[[], None]:
    """The same step in transformers."""
    torch.manual_seed(0)
    tokens, optimizer = text(len(tiles)), optimizer_of(model)
    inputs = their_inputs(tokens, tiles)

    def step() -> None:
        logits = model(**inputs).logits[:, :-1].flatten(0, 1)
        nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
