"""Tensors in files: read one at a time and cast on the way, written in shards.

An opened file is a mapping from names to :class:`StoredTensor`, which says where a tensor lies and
reads it when asked. Layouts of other libraries become ours by renaming and regrouping such entries;
only :func:`fill` reads them, each into memory of its own, so that a model built on the meta device
gets its weights without their ever being held twice.
"""

import json
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from language.errors import InputError

MAX_SHARD_BYTES = 5_000_000_000
"""Weights larger than this are written as several files with an index."""
MAX_JSON_BYTES = 64_000_000
"""No config or index is larger; one that is stays unread."""


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor that still lies in its file."""

    file: Path
    name: str
    """Its name in the file."""
    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    def changed(
        self, change: Callable[[Tensor], Tensor], *, shape: tuple[int, ...]
    ) -> "StoredTensor":
        """The same tensor after ``change``, which gives ``shape``; nothing is read yet."""
        return StoredTensor(
            file=self.file, name=self.name, shape=shape, read=lambda: change(self.read())
        )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: no such file, not JSON, not an object, or far too large.
    """
    try:
        if not path.is_file():
            raise InputError(path, "no such file")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(path, f"larger than {MAX_JSON_BYTES} bytes")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"not JSON ({error})") from None
    if not isinstance(data, dict):
        raise InputError(path, "not a JSON object")
    return data


def read_format(file: Path, *, name: str, version: int, what: str) -> dict[str, Any]:
    """The config of a directory of this project's own, which says its format.

    Args:
        file: ``config.json``.
        name: of the format.
        version: of the format.
        what: the directory should hold, for whoever gave another.

    Raises:
        InputError: it is unreadable, or of another format.
    """
    data = read_json(file)
    if data.get("format") != name or data.get("version") != version:
        raise InputError(file, f"no {what}: its format is not {name!r}, version {version}")
    return data


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write an object as indented JSON."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def open_safetensors(directory: Path, *, stem: str = "model") -> dict[str, StoredTensor]:
    """The tensors of ``STEM.safetensors``, or of the shards that its index names.

    Raises:
        InputError: no weights, a broken file, or shards that disagree with their index.
    """
    single, index = directory / f"{stem}.safetensors", directory / f"{stem}.safetensors.index.json"
    if single.exists():
        return _open_file(single)
    if not index.exists():
        pickled = sorted(directory.glob("pytorch_model*.bin"))
        hint = f"; {pickled[0].name} may hold code: convert it to safetensors" if pickled else ""
        raise InputError(directory, f"no weights: neither {single.name} nor its index{hint}")
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise InputError(index, "has no weight_map of names to files")
    shards: dict[str, dict[str, StoredTensor]] = {}
    for file in sorted(set(files.values())):
        if Path(file).name != file:
            raise InputError(index, f"names {file!r}, which isn't a file beside it")
        if not (directory / file).exists():
            raise InputError(index, f"names {file}, which is missing")
        shards[file] = _open_file(directory / file)
    for name, file in files.items():
        if name not in shards[file]:
            raise InputError(directory / file, f"lacks {name}, which {index.name} says it holds")
    return {name: shards[file][name] for name, file in files.items()}


def _open_file(path: Path) -> dict[str, StoredTensor]:
    if not path.is_file():
        raise InputError(path, "not a regular file")
    try:
        file = safe_open(path, framework="pt")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(path, f"not a whole safetensors file ({error})") from None
    return {
        name: StoredTensor(
            file=path,
            name=name,
            shape=tuple(part.get_shape()),
            read=partial(file.get_tensor, name),
        )
        for name, part in slices.items()
    }


def open_pth(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a PyTorch file, mapped into memory; code in it is refused, not run.

    Raises:
        InputError: not a PyTorch file, broken, or with more in it than tensors.
    """
    if not path.is_file():
        raise InputError(path, "not a regular file")
    try:
        tensors = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(path, "holds pickled code or broken data; nothing was run") from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(path, f"not a whole PyTorch file ({str(error).splitlines()[0]})") from None
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise InputError(path, "not a dictionary of tensors")
    return {
        name: StoredTensor(
            file=path, name=name, shape=tuple(tensor.shape), read=partial(_same, tensor)
        )
        for name, tensor in tensors.items()
    }


def _same(tensor: Tensor) -> Tensor:
    return tensor


def renamed(
    stored: Mapping[str, StoredTensor],
    names: Iterable[tuple[str, str]],
    *,
    source: Path,
    ignored: tuple[str, ...] = (),
) -> dict[str, StoredTensor]:
    """The tensors of a file under our names.

    Args:
        stored: by the file's names.
        names: pairs of our name and the file's, for every tensor that must be there.
        source: what to blame.
        ignored: endings of names in the file that may be left over.

    Raises:
        InputError: a tensor is missing, or left over.
    """
    ours, used = {}, set()
    for our_name, name in names:
        if name not in stored:
            raise InputError(source, f"lacks the weights {name}")
        ours[our_name] = stored[name]
        used.add(name)
    left = [name for name in stored if name not in used and not name.endswith(ignored)]
    if left:
        raise InputError(
            stored[left[0]].file, f"holds {left[0]}, for which the config has no place"
        )
    return ours


def check_depth(*num_layers: int, stored: Mapping[str, StoredTensor], source: Path) -> None:
    """Refuse a config of more layers than there are tensors, before a model is built by it.

    Raises:
        InputError: some of ``num_layers`` is larger.
    """
    if max(num_layers) > len(stored):
        raise InputError(source, f"says {max(num_layers)} layers of {len(stored)} tensors in all")


def fill(
    module: nn.Module,
    stored: Mapping[str, StoredTensor],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    own_types: bool = False,
) -> None:
    """Give a module that was built on the meta device its weights, one tensor at a time.

    Each lies in new, aligned memory afterwards, whatever its place in the file was.

    Args:
        module: parameters that share memory share it again.
        stored: a tensor for every parameter, under the parameter's name.
        device: where the weights go.
        dtype: what they are cast to; None keeps each as stored.
        own_types: cast each to the type that the module has for it.

    Raises:
        InputError: a tensor is not as large as the module wants it.
    """
    parameters = list(module.named_parameters(remove_duplicate=False))
    for name, parameter in parameters:
        if name in stored:
            check_shape(stored[name], tuple(parameter.shape))
    made: dict[int, nn.Parameter] = {}
    for name, parameter in parameters:
        if id(parameter) not in made:
            kind = parameter.dtype if own_types else dtype
            tensor = read_tensor(stored[name], device=device, dtype=kind)
            made[id(parameter)] = nn.Parameter(tensor, requires_grad=parameter.requires_grad)
    state = {name: made[id(parameter)] for name, parameter in parameters}
    module.load_state_dict(state, assign=True)


def check_shape(entry: StoredTensor, wanted: tuple[int, ...]) -> None:
    """Refuse a tensor of another size than a model wants.

    Raises:
        InputError: names the file and both sizes.
    """
    if entry.shape != wanted:
        raise InputError(
            entry.file, f"{entry.name} is {list(entry.shape)}, the config wants {list(wanted)}"
        )


def read_tensor(
    entry: StoredTensor,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A stored tensor in memory of its own.

    Raises:
        InputError: it holds no floating-point numbers.
    """
    tensor = mapped_tensor(entry)
    return torch.empty(tensor.shape, dtype=dtype or tensor.dtype, device=device).copy_(tensor)


def mapped_tensor(entry: StoredTensor) -> Tensor:
    """A stored tensor as its file gives it: often the file's pages, which are read when used.

    Raises:
        InputError: it holds no floating-point numbers.
    """
    tensor = entry.read()
    if not tensor.is_floating_point() or tensor.element_size() == 1:
        raise InputError(
            entry.file, f"{entry.name} is {tensor.dtype}: quantized weights are not read"
        )
    return tensor


def write_safetensors(
    directory: Path,
    tensors: Mapping[str, Tensor | tuple[Tensor, ...]],
    *,
    stem: str = "model",
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write ``STEM.safetensors``, or shards and their index where it would be too large.

    Args:
        directory: exists.
        tensors: by name; a tuple is written as one tensor, its parts one below the other.
        stem: start of the files' names.
        max_shard_bytes: largest file, unless one tensor alone is larger.
    """
    plan = split_torch_state_dict_into_shards(
        {name: _shape_of(tensor) for name, tensor in tensors.items()},
        filename_pattern=stem + "{suffix}.safetensors",
        max_shard_size=max_shard_bytes,
    )
    for file, names in plan.filename_to_tensors.items():
        shard = {name: _joined(tensors[name]) for name in names}
        path = directory / file
        path.touch()
        mode = path.stat().st_mode  # the library's own files are for their owner's eyes alone
        save_file(shard, path, metadata={"format": "pt"})
        path.chmod(mode)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_json(directory / f"{stem}.safetensors.index.json", index)


def _joined(tensor: Tensor | tuple[Tensor, ...]) -> Tensor:
    joined = torch.cat(tensor) if isinstance(tensor, tuple) else tensor
    return joined.detach().contiguous()


def _shape_of(tensor: Tensor | tuple[Tensor, ...]) -> Tensor:
    """What will be written, without its memory."""
    parts = tensor if isinstance(tensor, tuple) else (tensor,)
    return torch.cat([torch.empty_like(part, device="meta") for part in parts])
