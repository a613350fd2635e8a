"""Tutorials, how-to and design pages: each runs from top to bottom as a reader would run it.

The folder is like a clean clone, with the shipped model, which answers as the page says. Blocks:

- `bash`: every command succeeds;
- `console`: behind each ``$`` a command, then what it prints, where ``...`` stands for anything;
- `python`: runs in one namespace a page; an `output` block behind it is what it prints;
- with ``title="FILE"``: what stands in that file;
- `text`: is not run.

Trainings are cut to a few samples and steps here, and what a page shows after them is not compared;
the slow tests run tutorials whole and compare.
"""

import contextlib
import io
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import multimodal.evaluation.benchmarks
from multimodal.cli import main
from tests.multimodal.guide_files import PREPARED

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    page
    for kind in ("tutorials", "how-to", "design")
    for page in sorted((ROOT / "docs" / kind).glob("*.md"))
]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LONG = [ROOT / "docs" / "tutorials" / "train-an-adapter.md"]
BENCHMARKS = Path("multimodal/evaluation/benchmarks")
SAMPLES, STEPS = 40, 2
"""Of data that is made to train on; of each training, and as many more when it is resumed."""


class Reader:
    """Somebody who follows a page."""

    def __init__(self, page: Path, monkeypatch: pytest.MonkeyPatch, *, is_quick: bool) -> None:
        self.page, self.monkeypatch, self.is_quick = page, monkeypatch, is_quick
        self.has_trained = False
        self.steps: dict[str, int] = {}
        self.namespace: dict[str, Any] = {"__name__": "page"}

    def follow(self) -> None:
        said = io.StringIO()
        for kind, title, text in BLOCK.findall(self.page.read_text()):
            if title:
                Path(title).parent.mkdir(parents=True, exist_ok=True)
                assert not Path(title).exists(), f"{title}: a page makes files of its own"
                Path(title).write_text(text)
                if Path(title).parent == BENCHMARKS:
                    self.add_benchmark(Path(title).stem)
            elif kind == "bash":
                for line in text.replace("\\\n", " ").splitlines():
                    self.run(line)
            elif kind == "console":
                for part in text.split("$ ")[1:]:
                    command, shown = part.split("\n", 1)
                    self.compare(self.run(command), shown, of=command)
            elif kind == "python":
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    exec(compile(text, self.page.name, "exec"), self.namespace)
            elif kind == "output":
                self.compare(said.getvalue(), text, of="python")
            else:
                assert kind in ("text", "yaml"), f"{self.page.name}: a block of {kind}"

    def add_benchmark(self, name: str) -> None:
        """What the page says in words: write its name into NAMES."""
        monkeypatch, package = self.monkeypatch, multimodal.evaluation.benchmarks
        monkeypatch.setattr(package, "NAMES", (*package.NAMES, name))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(BENCHMARKS.absolute())])

    def compare(self, said: str, shown: str, *, of: str) -> None:
        if self.is_quick and self.has_trained:
            return
        wanted = re.escape(shown.strip()).replace(re.escape("..."), ".*?")
        assert re.fullmatch(wanted, said.strip(), re.DOTALL), f"{of}\n{said}\nis not\n{shown}"

    def run(self, line: str) -> str:
        """What a command prints on stdout."""
        before, pipe, line = line.rpartition("| openherd ")
        words = shlex.split(pipe.removeprefix("| ") + line, comments=True)
        typed = subprocess.run(before, shell=True, capture_output=True, text=True).stdout
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with contextlib.redirect_stdout(io.StringIO()) as said:
            if words[:1] == ["openherd"]:
                words = words[1:]
                if words[0] == "fit" and "--print_config" not in words:
                    words = self.trained(words)
                try:
                    status = main(words)
                except SystemExit as stop:  # --help, --print_config
                    status = stop.code or 0
                assert status == 0, f"{line}: {status}"
            elif words[:2] == ["python", "-m"]:
                if self.is_quick and "train" in words:
                    words[words.index("--number") + 1] = str(SAMPLES)
                self.monkeypatch.setattr(sys, "argv", words[2:])
                runpy.run_module(words[2], run_name="__main__", alter_sys=True)
            elif words:
                assert not {"pip", "make", ".", "source"} & set(words[:1]), f"{line}: make it text"
                done = subprocess.run(line, shell=True, capture_output=True, text=True)
                assert done.returncode == 0, f"{line}\n{done.stderr}"
                print(done.stdout, end="")
        return said.getvalue()

    def trained(self, words: list[str]) -> list[str]:
        """The words of a training, with what is different where it is tested."""
        self.has_trained = True
        prepared = PREPARED.get(self.page.name)
        extra = [] if prepared is None else list(prepared.words)
        if self.is_quick:
            config = words[words.index("--config") + 1]
            self.steps[config] = self.steps.get(config, 0) + STEPS
            extra += [
                f"--trainer.max_steps={self.steps[config]}",
                f"--trainer.val_check_interval={STEPS}",
                "--trainer.limit_val_batches=1",
                "--trainer.accelerator=cpu",
                "--data.init_args.num_workers=0",
            ]
        return words + extra


@pytest.fixture(autouse=True)
def clone(tmp_path, monkeypatch) -> None:
    """What lies in a clean clone that pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # pages say what a CPU answers
    monkeypatch.setenv("OPENHERD_CACHE", str(tmp_path.with_name(f"{tmp_path.name}-cache")))
    Path("multimodal").mkdir()
    for name in ("multimodal/_tiny", "configs", "README.md"):
        Path(name).symlink_to(ROOT / name)


def followed(page: Path, monkeypatch: pytest.MonkeyPatch, *, is_quick: bool) -> None:
    if page.name in PREPARED:
        PREPARED[page.name].prepare()
    with torch.enable_grad():  # a page may turn gradients off, for itself alone
        Reader(page, monkeypatch, is_quick=is_quick).follow()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_page(page: Path, monkeypatch):
    followed(page, monkeypatch, is_quick=True)


@pytest.mark.slow
@pytest.mark.parametrize("page", LONG, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_page_whole(page: Path, monkeypatch):
    followed(page, monkeypatch, is_quick=False)
