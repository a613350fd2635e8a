"""Llama 3 as Meta publishes it: ``params.json`` and ``consolidated.NN.pth``, one file a rank.

The matrices were cut for tensor parallelism, some by rows, some by columns; they are put together
again one at a time. Queries and keys stand in the order of interleaved rotary pairs there, in that
of halves here (and in Hugging Face's directories).
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from language.config import LlamaConfig, RopeScaling
from language.errors import InputError
from language.weights import StoredTensor, open_pth, read_json, renamed

BLOCK_NAMES = {
    "attention_norm": "attention_norm",
    "attention.query": "attention.wq",
    "attention.key": "attention.wk",
    "attention.value": "attention.wv",
    "attention.output": "attention.wo",
    "feed_forward_norm": "ffn_norm",
    "feed_forward.gate": "feed_forward.w1",
    "feed_forward.up": "feed_forward.w3",
    "feed_forward.down": "feed_forward.w2",
}
"""Modules of a block, ours and Meta's."""
CUT_BY_COLUMNS = ("attention.output.weight", "feed_forward.down.weight")
"""Matrices whose inputs are spread over the ranks; all others' outputs are."""

KEY_VALUE = ("attention.key.weight", "attention.value.weight")
"""Matrices of the key heads."""


def is_meta(directory: Path) -> bool:
    """Whether the directory (or its ``original`` folder) is Meta's and nothing else."""
    params = meta_directory(directory) / "params.json"
    return params.exists() and not (directory / "config.json").exists()


def meta_directory(directory: Path) -> Path:
    """Where the files of a directory of Meta's lie: in it, or in its ``original`` folder."""
    original = directory / "original"
    here = (directory / "params.json").exists() or not (original / "params.json").exists()
    return directory if here else original


def open_meta(directory: Path) -> tuple[LlamaConfig, dict[str, StoredTensor]]:
    """Config and stored tensors, under the names of ``Llama``, of a directory of Meta's.

    Raises:
        InputError: what is wrong with which file.
    """
    directory = meta_directory(directory)
    params = directory / "params.json"
    data = read_json(params)
    files = sorted(directory.glob("consolidated*.pth"))
    if not files:
        raise InputError(directory, "no weights: no consolidated*.pth beside params.json")
    expected = [directory / f"consolidated.{rank:02d}.pth" for rank in range(len(files))]
    if len(files) > 1 and files != expected:
        missing = next(file for file in expected if file not in files)
        raise InputError(missing, "missing, though later ranks are there")
    ranks = [open_pth(file) for file in files]
    head, embedding = (_gathered(ranks, f"{name}.weight") for name in ("output", "tok_embeddings"))
    if embedding is None:
        raise InputError(files[0], "lacks the weights tok_embeddings.weight")
    tied = head is None or _equal(head, embedding)
    config = config_from_params(data, source=params, tied=tied)
    ignored = ("rope.freqs",) + (("output.weight",) if tied else ())
    shards = [
        renamed(rank, meta_names(config), source=file, ignored=ignored)
        for rank, file in zip(ranks, files, strict=True)
    ]
    stored = {name: _assembled(name, shards, config) for name in shards[0]}
    return config, stored


def meta_names(config: LlamaConfig) -> Iterator[tuple[str, str]]:
    """Pairs of our name and Meta's."""
    yield "embedding.weight", "tok_embeddings.weight"
    for layer in range(config.num_layers):
        for ours, theirs in BLOCK_NAMES.items():
            yield f"blocks.{layer}.{ours}.weight", f"layers.{layer}.{theirs}.weight"
    yield "norm.weight", "norm.weight"
    if not config.tied_embeddings:
        yield "head.weight", "output.weight"


def config_from_params(data: dict[str, Any], *, source: Path, tied: bool) -> LlamaConfig:
    """The core's config from ``params.json``.

    The file doesn't name the scaling's factor: it is 8 in Llama 3.1 and 32 in the sizes of 3.2,
    which are those with tied embeddings. Nor does it name the context: 8,192 tokens or, scaled,
    131,072.

    Raises:
        InputError: a key is missing or wrong.
    """
    try:
        ffn_dim = int(2 * (4 * data["dim"]) / 3)
        ffn_dim = int((data.get("ffn_dim_multiplier") or 1) * ffn_dim)
        ffn_dim = -(-ffn_dim // data["multiple_of"]) * data["multiple_of"]
        scaled = data.get("use_scaled_rope", False)
        return LlamaConfig(
            vocab_size=data["vocab_size"],
            dim=data["dim"],
            num_layers=data["n_layers"],
            num_heads=data["n_heads"],
            num_kv_heads=data.get("n_kv_heads") or data["n_heads"],
            ffn_dim=ffn_dim,
            norm_eps=data["norm_eps"],
            rope_theta=float(data.get("rope_theta", 10_000.0)),
            rope_scaling=RopeScaling(factor=32.0 if tied else 8.0) if scaled else None,
            max_positions=131_072 if scaled else 8192,
            tied_embeddings=tied,
        )
    except KeyError as error:
        raise InputError(source, f"lacks the key {error.args[0]}") from None
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise InputError(source, str(error)) from None


def _assembled(
    name: str, shards: list[dict[str, StoredTensor]], config: LlamaConfig
) -> StoredTensor:
    """One of our tensors from all ranks' parts."""
    parts = [shard[name] for shard in shards]
    if name.endswith("norm.weight"):
        return parts[0]
    if name.endswith(KEY_VALUE):
        rows = sum(part.shape[0] for part in parts if part.shape)
        parts = _distinct(parts, times=rows // (config.num_kv_heads * config.head_dim))
    whole = _concatenated(parts, dim=1 if name.endswith(CUT_BY_COLUMNS) else 0)
    for projection, heads in (("query", config.num_heads), ("key", config.num_kv_heads)):
        if name.endswith(f"attention.{projection}.weight"):
            rows = heads * config.head_dim
            if whole.shape != (rows, config.dim):
                raise InputError(
                    whole.file, f"{whole.name} of all ranks is {list(whole.shape)}, "
                    f"params.json wants {[rows, config.dim]}"
                )  # fmt: skip
            return whole.changed(partial(halves_order, num_heads=heads), shape=whole.shape)
    return whole


def _distinct(parts: list[StoredTensor], *, times: int) -> list[StoredTensor]:
    """One of each run of equal parts: ranks that outnumber the key heads hold each several times.

    The 405B model in sixteen files is such a case. That neighbours are equal is checked when they
    are read.
    """
    if times < 2 or len(parts) % times:
        return parts

    def read(run: list[StoredTensor]) -> Tensor:
        first = run[0].read()
        for other in run[1:]:
            if not torch.equal(first, other.read()):
                raise InputError(other.file, f"{other.name} differs from {run[0].file.name}'s")
        return first

    runs = (parts[start : start + times] for start in range(0, len(parts), times))
    return [
        StoredTensor(
            file=run[0].file, name=run[0].name, shape=run[0].shape, read=partial(read, run)
        )
        for run in runs
    ]


def _gathered(ranks: list[dict[str, StoredTensor]], name: str) -> StoredTensor | None:
    if any(name not in rank for rank in ranks):
        return None
    return _concatenated([rank[name] for rank in ranks], dim=0)


def _concatenated(parts: list[StoredTensor], *, dim: int) -> StoredTensor:
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts:
        if len(part.shape) != 2 or part.shape != first.shape:
            raise InputError(part.file, f"{part.name} is {list(part.shape)}, unlike rank 0's")
    shape = list(first.shape)
    shape[dim] *= len(parts)
    return StoredTensor(
        file=first.file,
        name=first.name,
        shape=tuple(shape),
        read=lambda: torch.cat([part.read() for part in parts], dim=dim),
    )


def _equal(first: StoredTensor, second: StoredTensor) -> bool:
    """Whether two tables hold the same numbers; a glance at one row is enough for most."""
    if first.shape != second.shape:
        return False
    one, other = first.read(), second.read()
    return torch.equal(one[:1], other[:1]) and torch.equal(one, other)


def halves_order(weight: Tensor, *, num_heads: int) -> Tensor:
    """Rows of a head [.., 2i, 2i + 1, ..] to [.., i, ..] and [.., i + half, ..], [rows, dim]."""
    pairs = weight.unflatten(0, (num_heads, -1, 2))  # [heads, half, 2, dim]
    return pairs.transpose(1, 2).reshape(weight.shape)
