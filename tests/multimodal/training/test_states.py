"""Whatever stops a save, and whatever happens to its files: the last good state is found."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from language.errors import InputError
from multimodal.training.checkpoints import FILE, WholeStates, latest
from multimodal.training.states import (
    FOLDER,
    MANIFEST,
    check_state,
    newest_state,
    prune_states,
    write_state,
)

ROOT = Path(__file__).resolve().parents[3]


def write(run: Path, step: int, *, data: bytes = b"x" * 5000) -> Path:
    state = run / FOLDER / f"step-{step}"
    write_state(state, {"a.bin": lambda file: file.write(data), "b.bin": lambda file: None})
    return state


@pytest.mark.parametrize("broken", ["torch.save", "os.replace", "os.fsync"])
def test_a_save_that_fails_leaves_the_state_before(tmp_path, monkeypatch, broken):
    first, second = (tmp_path / FOLDER / f"step-{step}" for step in (1, 2))
    states = WholeStates()
    states.save_checkpoint({"step": 1}, first)

    def crash(*args, **_):
        if broken == "torch.save":
            args[1].write(b"half a state")
        raise OSError("no space left on device")

    monkeypatch.setattr(broken, crash)
    with pytest.raises(InputError, match="step-2: .*no space.*before it are untouched"):
        states.save_checkpoint({"step": 2}, second)
    monkeypatch.undo()
    assert latest(tmp_path) == first and states.load_checkpoint(first)["step"] == 1
    states.save_checkpoint({"step": 3}, second)
    assert latest(tmp_path) == second and states.load_checkpoint(second)["step"] == 3
    assert {file.name for file in first.parent.iterdir()} == {"step-1", "step-2"}


LIMITED = """
import resource, sys, torch
from pathlib import Path
from language.errors import InputError
from multimodal.training.checkpoints import WholeStates
folder = Path(sys.argv[1])
WholeStates().save_checkpoint({"w": torch.zeros(100)}, folder / "step-1")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    WholeStates().save_checkpoint({"w": torch.zeros(1_000_000)}, folder / "step-2")
except InputError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / FOLDER)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert "step-2: this state could not be written" in line
    assert latest(tmp_path).name == "step-1"
    assert [file.name for file in (tmp_path / FOLDER).iterdir()] == ["step-1"]


WRITER = """
import os, sys
from pathlib import Path
from multimodal.training.states import prune_states, write_state
folder, step = Path(sys.argv[1]), int(sys.argv[2])
while True:
    step += 1
    data = os.urandom(300_000)
    write_state(folder / f"step-{step}", {"a": lambda f: f.write(data), "b": lambda f: f.write(data)})
    print(step, flush=True)
    prune_states(folder, keep=2, for_good=lambda step: False)
"""  # noqa: E501


def test_killed_at_random_moments_the_newest_state_is_whole(tmp_path):
    """SIGKILL, again and again in the same folder: what was said to be saved is there."""
    rng, step = random.Random(0), 0
    for _ in range(8):
        words = [sys.executable, "-c", WRITER, str(tmp_path / FOLDER), str(step)]
        writer = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert writer.stdout.readline()  # it has begun
        time.sleep(rng.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        said = [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        newest = newest_state(tmp_path)
        found = int(newest.name.removeprefix("step-"))
        assert found >= max(said, default=step + 1)
        step = found


def cut(state: Path) -> None:
    (state / "a.bin").write_bytes(b"x" * 4999)


def flip(state: Path) -> None:
    data = bytearray((state / "a.bin").read_bytes())
    data[1234] ^= 1
    (state / "a.bin").write_bytes(data)


def remove(state: Path) -> None:
    (state / "b.bin").unlink()


def unsay(state: Path) -> None:
    (state / MANIFEST).unlink()


def scribble(state: Path) -> None:
    (state / MANIFEST).write_text('{"number": 9, "files": {"a.bin": 3}}')


def empty(state: Path) -> None:
    shutil.rmtree(state)
    state.mkdir()


@pytest.mark.parametrize(
    "damage, fault",
    [
        (cut, "a.bin: 4,999 bytes, where 5,000 were written"),
        (flip, "a.bin: damaged"),
        (remove, "b.bin: unreadable"),
        (unsay, "no whole state: manifest.json"),
        (scribble, "manifest.json: damaged"),
        (empty, "no whole state: manifest.json"),
    ],
)
def test_the_last_good_state_is_used_and_the_bad_one_named(tmp_path, damage, fault):
    states = [write(tmp_path, step) for step in (1, 2, 3)]
    damage(states[2])
    told = []
    assert newest_state(tmp_path, skipped=told.append) == states[1]
    (error,) = told
    assert fault in str(error)
    with pytest.raises(InputError, match=fault):
        check_state(states[2])
    shutil.rmtree(states[0])
    shutil.rmtree(states[1])
    assert newest_state(tmp_path) is None


def test_a_manifest_cannot_point_elsewhere(tmp_path):
    state = write(tmp_path, 1)
    secret = tmp_path / FOLDER / "a.bin"
    secret.write_bytes(b"y" * 5000)
    text = (state / MANIFEST).read_text().replace('"a.bin"', '"../a.bin"')
    (state / MANIFEST).write_text(text)
    check_state(state)  # of the state's own file


def test_nothing_to_go_on_from(tmp_path):
    assert newest_state(tmp_path) is None and latest(tmp_path / "gone") is None
    with pytest.raises(InputError, match="step-7: no such state"):
        WholeStates().load_checkpoint(tmp_path / FOLDER / "step-7")


def test_a_run_begun_anew_in_the_same_folder_is_the_newest(tmp_path):
    for step in (100, 200):
        write(tmp_path, step)
    again = write(tmp_path, 100, data=b"new")
    assert newest_state(tmp_path) == again
    assert (again / "a.bin").read_bytes() == b"new"


def test_a_crash_while_one_state_replaces_another_loses_neither(tmp_path, monkeypatch):
    """With one state there is, and a run begun anew that saves at the same step."""
    write(tmp_path, 100, data=b"old")
    renamed = os.replace

    def crash(source, target):
        if Path(source).suffix == ".tmp":
            raise OSError("no space left on device")
        renamed(source, target)

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(InputError, match="no space"):
        write(tmp_path, 100, data=b"new")
    monkeypatch.undo()
    assert (newest_state(tmp_path) / "a.bin").read_bytes() == b"old"
    again = write(tmp_path, 100, data=b"new")
    assert newest_state(tmp_path) == again
    write(tmp_path, 200)
    prune_states(tmp_path / FOLDER, keep=2, for_good=lambda step: False)
    assert {state.name for state in again.parent.iterdir()} == {"step-100", "step-200"}


def test_old_states_go_but_for_those_kept_for_good(tmp_path):
    for step in (1000, 1500, 2000, 2500, 3000):
        write(tmp_path, step)
    prune_states(tmp_path / FOLDER, keep=2, for_good=lambda step: step % 2000 == 0)
    left = {state.name for state in (tmp_path / FOLDER).iterdir()}
    assert left == {"step-2000", "step-2500", "step-3000"}


def test_what_a_crash_left_is_not_a_state(tmp_path):
    state = write(tmp_path, 1)
    unfinished = state.with_name("step-2.tmp")
    shutil.copytree(state, unfinished)
    assert newest_state(tmp_path) == state
    write(tmp_path, 2)
    assert not unfinished.exists()


def test_a_state_holds_one_file_that_runs_no_code(tmp_path):
    class Code:
        def __reduce__(self):
            return print, ("ran",)

    path = tmp_path / FOLDER / "step-1"
    WholeStates().save_checkpoint({"step": 1, "evil": Code()}, path)
    assert {file.name for file in path.iterdir()} == {FILE, MANIFEST}
    with pytest.raises(Exception, match="(?i)weights.only|unsupported"):
        WholeStates().load_checkpoint(path)
