"""The core against transformers' Llama on random weights, in the files of both publishers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from language.checkpoint import config_to_huggingface, load_llama, save_llama
from language.config import LLAMA_CONFIGS
from language.errors import InputError
from language.generation import GenerationConfig, LlamaSession, generate
from language.rope import rotary_frequencies

SCALING_3_1 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SHAPES = {
    "multi-head": {"num_key_value_heads": 8},
    "grouped": {"num_key_value_heads": 2},
    "one key": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "scaled": {"rope_scaling": SCALING_3_1},
    "wide heads": {"head_dim": 32},
    "base 10000": {"rope_theta": 10_000.0},
}

TheirLlama = Callable[..., LlamaForCausalLM]
Save = Callable[..., Path]


def tokens(batch: int = 2, length: int = 40) -> Tensor:
    return torch.randint(96, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_logits_equal_transformers(
    shape: str, their_llama: TheirLlama, save_huggingface: Save
) -> None:
    theirs = their_llama(**SHAPES[shape])
    ours = load_llama(save_huggingface(theirs))
    expected = theirs(tokens()).logits
    assert expected.std() > 0.3
    assert not ours.training
    torch.testing.assert_close(ours(tokens()), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_long_scaled_context(their_llama: TheirLlama, save_huggingface: Save) -> None:
    theirs = their_llama(rope_scaling=SCALING_3_1, num_hidden_layers=2)
    ours = load_llama(save_huggingface(theirs))
    text = tokens(1, 2048)
    torch.testing.assert_close(ours(text), theirs(text).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", ["grouped", "scaled"])
@torch.no_grad()
def test_greedy_text_equals_their_generate(
    shape: str, their_llama: TheirLlama, save_huggingface: Save
) -> None:
    """Prompts of unequal length in one batch of ours, each alone by transformers' own loop."""
    theirs = their_llama(**SHAPES[shape])
    ours = load_llama(save_huggingface(theirs))
    lengths = torch.tensor([9, 2, 30])
    prompts = tokens(3, 30)
    session = LlamaSession(ours, batch_size=3, max_length=60)
    logits = session.append(prompts, lengths=lengths)
    drawing = GenerationConfig(max_new_tokens=16, max_loop=0)
    answers = torch.tensor(list(generate(session, logits, drawing)))
    for prompt, length, answer in zip(prompts, lengths, answers.T, strict=True):
        text = prompt[None, :length]
        expected = theirs.generate(
            text,
            attention_mask=torch.ones_like(text),
            max_new_tokens=16,
            do_sample=False,
            eos_token_id=None,
        )
        assert expected[0, length:].tolist() == answer.tolist()


@pytest.mark.parametrize("name", LLAMA_CONFIGS)
def test_frequencies_to_the_last_bit(name: str) -> None:
    """Positions multiply them: at 131,072 tokens a last bit would be seen in the logits."""
    config = LLAMA_CONFIGS[name]
    theirs = LlamaConfig(**config_to_huggingface(config, dtype=torch.bfloat16))
    assert torch.equal(rotary_frequencies(config), LlamaRotaryEmbedding(theirs).inv_freq)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_every_number_survives_shards_and_types(
    dtype: torch.dtype, their_llama: TheirLlama, save_huggingface: Save, tmp_path: Path
) -> None:
    theirs = their_llama()
    source = save_huggingface(theirs, dtype=dtype, max_shard_size="40KB")
    assert len(list(source.glob("*.safetensors"))) > 2
    save_llama(load_llama(source), tmp_path / "back", max_shard_bytes=60_000)
    assert len(list((tmp_path / "back").glob("*.safetensors"))) > 2
    before, after = gathered(source), gathered(tmp_path / "back")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype == dtype
        assert torch.equal(tensor, after[name]), name


def gathered(directory: Path) -> dict[str, Tensor]:
    """All tensors of a directory, and a check that its index tells where each lies."""
    tensors: dict[str, Tensor] = {}
    files = {}
    for path in sorted(directory.glob("*.safetensors")):
        part = load_file(path)
        tensors |= part
        files |= dict.fromkeys(part, path.name)
    index = directory / "model.safetensors.index.json"
    if len(set(files.values())) > 1:
        assert json.loads(index.read_text())["weight_map"] == files
    else:
        assert not index.exists()
    return tensors


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_transformers_reads_what_is_written_back(
    shape: str, their_llama: TheirLlama, save_huggingface: Save, tmp_path: Path
) -> None:
    theirs = their_llama(**SHAPES[shape])
    source = save_huggingface(theirs)
    save_llama(load_llama(source), tmp_path / "back", companions=source)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "back")
    assert torch.equal(again(tokens()).logits, theirs(tokens()).logits)
    assert again.config.to_dict() | {"_name_or_path": ""} == theirs.config.to_dict() | {
        "_name_or_path": ""
    }
    assert gathered(source).keys() == gathered(tmp_path / "back").keys()
    assert json.loads((tmp_path / "back" / "generation_config.json").read_text())[
        "eos_token_id"
    ] == (91)


def older_config(directory: Path) -> None:
    """Rewrite config.json as transformers 4 did: rope_theta and rope_scaling, torch_dtype."""
    file = directory / "config.json"
    data = json.loads(file.read_text())
    rope = data.pop("rope_parameters")
    data["rope_theta"] = rope.pop("rope_theta")
    data["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    data["torch_dtype"] = data.pop("dtype")
    file.write_text(json.dumps(data))


@pytest.mark.parametrize("shape", ["grouped", "scaled", "base 10000"])
def test_configs_of_transformers_4(
    shape: str, their_llama: TheirLlama, save_huggingface: Save
) -> None:
    directory = save_huggingface(their_llama(**SHAPES[shape]))
    before = load_llama(directory).config
    older_config(directory)
    assert load_llama(directory).config == before


def cut(weight: Tensor, ranks: int, *, dim: int) -> list[Tensor]:
    return [part.clone() for part in weight.chunk(ranks, dim=dim)]


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """The inverse of the published conversion: rows of halves back to rotary pairs."""
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def write_meta(model: LlamaForCausalLM, directory: Path, *, ranks: int, scaled: bool) -> None:
    """Lay a model out as Meta does: one file a rank, matrices cut as for tensor parallelism."""
    config, state = model.config, model.state_dict()
    params: dict[str, Any] = {
        "dim": config.hidden_size,
        "n_layers": config.num_hidden_layers,
        "n_heads": config.num_attention_heads,
        "n_kv_heads": config.num_key_value_heads,
        "vocab_size": config.vocab_size,
        "ffn_dim_multiplier": 0.5,
        "multiple_of": 32,
        "norm_eps": config.rms_norm_eps,
        "rope_theta": 500_000.0,
        "use_scaled_rope": scaled,
    }
    whole: list[tuple[str, Tensor, int | None]] = [
        ("tok_embeddings", state["model.embed_tokens.weight"], 0),
        ("norm", state["model.norm.weight"], None),
        ("output", state["lm_head.weight"], 0),
    ]
    for layer in range(config.num_hidden_layers):
        theirs, meta = f"model.layers.{layer}.", f"layers.{layer}."
        query = state[theirs + "self_attn.q_proj.weight"]
        key = state[theirs + "self_attn.k_proj.weight"]
        whole += [
            (meta + "attention.wq", interleaved(query, config.num_attention_heads), 0),
            (meta + "attention.wk", interleaved(key, config.num_key_value_heads), 0),
            (meta + "attention.wv", state[theirs + "self_attn.v_proj.weight"], 0),
            (meta + "attention.wo", state[theirs + "self_attn.o_proj.weight"], 1),
            (meta + "feed_forward.w1", state[theirs + "mlp.gate_proj.weight"], 0),
            (meta + "feed_forward.w3", state[theirs + "mlp.up_proj.weight"], 0),
            (meta + "feed_forward.w2", state[theirs + "mlp.down_proj.weight"], 1),
            (meta + "attention_norm", state[theirs + "input_layernorm.weight"], None),
            (meta + "ffn_norm", state[theirs + "post_attention_layernorm.weight"], None),
        ]
    files: list[dict[str, Tensor]] = [{} for _ in range(ranks)]
    for name, weight, dim in whole:
        if dim is None:
            parts = [weight.clone()] * ranks
        elif name.endswith(("wk", "wv")) and ranks > (heads := config.num_key_value_heads):
            parts = [part for part in cut(weight, heads, dim=0) for _ in range(ranks // heads)]
        else:
            parts = cut(weight, ranks, dim=dim)
        for file, part in zip(files, parts, strict=True):
            file[f"{name}.weight"] = part
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "params.json").write_text(json.dumps(params))
    for rank, file in enumerate(files):
        torch.save(file, directory / f"consolidated.{rank:02d}.pth")


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("place", [".", "original"])
@torch.no_grad()
def test_meta_files(ranks: int, place: str, their_llama: TheirLlama, tmp_path: Path) -> None:
    theirs = their_llama()
    write_meta(theirs, tmp_path / "meta" / place, ranks=ranks, scaled=False)
    ours = load_llama(tmp_path / "meta")
    assert ours.config.max_positions == 8192
    torch.testing.assert_close(ours(tokens()), theirs(tokens()).logits, atol=1e-4, rtol=0)


def test_ranks_that_disagree_about_a_shared_head_are_named(
    their_llama: TheirLlama, tmp_path: Path
) -> None:
    write_meta(their_llama(), tmp_path, ranks=8, scaled=False)
    file = tmp_path / "consolidated.03.pth"
    weights = torch.load(file, weights_only=True)
    weights["layers.0.attention.wk.weight"][0, 0] += 1
    torch.save(weights, file)
    with pytest.raises(InputError, match=r"consolidated\.03\.pth: .*wk.* differs from"):
        load_llama(tmp_path)


@pytest.mark.parametrize("ranks", [1, 8])
def test_keys_that_are_no_matrix_are_named(
    ranks: int, their_llama: TheirLlama, tmp_path: Path
) -> None:
    write_meta(their_llama(), tmp_path, ranks=ranks, scaled=False)
    for file in tmp_path.glob("*.pth"):
        weights = torch.load(file, weights_only=True)
        weights["layers.0.attention.wk.weight"] = torch.tensor(1.0)
        torch.save(weights, file)
    with pytest.raises(InputError, match=r"consolidated\.0\d\.pth: .*wk"):
        load_llama(tmp_path)


@pytest.mark.parametrize(("tied", "factor"), [(False, 8.0), (True, 32.0)])
@torch.no_grad()
def test_meta_scaling_by_release(
    tied: bool, factor: float, their_llama: TheirLlama, tmp_path: Path
) -> None:
    scaling = SCALING_3_1 | {"factor": factor, "original_max_position_embeddings": 8192}
    theirs = their_llama(
        tie_word_embeddings=tied, rope_scaling=scaling, max_position_embeddings=131_072
    )
    write_meta(theirs, tmp_path / "meta", ranks=2, scaled=True)
    ours = load_llama(tmp_path / "meta")
    assert ours.config.tied_embeddings == tied
    text = tokens(1, 300)
    torch.testing.assert_close(ours(text), theirs(text).logits, atol=1e-4, rtol=0)


@torch.no_grad()
def test_meta_and_huggingface_files_are_one_model(
    their_llama: TheirLlama, save_huggingface: Save, tmp_path: Path
) -> None:
    theirs = their_llama()
    write_meta(theirs, tmp_path / "meta", ranks=4, scaled=False)
    meta, hub = load_llama(tmp_path / "meta"), load_llama(save_huggingface(theirs))
    state = hub.state_dict()
    for name, tensor in meta.state_dict().items():
        assert torch.equal(tensor, state[name]), name
