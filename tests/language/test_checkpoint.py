"""Reading and writing the core: what is written comes back, faults are named, memory is bounded."""

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from language.checkpoint import load_llama, save_llama
from language.config import LLAMA_CONFIGS, LlamaConfig, RopeScaling
from language.directories import written_whole
from language.errors import InputError
from language.meta import config_from_params
from language.model import Llama

SMALL = LlamaConfig(
    vocab_size=64, dim=32, num_layers=3, num_heads=4, num_kv_heads=2, ffn_dim=48, norm_eps=1e-5
)


@pytest.fixture
def core() -> Llama:
    torch.manual_seed(0)
    model = Llama(SMALL)
    model.reset_parameters()
    return model


@pytest.fixture
def one_file(core: Llama, tmp_path: Path) -> Path:
    save_llama(core, tmp_path / "one")
    return tmp_path / "one"


@pytest.fixture
def shards(core: Llama, tmp_path: Path) -> Path:
    save_llama(core, tmp_path / "shards", max_shard_bytes=20_000)
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    return tmp_path / "shards"


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        LlamaConfig(
            vocab_size=30,
            dim=16,
            num_layers=1,
            num_heads=2,
            num_kv_heads=1,
            head_dim=12,
            ffn_dim=8,
            tied_embeddings=True,
            norm_eps=1e-6,
            rope_theta=12_345.0,
            rope_scaling=RopeScaling(factor=32.0, original_max_positions=100),
            max_positions=3200,
        ),
    ],
)
def test_config_and_weights_come_back(config: LlamaConfig, tmp_path: Path) -> None:
    core = Llama(config)
    save_llama(core, tmp_path / "saved")
    back = load_llama(tmp_path / "saved")
    assert back.config == config
    for name, tensor in back.state_dict().items():
        assert torch.equal(tensor, core.state_dict()[name]), name
    assert (back.head.weight is back.embedding.weight) == config.tied_embeddings


def test_cast_on_the_way(one_file: Path, core: Llama) -> None:
    back = load_llama(one_file, dtype=torch.bfloat16)
    for name, tensor in back.state_dict().items():
        assert torch.equal(tensor, core.state_dict()[name].bfloat16()), name


def test_whoever_may_read_the_config_may_read_the_weights(one_file: Path, shards: Path) -> None:
    for folder in (one_file, shards):
        assert len({file.stat().st_mode for file in folder.iterdir()}) == 1


def test_weights_lie_in_memory_of_their_own(one_file: Path) -> None:
    """Changing the model changes no file, and kernels find aligned memory."""
    before = (one_file / "model.safetensors").read_bytes()
    back = load_llama(one_file)
    for parameter in back.parameters():
        assert parameter.data_ptr() % 64 == 0
        parameter.data.zero_()
    assert (one_file / "model.safetensors").read_bytes() == before


PEAK = """
import sys, threading, time, torch
from language.checkpoint import load_llama

def private():
    fields = dict(line.split(":") for line in open("/proc/self/status"))
    return int(fields["RssAnon"].split()[0]) * 1024

def watch():
    global peak
    while not done:
        peak = max(peak, private())
        time.sleep(0.001)

small, big = sys.argv[1:]
load_llama(small)  # imports what torch imports late
for dtype in torch.bfloat16, torch.float32:
    peak = before = private()
    done = False
    watcher = threading.Thread(target=watch)
    watcher.start()
    model = load_llama(big, dtype=dtype)
    done = True
    watcher.join()
    print(sum(p.numel() * p.element_size() for p in model.parameters()), peak - before)
    del model
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_weights_are_never_held_twice(one_file: Path, tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=1000, dim=512, num_layers=16, num_heads=8, num_kv_heads=8, ffn_dim=2048
    )
    with torch.device("meta"):
        big = Llama(config)
    save_llama(big.to_empty(device="cpu").bfloat16(), tmp_path / "big")
    command = [sys.executable, "-c", PEAK, str(one_file), str(tmp_path / "big")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in result.stdout.splitlines():
        size, taken = map(int, line.split())
        assert size > 100e6
        assert taken < 1.25 * size


Spoil = Callable[[Path], object]


def rewrite(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    file = directory / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def config_with(**changes: object) -> Spoil:
    def spoil(directory: Path) -> None:
        file = directory / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return spoil


def truncate(directory: Path) -> None:
    file = directory / "model.safetensors"
    os.truncate(file, file.stat().st_size - 100)


def widen(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(48, 33)


def quantize(tensors: dict[str, torch.Tensor]) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name].to(torch.int8)


def fifo(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    os.mkfifo(directory / "model.safetensors")


FAULTS: dict[str, tuple[Spoil, str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "config.json: no such file"),
    "config not JSON": (lambda d: (d / "config.json").write_text("{"), "config.json: not JSON"),
    "config a list": (lambda d: (d / "config.json").write_text("[]"), "not a JSON object"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "no weights"),
    "pickled weights": (
        lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"),
        "pytorch_model.bin may hold code",
    ),
    "truncated": (truncate, "model.safetensors: not a whole safetensors file"),
    "empty": (lambda d: (d / "model.safetensors").write_bytes(b""), "not a whole safetensors file"),
    "pipe": (fifo, "model.safetensors: not a regular file"),
    "wrong size": (
        lambda d: rewrite(d, widen),
        r"model.safetensors: model.layers.1.mlp.up_proj.weight is \[48, 33\], .* \[48, 32\]",
    ),
    "missing tensor": (
        lambda d: rewrite(d, lambda t: t.pop("model.norm.weight")),
        "lacks the weights model.norm.weight",
    ),
    "unknown tensor": (
        lambda d: rewrite(d, lambda t: t.update({"model.x": torch.zeros(1)})),
        "model.safetensors: holds model.x, for which the config has no place",
    ),
    "quantized tensor": (lambda d: rewrite(d, quantize), "quantized weights are not read"),
    "other architecture": (
        config_with(architectures=["MistralForCausalLM"]),
        "config.json: architecture MistralForCausalLM is not LlamaForCausalLM",
    ),
    "no architecture": (config_with(architectures=None), "architecture unknown"),
    "biases": (config_with(attention_bias=True), "config.json: attention_bias True"),
    "other rotary scaling": (
        config_with(rope_scaling={"rope_type": "yarn", "factor": 2.0}),
        "config.json: rotary scaling 'yarn'",
    ),
    "scaling without factor": (
        config_with(rope_scaling={"rope_type": "llama3"}),
        "config.json: lacks the key factor",
    ),
    "quantized": (config_with(quantization_config={"bits": 8}), "config.json: .* quantized"),
    "missing key": (config_with(hidden_size=None), "config.json: lacks the key hidden_size"),
    "text for a number": (config_with(hidden_size="big"), "config.json: hidden_size .* 'big'"),
    "heads that do not divide": (config_with(num_attention_heads=3), "config.json: num_heads"),
    "a billion layers": (
        config_with(num_hidden_layers=10**9),
        "lacks the weights model.layers.3.input_layernorm.weight",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_in_one_line(fault: str, one_file: Path) -> None:
    spoil, message = FAULTS[fault]
    spoil(one_file)
    expect_fault(one_file, message)


def expect_fault(directory: Path, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_llama(directory)
    line = str(caught.value)
    assert re.search(message, line), line
    assert "\n" not in line
    assert line.startswith(str(directory))


def index_with(directory: Path, change: Callable[[dict[str, str]], object]) -> None:
    file = directory / "model.safetensors.index.json"
    data = json.loads(file.read_text())
    change(data["weight_map"])
    file.write_text(json.dumps(data))


def first_shard(directory: Path) -> Path:
    return min(directory.glob("model-*.safetensors"))


NORM = "model.norm.weight"
SHARD_FAULTS: dict[str, tuple[Spoil, str]] = {
    "missing shard": (
        lambda d: first_shard(d).unlink(),
        "index.json: names model-00001-of-.*, which is missing",
    ),
    "tensor in another shard": (
        lambda d: index_with(d, lambda m: m.update({NORM: first_shard(d).name})),
        f"model-00001-of-.*: lacks {NORM}, which model.safetensors.index.json says",
    ),
    "tensor not in the index": (
        lambda d: index_with(d, lambda m: m.pop(NORM)),
        f"lacks the weights {NORM}",
    ),
    "file elsewhere": (
        lambda d: index_with(d, lambda m: m.update({NORM: "../../secret.safetensors"})),
        "index.json: names '../../secret.safetensors'",
    ),
    "no map": (
        lambda d: (d / "model.safetensors.index.json").write_text("{}"),
        "index.json: has no weight_map",
    ),
    "truncated shard": (
        lambda d: os.truncate(first_shard(d), 2000),
        "model-00001-of-.*: not a whole safetensors file",
    ),
}


@pytest.mark.parametrize("fault", SHARD_FAULTS)
def test_faults_of_shards(fault: str, shards: Path) -> None:
    spoil, message = SHARD_FAULTS[fault]
    spoil(shards)
    expect_fault(shards, message)


class Bomb:
    """Pickled, it would write a file when read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return exec, (f"open({str(self.trace)!r}, 'w')",)


PARAMS = {
    "dim": 32,
    "n_layers": 1,
    "n_heads": 4,
    "n_kv_heads": 2,
    "vocab_size": 64,
    "multiple_of": 16,
    "norm_eps": 1e-5,
}


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "params.json").write_text(json.dumps(PARAMS))
    return tmp_path / "meta"


def test_pickled_code_is_not_run(meta: Path, tmp_path: Path) -> None:
    torch.save({"norm.weight": Bomb(tmp_path / "ran")}, meta / "consolidated.00.pth")
    expect_fault(meta, "consolidated.00.pth: holds pickled code")
    (meta / "consolidated.00.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    expect_fault(meta, "consolidated.00.pth: ")
    assert not (tmp_path / "ran").exists()


META_FAULTS: dict[str, tuple[Spoil, str]] = {
    "no files": (lambda d: None, "no consolidated"),
    "rank missing": (
        lambda d: [torch.save({}, d / f"consolidated.0{i}.pth") for i in (0, 2)],
        "consolidated.01.pth: missing",
    ),
    "lacks weights": (
        lambda d: torch.save({}, d / "consolidated.00.pth"),
        "lacks the weights tok_embeddings.weight",
    ),
    "not tensors": (lambda d: torch.save([1, 2], d / "consolidated.00.pth"), "not a dictionary"),
    "text": (lambda d: (d / "consolidated.00.pth").write_text("hello"), "consolidated.00.pth: "),
    "a rank of another size": (
        lambda d: [
            torch.save({"tok_embeddings.weight": torch.zeros(n, 32)}, d / f"consolidated.0{i}.pth")
            for i, n in enumerate((32, 31))
        ],
        r"consolidated.01.pth: tok_embeddings.weight is \[31, 32\], unlike",
    ),
    "params without a key": (
        lambda d: (
            (d / "params.json").write_text("{}"),
            torch.save({"tok_embeddings.weight": torch.zeros(64, 32)}, d / "consolidated.00.pth"),
        ),
        "params.json: lacks the key dim",
    ),
}


@pytest.mark.parametrize("fault", META_FAULTS)
def test_faults_of_meta_files(fault: str, meta: Path) -> None:
    spoil, message = META_FAULTS[fault]
    spoil(meta)
    expect_fault(meta, message)


PUBLISHED_PARAMS = {
    "3-8b": (4096, 32, 32, 1.3, 1024, False),
    "3.1-8b": (4096, 32, 32, 1.3, 1024, True),
    "3.1-70b": (8192, 80, 64, 1.3, 4096, True),
    "3.1-405b": (16384, 126, 128, 1.2, 4096, True),
    "3.2-1b": (2048, 16, 32, 1.5, 256, True),
    "3.2-3b": (3072, 28, 24, 1.0, 256, True),
}
"""Numbers of Meta's files, in the order of the keys below."""


@pytest.mark.parametrize("name", PUBLISHED_PARAMS)
def test_published_params(name: str) -> None:
    keys = ("dim", "n_layers", "n_heads", "ffn_dim_multiplier", "multiple_of", "use_scaled_rope")
    params = dict(zip(keys, PUBLISHED_PARAMS[name], strict=True)) | {
        "n_kv_heads": 8,
        "norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "vocab_size": 128_256,
    }
    expected = LLAMA_CONFIGS[name]
    tied = expected.tied_embeddings
    assert config_from_params(params, source=Path("params.json"), tied=tied) == expected


def test_no_directory(tmp_path: Path) -> None:
    expect_fault(tmp_path / "nowhere", "nowhere: no such directory")
    (tmp_path / "file").write_text("")
    expect_fault(tmp_path / "file", "file: not a directory")


@pytest.mark.parametrize("crash_at", range(6))
def test_crash_while_saving_leaves_a_whole_checkpoint(
    crash_at: int, one_file: Path, core: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any step: what was there before can be loaded, or what was being written."""
    old = core.norm.weight.clone()
    core.norm.weight.data += 1
    steps = 0

    def dying(function: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            nonlocal steps
            steps += 1
            if steps > crash_at:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying(Path.rename))
        patch.setattr("language.weights.save_file", dying(save_file))
        patch.setattr("language.directories.flush", dying(lambda path: None))
        patch.setattr("shutil.rmtree", dying(lambda *args, **options: None))
        with pytest.raises(KeyboardInterrupt):
            save_llama(core, one_file)
    found = load_llama(one_file).norm.weight
    assert torch.equal(found, old) or torch.equal(found, core.norm.weight)
    save_llama(core, one_file)
    assert torch.equal(load_llama(one_file).norm.weight, core.norm.weight)
    assert [path.name for path in one_file.parent.iterdir()] == ["one"]


def test_foreign_files_are_not_lost(one_file: Path, core: Llama) -> None:
    (one_file / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds thesis.tex"):
        save_llama(core, one_file)
    assert (one_file / "thesis.tex").read_text() == "years of work"


def test_failed_block_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), written_whole(tmp_path / "new") as target:
        (target / "config.json").write_text("{}")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
