"""What README and docs say holds: commands and Python run, links lead somewhere.

They run in a folder as the text supposes it, on random weights in place of the shipped model. What
stands with its answers is asked of the shipped model itself.
"""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import multimodal.locations
import multimodal.speaking
from language.checkpoint import save_llama
from multimodal.adapter_checkpoint import save_adapter
from multimodal.checkpoint import load_model, save_model
from multimodal.cli import VERBS, main
from multimodal.training.config_files import find_config
from multimodal.training.video_parts import FreshAggregator, VideoParts, build_video
from tests.multimodal.clip_files import clip_bytes, write_folder, write_gif
from tests.multimodal.evaluation.sets import docvqa, librispeech
from tests.multimodal.speaking import sound, write_speaking

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = multimodal.locations.TINY
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*DOCUMENTS, *sorted((ROOT / "docs").glob("*/*.md"))]
"""Those of docs' folders are run by test_guides.py."""
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (document.name, text)
        for document in DOCUMENTS
        for kind, text in BLOCK.findall(document.read_text())
        if kind == language
    ]


def lines(word: str) -> list[tuple[str, str]]:
    """Lines of the shell blocks that run a program."""
    return [
        (name, line)
        for name, text in blocks("bash")
        for line in text.replace("\\\n", " ").splitlines()
        if word in shlex.split(line, comments=True)
    ]


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory) -> Path:
    """Random weights that see, watch and hear."""
    folder = tmp_path_factory.mktemp("models")
    parts = VideoParts(
        core=str(write_speaking(folder / "speaking")),
        aggregator=FreshAggregator(dim=16, num_layers=1, num_heads=2, ffn_dim=24),
        num_frames=2,
        max_num_tiles=1,
    )
    save_model(build_video(parts), folder / "random", companions=folder / "speaking")
    return folder / "random"


@pytest.fixture(autouse=True)
def folder(tmp_path, model_directory, monkeypatch) -> None:
    """photo.jpg, folder/, clips, frames/, talk.flac, recordings/, models under path/to/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(multimodal.locations, "TINY", model_directory)
    monkeypatch.setattr(multimodal.speaking, "SHIPPED", SHIPPED / "speaker")
    for name in ("photo.jpg", "folder/other.png"):
        Path(name).parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
        Image.fromarray(noise).save(name)
    Path("clip.mp4").write_bytes(clip_bytes(4, sound=0.5))
    Path("clip.webm").write_bytes(clip_bytes(4, container="webm", codec="libvpx"))
    write_gif(Path("animation.gif"), number=3)
    write_folder(Path("frames"), number=3)
    with tarfile.open("clips.tar", "w") as archive:
        for name, data in (("0.mp4", clip_bytes(4)), ("0.json", b'{"text": "A square moves."}')):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    docvqa(Path("sets/docvqa"))
    librispeech(Path("sets/librispeech"))
    Path("recordings").mkdir()
    for name in ("talk.flac", "recordings/hello.wav"):
        soundfile.write(name, *sound(1.5))
    line = {"audio_filepath": "hello.wav", "duration": 1.5, "text": "What is the cup?"}
    Path("recordings/manifest.jsonl").write_text(json.dumps(line) + "\n")
    for name in ("model", "core"):
        shutil.copytree(model_directory, Path("path/to") / name)
    model = load_model(model_directory)
    save_llama(model.language, Path("path/to/published"), companions=model_directory)
    save_adapter(model, Path("path/to/adapter"))


COMMANDS = [(name, line) for name, line in lines("openherd") if "--config" not in line]


@pytest.mark.parametrize(("name", "line"), COMMANDS, ids=lambda value: value)
def test_command(name, line, monkeypatch, capsys):
    words = shlex.split(line, comments=True)
    typed, words = words[: words.index("openherd")], words[words.index("openherd") + 1 :]
    said = " ".join(typed[1:-1]) if typed else "What?"  # echo "..." | openherd
    monkeypatch.setattr(sys, "stdin", io.StringIO(said + "\n"))
    if "runs/docvqa" in words and "--data" not in words:  # of answers that an earlier line made
        assert main(shlex.split("evaluate docvqa --data sets/docvqa --out runs/docvqa")) == 0
    if words[0] in ("caption", "ask", "chat", "transcribe", "translate", "respond"):
        words += ["--max_new_tokens", "4", "--device", "cpu"]
    assert main(words) == 0, capsys.readouterr().err


@pytest.mark.parametrize(("name", "text"), blocks("console"), ids=lambda value: value[:30])
def test_transcript(name, text, monkeypatch, capsys):
    """The shipped model answers as the document says."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(multimodal.locations, "TINY", SHIPPED)
    for part in text.split("$ ")[1:]:
        command, answer = part.split("\n", 1)
        words = shlex.split(command)[1:]
        words += [] if words[0] == "speak" else ["--device", "cpu"]
        assert main(words) == 0
        assert capsys.readouterr().out == answer


@pytest.mark.parametrize(("name", "text"), blocks("python"), ids=lambda value: value[:30])
def test_python(name, text):
    exec(compile(text, name, "exec"), {})


@pytest.mark.parametrize(
    ("name", "line"), [pair for pair in lines("openherd") if pair not in COMMANDS], ids=str
)
def test_training_command_names_a_config(name, line):
    words = shlex.split(line, comments=True)
    words = words[words.index("openherd") + 1 :]
    assert words[0] in VERBS
    config = words[words.index("--config") + 1]
    assert config == "FILE" or find_config(config).is_file()


def test_make_targets_exist():
    known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [shlex.split(line, comments=True)[1] for _, line in lines("make")]
    assert named and set(named) <= known


def test_links_lead_somewhere():
    links = [
        (document, link.split("#")[0])
        for document in PAGES
        for link in re.findall(r"\]\(([^)]+)\)", document.read_text())
        if "://" not in link
    ]
    assert links
    for document, link in links:
        assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_the_tree_is_the_tree():
    """Each folder that README lists is there, and each that holds code is listed."""
    text = (ROOT / "README.md").read_text()
    (tree,) = [t for kind, t in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if not kind]
    listed = {line.split()[0] for line in tree.splitlines() if not line.startswith(" ")}
    packages = {f"{path.parent.name}/" for path in ROOT.glob("*/__init__.py")}
    assert listed == packages | {"configs/", "tests/", "benchmarks/", "docs/"}
    assert all((ROOT / name).is_dir() for name in listed)


def test_the_site_builds_and_asks_nothing_of_other_hosts(tmp_path):
    """Every page, every reference, every link; search works from the index that lies beside."""
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", site]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    pages = list(site.rglob("index.html"))
    assert len(pages) >= len(list((ROOT / "docs").rglob("*.md")))
    fetched = re.compile(r"<(script|img|link[^>]+stylesheet)[^>]+(src|href)=.https?:")
    for page in pages:
        text = page.read_text()
        assert not fetched.search(text), page
        assert "\n```" not in text and "<p>|" not in text, f"{page}: a block or table not rendered"
        for image in re.findall(r'<img[^>]+src="([^"]+)"', text):
            assert image.startswith("data:") or (page.parent / image).exists(), f"{page}: {image}"
    assert (site / "search" / "search_index.json").stat().st_size > 10_000
    assert "MeshStrategy" in (site / "reference" / "index.html").read_text()
