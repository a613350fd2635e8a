"""The composition against transformers' Llama 3.2 Vision on random weights.

transformers lets tokens that stand before their first picture see it (issue 39379); the published
reference doesn't, nor do we. The oracle here is transformers with the row mask laid on the
attention's output as well; one test switches our model to the leak instead.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import MllamaConfig, MllamaForConditionalGeneration
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

from language.generation import GenerationConfig, generate
from multimodal.batch import Batch, Images
from multimodal.checkpoint import load_model, save_model
from multimodal.model import MultimodalLlama
from multimodal.released import save_released
from multimodal.session import MultimodalSession

IMAGE = 96
"""Id of the picture's token: the first past the vocabulary."""
ARRANGEMENTS = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1)]
"""Rows and columns of tiles, in the order of the release's ids from 1."""

TheirVision = Callable[..., MllamaForConditionalGeneration]
Save = Callable[..., Path]


@dataclass
class Row:
    """A text with pictures, and what each library needs of it."""

    tokens: Tensor
    shapes: list[tuple[int, int]]
    tiles: Tensor

    def theirs(self, size: int) -> dict[str, Tensor]:
        """Arguments of transformers' forward for this row alone."""
        inputs = {"input_ids": self.tokens[None]}
        if not self.shapes:
            return inputs
        counts = [rows * columns for rows, columns in self.shapes]
        pixels = torch.zeros(1, len(counts), 4, 3, size, size)
        mask = torch.zeros(1, len(counts), 4, dtype=torch.long)
        for index, tiles in enumerate(self.tiles.split(counts)):
            pixels[0, index, : len(tiles)] = tiles
            mask[0, index, : len(tiles)] = 1
        spans = get_cross_attention_token_mask(self.tokens.tolist(), IMAGE)
        seen = convert_sparse_cross_attention_mask_to_dense([spans], [counts], 4, len(self.tokens))
        return inputs | {
            "pixel_values": pixels,
            "aspect_ratio_ids": torch.tensor([[ARRANGEMENTS.index(s) + 1 for s in self.shapes]]),
            "aspect_ratio_mask": mask,
            "cross_attention_mask": torch.from_numpy(seen),
        }

    def visible(self, num_images: int) -> Tensor:
        """Which pictures each token sees, [tokens, num_images], as transformers has it."""
        seen = torch.zeros(len(self.tokens), num_images, dtype=torch.bool)
        if self.shapes:
            mask = self.theirs(self.tiles.shape[-1])["cross_attention_mask"][0]
            seen[:, : len(self.shapes)] = mask.any(dim=-1)
        return seen


def make_row(
    layout: str, shapes: list[tuple[int, int]], *, size: int = 28, seed: int = 0, length: int = 0
) -> Row:
    """A row from a layout in which ``I`` is a picture and ``t`` a random token of text."""
    layout = layout.ljust(length, "t")
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(90, (len(layout),), generator=generator)
    tokens[torch.tensor([letter == "I" for letter in layout])] = IMAGE
    assert layout.count("I") == len(shapes)
    num_tiles = sum(rows * columns for rows, columns in shapes)
    return Row(tokens, shapes, torch.randn(num_tiles, 3, size, size, generator=generator))


def batch_of(rows: list[Row], *, tokens: slice = slice(None)) -> Batch:
    """Our batch of several rows, padded on the right with arbitrary tokens."""
    length = max(len(row.tokens) for row in rows)
    padded = torch.full((len(rows), length), 7)
    num_images = max(len(row.shapes) for row in rows)
    visible = torch.zeros(len(rows), length, num_images, dtype=torch.bool)
    for index, row in enumerate(rows):
        padded[index, : len(row.tokens)] = row.tokens
        visible[index, : len(row.tokens)] = row.visible(num_images)
    lengths = torch.tensor([len(row.tokens) for row in rows])
    batch = Batch(tokens=padded, lengths=lengths)
    if num_images:
        batch.visible = visible
        batch.images = Images(
            tiles=torch.cat([row.tiles for row in rows]),
            arrangements=torch.tensor([shape for row in rows for shape in row.shapes]),
            rows=torch.tensor([i for i, row in enumerate(rows) for _ in row.shapes]),
        )
    return batch


def without_leak(model: MllamaForConditionalGeneration) -> MllamaForConditionalGeneration:
    """Lay the row mask on the cross-attention's output, as the published reference does."""

    def hide(layer: nn.Module) -> None:
        rows: list[Tensor | None] = [None]

        def remember(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            rows[0] = kwargs["full_text_row_masked_out_mask"]

        def mask(_: nn.Module, args: Any, output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
            return output if rows[0] is None else (output[0] * rows[0][:, 0], output[1])

        layer.register_forward_pre_hook(remember, with_kwargs=True)
        layer.cross_attn.register_forward_hook(mask)

    for index in model.config.text_config.cross_attention_layers:
        hide(model.model.language_model.layers[index])
    return model


def expect_equal(
    ours: MultimodalLlama, theirs: MllamaForConditionalGeneration, rows: list[Row]
) -> None:
    """All rows in one batch of ours equal each row alone in theirs."""
    logits = ours(batch_of(rows))
    for index, row in enumerate(rows):
        expected = theirs(**row.theirs(row.tiles.shape[-1])).logits[0]
        assert 0.3 < expected.std() < 3
        actual = logits[index, : len(row.tokens)]
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


@pytest.fixture
def pair(
    their_vision: TheirVision, save_huggingface: Save
) -> tuple[MultimodalLlama, MllamaForConditionalGeneration]:
    theirs = their_vision()
    return load_model(save_huggingface(theirs)), without_leak(theirs)


@pytest.mark.parametrize("shape", ARRANGEMENTS)
@torch.no_grad()
def test_every_arrangement(
    shape: tuple[int, int], pair: tuple[MultimodalLlama, MllamaForConditionalGeneration]
) -> None:
    expect_equal(*pair, [make_row("ttIttttttt", [shape])])


BATCHES = {
    "picture first": [make_row("Itttt", [(1, 2)])],
    "picture last": [make_row("ttttI", [(2, 1)])],
    "pictures apart": [make_row("tIttIttt", [(2, 2), (1, 1)])],
    "pictures together": [make_row("ttIIttttt", [(1, 3), (1, 1)])],
    "together at the end": [make_row("tttII", [(1, 1), (1, 2)])],
    "five pictures": [make_row("tIItIttIIttt", [(1, 1), (1, 2), (2, 1), (4, 1), (2, 2)])],
    "no picture": [make_row("ttttttt", [])],
    "unequal rows": [
        make_row("tItttttttttt", [(1, 1)]),
        make_row("ttIt", [(2, 2)], seed=1),
        make_row("I", [(1, 2)], seed=2),
    ],
    "with and without": [
        make_row("tItttIttt", [(1, 1), (3, 1)]),
        make_row("tttttttttttt", [], seed=1),
        make_row("tttIt", [(1, 4)], seed=2),
        make_row("tt", [], seed=3),
    ],
    "long": [make_row("tttItt", [(2, 2)], length=400), make_row("", [], length=300, seed=1)],
}


@pytest.mark.parametrize("batch", BATCHES)
@torch.no_grad()
def test_batches(batch: str, pair: tuple[MultimodalLlama, MllamaForConditionalGeneration]) -> None:
    expect_equal(*pair, BATCHES[batch])


SCALED = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS: dict[str, dict[str, Any]] = {
    "larger tiles": {"image_size": 56},
    "odd patches": {
        "image_size": 42,
        "num_global_layers": 1,
        "intermediate_layers_indices": [2, 0],
    },
    "scaled positions": {"text": {"rope_scaling": SCALED}},
    "first layer": {"text": {"cross_attention_layers": [0, 3]}},
    "last layer": {"text": {"cross_attention_layers": [2, 5]}},
    "one key head": {"text": {"num_key_value_heads": 1}},
    "as many key heads": {"text": {"num_key_value_heads": 4}},
}


@pytest.mark.parametrize("model", MODELS)
@torch.no_grad()
def test_models(model: str, their_vision: TheirVision, save_huggingface: Save) -> None:
    theirs = their_vision(**MODELS[model])
    size = theirs.config.vision_config.image_size
    rows = [
        make_row("ttIIttItttttt", [(1, 1), (1, 3), (2, 2)], size=size),
        make_row("tItttttt", [(2, 1)], size=size, length=150, seed=1),
    ]
    expect_equal(load_model(save_huggingface(theirs)), without_leak(theirs), rows)


@pytest.mark.parametrize("batch", ["unequal rows", "with and without", "five pictures"])
@torch.no_grad()
def test_cached_decoding_equals_reading_anew(
    batch: str, pair: tuple[MultimodalLlama, MllamaForConditionalGeneration]
) -> None:
    """Each step of a session, over rows of unequal length, gives what transformers gives anew."""
    ours, theirs = pair
    rows = BATCHES[batch]
    session = MultimodalSession(ours, batch_size=len(rows), max_length=40)
    logits = session.prefill(batch_of(rows))
    generator = torch.Generator().manual_seed(5)
    for step in range(4):
        for index, row in enumerate(rows):
            expected = theirs(**row.theirs(28)).logits[0, -1]
            torch.testing.assert_close(logits[index], expected, atol=1e-4, rtol=0)
        new = torch.randint(90, (len(rows), 1 + step % 2), generator=generator)
        logits = session.append(new)
        rows = [
            replace(row, tokens=torch.cat((row.tokens, more)))
            for row, more in zip(rows, new, strict=True)
        ]


@pytest.mark.parametrize("batch", ["pictures together", "with and without", "unequal rows"])
@torch.no_grad()
def test_greedy_answers_equal_their_generate(
    batch: str, pair: tuple[MultimodalLlama, MllamaForConditionalGeneration]
) -> None:
    """All rows decoded in one batch of ours, each alone by transformers' own loop and cache."""
    ours, theirs = pair
    rows = BATCHES[batch]
    session = MultimodalSession(ours, batch_size=len(rows), max_length=40)
    logits = session.prefill(batch_of(rows))
    drawing = GenerationConfig(max_new_tokens=12, max_loop=0)
    answers = torch.tensor(list(generate(session, logits, drawing)))
    for row, answer in zip(rows, answers.T, strict=True):
        expected = theirs.generate(
            **row.theirs(28),
            attention_mask=torch.ones_like(row.tokens)[None],
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=None,
        )
        assert expected[0, len(row.tokens) :].tolist() == answer.tolist()


@torch.no_grad()
def test_the_switch_gives_transformers_leak(
    their_vision: TheirVision, save_huggingface: Save
) -> None:
    """As published by transformers; pictures fill all tiles, since its leak sees padding too."""
    theirs = their_vision()
    model = load_model(save_huggingface(theirs))
    assert model.config.image_adapter is not None
    adapter = replace(model.config.image_adapter, leak_before_first_image=True)
    leaking = MultimodalLlama(replace(model.config, image_adapter=adapter)).eval()
    leaking.load_state_dict(model.state_dict())
    rows = [make_row("tttItttt", [(2, 2)]), make_row("ttItItt", [(1, 4), (4, 1)], seed=1)]
    for row in rows:
        expect_equal(leaking, theirs, [row])
        without = model(batch_of([row]))
        before = row.tokens.tolist().index(IMAGE)
        assert (without - leaking(batch_of([row])))[0, :before].abs().max() > 1e-2


def nested(directory: Path) -> None:
    """Rename tensors as the modules of transformers 5 are called."""
    file = directory / "model.safetensors"
    renamed = {}
    for name, tensor in load_file(file).items():
        if name.startswith("language_model.lm_head"):
            name = name.removeprefix("language_model.")
        else:
            name = "model." + name.replace("language_model.model.", "language_model.")
        renamed[name] = tensor
    save_file(renamed, file)


def test_names_of_transformers_5(their_vision: TheirVision, save_huggingface: Save) -> None:
    directory = save_huggingface(their_vision())
    before = load_model(directory).state_dict()
    nested(directory)
    after = load_model(directory).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before | after)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_number_survives_both_ways(
    dtype: torch.dtype, their_vision: TheirVision, save_huggingface: Save, tmp_path: Path
) -> None:
    """Theirs to ours to theirs: same names, types, numbers and, to transformers, config."""
    theirs = their_vision()
    source = save_huggingface(theirs, dtype=dtype, max_shard_size="60KB")
    save_model(load_model(source), tmp_path / "ours", companions=source)
    ours = load_model(tmp_path / "ours")
    assert ours.config == load_model(source).config
    save_released(ours, tmp_path / "back", companions=source, max_shard_bytes=80_000)
    before, after = (
        {k: v for f in sorted(d.glob("model*.safetensors")) for k, v in load_file(f).items()}
        for d in (source, tmp_path / "back")
    )
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype == dtype
        assert torch.equal(tensor, after[name]), name
    again = MllamaForConditionalGeneration.from_pretrained(tmp_path / "back", dtype=dtype)
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in theirs.state_dict().items())
    written, expected = (
        MllamaConfig.from_pretrained(d).to_dict() for d in (tmp_path / "back", source)
    )
    assert written == expected
