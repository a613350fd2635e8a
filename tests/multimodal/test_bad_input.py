"""Whatever is wrong with what a user gives costs one clear line and status 2."""

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import multimodal.assistant
from multimodal.adapter_checkpoint import save_adapter
from multimodal.assistant import Assistant
from multimodal.checkpoint import load_model, save_model
from multimodal.cli import main


@pytest.fixture(scope="module")
def assistant(model_directory: Path) -> Assistant:
    return multimodal.assistant.load(model_directory, device="cpu")


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch) -> None:
    """Work in an empty folder that holds one good picture."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(noise).save("good.png")


def one_line(capsys, *words: str | Path) -> str:
    """Run the command; return the one line that it leaves on stderr."""
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (status, out) == (2, ""), err
    (line,) = err.splitlines()
    assert line.startswith("openherd: ")
    return line.removeprefix("openherd: ")


def write(data: bytes) -> Callable[[str], None]:
    return lambda name: Path(name).write_bytes(data) and None


def truncated(name: str) -> None:
    data = Path("good.png").read_bytes()
    Path(name).write_bytes(data[: len(data) // 2])


def bomb(name: str) -> None:
    """A PNG whose header promises 10^10 pixels in a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1_000)))
    Path(name).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels)


PICTURES = {
    "missing.png": (lambda name: None, "no such file"),
    "empty.jpg": (lambda name: Path(name).touch(), "empty file"),
    "truncated.png": (truncated, "broken or truncated"),
    "words.webp": (write(b"these are words"), "not a JPEG, PNG, WebP or GIF"),
    "program.png": (write(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "not a JPEG, PNG, WebP or GIF"),
    "playlist.jpg": (write(b"#EXTM3U\nfile:///etc/passwd\n"), "not a JPEG, PNG, WebP or GIF"),
    "pipe.png": (os.mkfifo, "not a regular file"),
    "folder.png": (os.mkdir, "a folder without pictures"),
    "thin.png": (lambda name: Image.new("L", (1, 30_000)).save(name), "too thin"),
    "bomb.png": (bomb, "pixels allowed"),
}


@pytest.mark.parametrize("verb", ["caption", "ask"])
@pytest.mark.parametrize("name", PICTURES)
def test_picture(name, verb, assistant, monkeypatch, capsys):
    monkeypatch.setattr(multimodal.assistant, "load", lambda *_, **__: assistant)
    make, fault = PICTURES[name]
    make(name)
    question = ["What?"] if verb == "ask" else []
    line = one_line(capsys, verb, name, *question)
    assert line.startswith(f"{name}: ") and fault in line


@pytest.mark.parametrize("name", PICTURES)
def test_picture_of_a_dialogue(name, assistant, monkeypatch, capsys):
    monkeypatch.setattr(multimodal.assistant, "load", lambda *_, **__: assistant)
    make, fault = PICTURES[name]
    make(name)
    line = one_line(capsys, "chat", name)
    assert line.startswith(f"{name}: ") and (fault in line or "a folder" in line)


def test_three_hundred_thousand_tokens(assistant, monkeypatch, capsys):
    monkeypatch.setattr(multimodal.assistant, "load", lambda *_, **__: assistant)
    line = one_line(capsys, "ask", "good.png", "cup " * 300_000)
    assert "at most 512 fit" in line or "more than 512 tokens hold" in line


def no_weights(directory: Path) -> str:
    (directory / "model.safetensors").unlink()
    return "no weights"


def no_tokenizer(directory: Path) -> str:
    (directory / "tokenizer.json").unlink()
    return "no tokenizer"


def nothing_at_all(directory: Path) -> str:
    for path in directory.iterdir():
        path.unlink()
    return "no model"


def gone(directory: Path) -> str:
    shutil.rmtree(directory)
    return "no such directory"


def a_file(directory: Path) -> str:
    shutil.rmtree(directory)
    directory.touch()
    return "not a directory"


def unknown_architecture(directory: Path) -> str:
    (directory / "config.json").write_text('{"architectures": ["BertModel"]}')
    return "BertModel"


def broken_config(directory: Path) -> str:
    (directory / "config.json").write_text("{")
    return "not JSON"


def unknown_key(directory: Path) -> str:
    data = json.loads((directory / "config.json").read_text())
    data["language"]["colour"] = 3
    (directory / "config.json").write_text(json.dumps(data))
    return "colour"


def wrong_size(directory: Path) -> str:
    tensors = load_file(directory / "model.safetensors")
    tensors["language.norm.weight"] = torch.ones(7)
    save_file(tensors, directory / "model.safetensors")
    return "language.norm.weight"


def lacking(directory: Path) -> str:
    tensors = load_file(directory / "model.safetensors")
    del tensors["language.norm.weight"]
    save_file(tensors, directory / "model.safetensors")
    return "language.norm.weight"


def cut_short(directory: Path) -> str:
    data = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(data[: len(data) // 2])
    return "not a whole safetensors file"


def pickled_weights(directory: Path) -> str:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    return "may hold code"


def shards(directory: Path) -> tuple[Path, dict]:
    """Write the weights again in several files, and return the index."""
    model = load_model(directory)
    save_model(model, directory, companions=directory, max_shard_bytes=20_000)
    (index,) = directory.glob("*.index.json")
    return index, json.loads(index.read_text())


def shard_missing(directory: Path) -> str:
    index, data = shards(directory)
    (directory / data["weight_map"]["language.norm.weight"]).unlink()
    return "which is missing"


def shard_lacks(directory: Path) -> str:
    index, data = shards(directory)
    files = sorted(set(data["weight_map"].values()))
    at = files.index(data["weight_map"]["language.norm.weight"])
    data["weight_map"]["language.norm.weight"] = files[at - 1]
    index.write_text(json.dumps(data))
    return "lacks language.norm.weight"


def shard_elsewhere(directory: Path) -> str:
    index, data = shards(directory)
    data["weight_map"]["language.norm.weight"] = "../../etc/passwd"
    index.write_text(json.dumps(data))
    return "isn't a file beside it"


MODELS = [
    no_weights,
    no_tokenizer,
    nothing_at_all,
    gone,
    a_file,
    unknown_architecture,
    broken_config,
    unknown_key,
    wrong_size,
    lacking,
    cut_short,
    pickled_weights,
    shard_missing,
    shard_lacks,
    shard_elsewhere,
]


@pytest.mark.parametrize("spoil", MODELS, ids=lambda spoil: spoil.__name__)
def test_model_directory(spoil, model_directory, tmp_path, capsys):
    shutil.copytree(model_directory, tmp_path / "model")
    fault = spoil(tmp_path / "model")
    line = one_line(capsys, "caption", "good.png", "--model", "model", "--device", "cpu")
    assert line.startswith("model") and fault in line


def test_tokenizer_of_another_model(model_directory, tmp_path, capsys):
    from language.tokenizer import train_bpe

    shutil.copytree(model_directory, tmp_path / "model")
    words = [f"{a}{b}{c} " * 3 for a in "bdfg" for b in "aeiou" for c in "lmnr"]
    train_bpe(words, num_merged=200).save(Path("model"))
    line = one_line(capsys, "caption", "good.png", "--model", "model", "--device", "cpu")
    assert "its tokenizer has" in line


@pytest.fixture
def adapter(model_directory: Path, tmp_path: Path) -> Path:
    save_adapter(load_model(model_directory), tmp_path / "adapter", core_name="the first core")
    return tmp_path / "adapter"


def test_adapter_with_its_core(adapter, model_directory, capsys, assistant):
    words = ["--core", str(model_directory), "--device", "cpu", "--max_new_tokens", "3"]
    assert main(["caption", "good.png", "--model", "adapter", *words]) == 0
    assert assistant.caption("good.png").startswith(capsys.readouterr().out.rstrip("\n"))


def test_adapter_of_another_core(adapter, model_directory, tmp_path, capsys):
    other = load_model(model_directory)
    with torch.no_grad():
        other.language.norm.weight[0] += 1
    save_model(other, tmp_path / "other", companions=model_directory)
    words = ["--model", "adapter", "--core", "other", "--device", "cpu"]
    line = one_line(capsys, "caption", "good.png", *words)
    assert line.startswith("adapter: ") and "the first core" in line


def test_adapter_without_its_core(adapter, capsys):
    line = one_line(capsys, "caption", "good.png", "--model", "adapter", "--device", "cpu")
    assert "which core" in line


def test_whole_model_with_a_core(model_directory, capsys):
    words = ["--model", model_directory, "--core", model_directory, "--device", "cpu"]
    assert "a whole model" in one_line(capsys, "caption", "good.png", *words)


@pytest.mark.parametrize("device", ["cuda:99", "nowhere"])
def test_device_that_is_not_there(device, model_directory, capsys):
    words = ["--model", model_directory, "--device", device]
    assert device in one_line(capsys, "caption", "good.png", *words)


def test_hub_that_cannot_be_reached(monkeypatch, capsys):
    import huggingface_hub

    def unreachable(*_, **__):
        raise OSError("Name or service not known\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    line = one_line(capsys, "caption", "good.png", "--model", "some-body/some-model")
    assert line.startswith("some-body/some-model: ") and "not known" in line


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["info", "gone"], "no such directory"),
        (["info", "gone.yaml"], "no such config"),
        (["info", "g" * 300], "cannot be read (File name too long)"),
        (["convert", "gone", "new"], "no such directory"),
        (["fit", "--config", "gone.yaml"], "no such config"),
        (["fit", "--config"], "give a file"),
        (["fit", "--nope", "3"], "nope"),
    ],
)
def test_names_that_mean_nothing(words, fault, capsys):
    assert fault in one_line(capsys, *words)


def test_convert_onto_what_is_no_checkpoint(model_directory, tmp_path, capsys):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").touch()
    words = ["convert", model_directory, "precious", "--to", "openherd"]
    assert "thesis.tex" in one_line(capsys, *words)
    assert (tmp_path / "precious" / "thesis.tex").exists()
    assert "is the source itself" in one_line(capsys, "convert", model_directory, model_directory)


def test_yaml_with_an_unknown_key(capsys):
    Path("mine.yaml").write_text("trainer:\n  max_stepps: 3\n")
    assert "max_stepps" in one_line(capsys, "fit", "--config", "mine.yaml")


def test_yaml_that_is_none(capsys):
    Path("mine.yaml").write_text("trainer: [")
    assert "mine.yaml" in one_line(capsys, "fit", "--config", "mine.yaml")
