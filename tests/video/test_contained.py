"""Frames from a child process are the same, and a child that dies or hangs costs one clip."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from language.errors import InputError
from tests.video.film_files import film, numbered
from video import contained
from video.contained import ROOT, ContainedDecoder
from video.frames import sample

STEADY = [40 * number for number in range(40)]
GOOD = film(STEADY, size=(320, 240))

FAULTY = f"""
import os, signal, sys, time
sys.path.insert(0, {ROOT!r})
from video import contained

def faulty(clip, num_frames, *, name, decoder, real=contained.stream):
    if "garbage" in name:
        os.write(1, b"a library prints")
    for number, frame in enumerate(real(clip, num_frames, name=name, decoder=decoder)):
        if number == 2 and "crash" in name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 2 and "leave" in name:
            os._exit(3)
        if number == 2 and "hang" in name:
            time.sleep(60)
        if number == 2 and "raise" in name:
            raise RuntimeError("not\\nforeseen")
        if number == 2 and "hungry" in name:
            bytearray(2**34)
        yield frame

contained.stream = faulty
contained.main()
"""


def alike(found, wanted) -> bool:
    return len(found) == len(wanted) and all(
        a.time == b.time and a.picture.tobytes() == b.picture.tobytes()
        for a, b in zip(found, wanted, strict=True)
    )


def pid(decoder: ContainedDecoder) -> int:
    assert decoder._child is not None
    return decoder._child._process.pid


def is_gone(process: int) -> bool:
    """Whether a process ended, waiting a little."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_frames_are_those_of_a_direct_stream(tmp_path: Path):
    path = tmp_path / "ein f\u00fcnfter \u2603.mp4"
    path.write_bytes(GOOD)
    with ContainedDecoder() as decoder:
        assert decoder._child is None
        for source in (path, str(path), GOOD, bytearray(GOOD), memoryview(GOOD)):
            for num_frames in (1, 5, 40):
                frames = list(decoder.stream(source, num_frames))
                assert alike(frames, sample(source, num_frames))
                assert all(frame.picture.mode == "RGB" for frame in frames)
        assert alike(list(decoder(path, 3)), sample(path, 3))
        child = pid(decoder)
        assert os.path.exists(f"/proc/{child}")
    assert is_gone(child)


def test_what_holds_no_file_needs_no_child(tmp_path: Path):
    frames = np.stack([numbered(number) for number in range(4)])
    with ContainedDecoder() as decoder:
        for clip in (frames, (frames, 2.0), list(frames), Image.fromarray(frames[0])):
            assert alike(list(decoder.stream(clip, 3)), sample(clip, 3))
        assert decoder._child is None


def test_bad_clips_cost_their_line_and_no_child():
    with ContainedDecoder() as decoder:
        list(decoder.stream(GOOD, 2))
        child = pid(decoder)
        for clip, fault in ((b"", "empty"), (b"words", "no film"), ("none.mp4", "no such file")):
            with pytest.raises(InputError, match=f"x y: .*{fault}"):
                list(decoder.stream(clip, 2, name="x y"))
        with pytest.raises(InputError, match=r"none.mp4: no such file"):
            list(decoder.stream("none.mp4", 2))
        with pytest.raises(ValueError, match="num_frames"):
            decoder.stream(GOOD, 0)
        assert len(list(decoder.stream(GOOD, 2))) == 2 and pid(decoder) == child


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("crash", f"the decoder crashed (signal {int(signal.SIGSEGV)})"),
        ("leave", "the decoder crashed (status 3)"),
        ("hang", "the decoder took longer than 1.5 s"),
        ("raise", "cannot be decoded (not foreseen)"),
        ("hungry", "its decoder needs more than 4,294,967,296 bytes of memory"),
    ],
)
def test_a_fault_costs_one_clip(name, fault, monkeypatch):
    monkeypatch.setattr(contained, "PROGRAM", FAULTY)
    with ContainedDecoder(seconds_per_clip=1.5) as decoder:
        found = []
        with pytest.raises(InputError) as caught:
            for frame in decoder.stream(GOOD, 5, name=f"{name}.mp4"):
                found.append(frame)
        assert str(caught.value) == f"{name}.mp4: {fault}"
        assert alike(found, sample(GOOD, 5)[: len(found)]) and len(found) == 2
        assert alike(list(decoder.stream(GOOD, 5)), sample(GOOD, 5)), "the next clip is whole"
        assert alike(list(decoder.stream(GOOD, 5, name="garbage")), sample(GOOD, 5))


def test_a_child_that_was_killed_between_clips_is_replaced():
    with ContainedDecoder() as decoder:
        list(decoder.stream(GOOD, 2))
        first = pid(decoder)
        os.kill(first, signal.SIGKILL)
        decoder._child._process.wait()
        assert len(list(decoder.stream(GOOD, 2))) == 2 and pid(decoder) != first


def test_only_waiting_counts():
    with ContainedDecoder(seconds_per_clip=0.6) as decoder:
        list(decoder.stream(GOOD, 2))
        frames = decoder.stream(GOOD, 4)
        next(frames)
        time.sleep(0.8)
        assert len(list(frames)) == 3


def test_a_child_that_cannot_start_is_one_line(monkeypatch):
    monkeypatch.setattr(contained, "PROGRAM", "import nothing_of_this_name")
    with pytest.raises(InputError, match=r"x: the decoder crashed \(status 1\)"):
        list(ContainedDecoder().stream(GOOD, 2, name="x"))
    with pytest.raises(InputError, match="the decoder crashed"):
        list(ContainedDecoder(memory_bytes=2**20).stream(GOOD, 2))


def test_abandoned_clips_leave_the_child_ready():
    with ContainedDecoder() as decoder:
        child = None
        for number in range(6):
            frames = decoder.stream(GOOD, 40)
            for _ in range(number):
                next(frames)
            frames.close()
            assert alike(list(decoder.stream(GOOD, 3)), sample(GOOD, 3))
            assert child in (None, pid(decoder))
            child = pid(decoder)
        finished = decoder.stream(GOOD, 1)  # all of it is in the pipe when it is stopped
        next(finished)
        time.sleep(0.3)
        finished.close()
        assert alike(list(decoder.stream(GOOD, 3)), sample(GOOD, 3))


def test_two_clips_at_once_end_the_first():
    with ContainedDecoder() as decoder:
        first = decoder.stream(GOOD, 40)
        next(first)
        assert alike(list(decoder.stream(GOOD, 5)), sample(GOOD, 5))
        with pytest.raises(InputError, match="the decoder was given another clip"):
            list(first)
        assert alike(list(decoder.stream(GOOD, 5)), sample(GOOD, 5))


def test_nothing_stays_behind():
    before = len(os.listdir("/proc/self/fd"))
    decoder = ContainedDecoder()
    list(decoder.stream(GOOD, 2))
    child = pid(decoder)
    del decoder
    gc.collect()
    assert is_gone(child) and len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_the_child_dies_with_its_parent(end, tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(GOOD)
    code = (
        "import os, sys\n"
        "from video.contained import ContainedDecoder\n"
        "decoder = ContainedDecoder()\n"
        "frames = decoder.stream(sys.argv[1], 40)\n"
        "next(frames)\n"
        "print(decoder._child._process.pid, flush=True)\n" + end
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.mp4"], capture_output=True, text=True, cwd=ROOT
    )
    assert is_gone(int(done.stdout))


class Clips(torch.utils.data.Dataset):
    """Clips that a loader's workers decode, each with a child of its own."""

    def __init__(self, decoder: ContainedDecoder) -> None:
        self.decoder = decoder

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[int, int, float]:
        frames = list(self.decoder.stream(GOOD, 2 + index))
        return os.getpid(), pid(self.decoder), frames[-1].time


def test_loader_workers_may_have_children():
    decoder = ContainedDecoder()
    list(decoder.stream(GOOD, 2))
    own = pid(decoder)
    rows = list(DataLoader(Clips(decoder), num_workers=2, batch_size=None))
    assert [time for _, _, time in rows] == pytest.approx([1.56] * 6)
    children = {worker: child for worker, child, _ in rows}
    assert len(set(children.values()) | {own}) == 1 + len(children)
    assert all(is_gone(child) for child in children.values())
    assert len(list(decoder.stream(GOOD, 2))) == 2 and pid(decoder) == own
    copy = pickle.loads(pickle.dumps(decoder))
    assert copy._child is None and copy.seconds_per_clip == decoder.seconds_per_clip
    decoder.close()


@pytest.mark.parametrize("limits", [{"seconds_per_clip": 0}, {"memory_bytes": -1}])
def test_limits_are_positive(limits):
    with pytest.raises(ValueError, match="positive"):
        ContainedDecoder(**limits)
