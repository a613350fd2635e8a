"""Frames sampled from films a second, against plain decord and plain PyAV, and the memory beside.

All three sides open the same file and give as many RGB frames, spread evenly. decord takes
`get_batch` of evenly spread numbers, with the threads that it chooses; PyAV decodes everything and
keeps what is wanted. Ours finds instants by presentation time, decodes from the key frame before
each, and turns, stretches and checks what it finds: on these films, whose rate is constant, all
sides must agree on the frames.

Memory is the most that a process of its own took beyond importing its libraries; its rows compare
MiB instead of milliseconds. The last rows set decoding in a child process beside decoding here.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np
from PIL import Image

from benchmarks.paired import Ratio, compare
from video.contained import ContainedDecoder
from video.frames import stream

FILMS = {"320x240, 10 s": (320, 240, 10), "1280x720, 20 s": (1280, 720, 20)}
LONG = {"640x360, 3 min": (640, 360, 180)}
COUNTS = (16, 64)
RATE = 30
PEAK = """
import re, sys
from pathlib import Path
from benchmarks.video_frames import SIDES

def status(key):
    return int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

Path("/proc/self/clear_refs").write_text("5")  # from here on the peak counts
before = status("VmRSS")
SIDES[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
print(status("VmHWM") - before)
"""


def run() -> list[Ratio]:
    """Every film by every side; then the memory on the longest; then the child's cost."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for title, (width, height, seconds) in {**FILMS, **LONG}.items():
            paths[title] = str(Path(folder) / f"{width}.mp4")
            write_film(paths[title], width=width, height=height, seconds=seconds)
        for title, path in paths.items():
            for count in COUNTS:
                check(path, count)
                for name, side in (("decord", by_decord), ("PyAV", by_pyav)):
                    results.append(
                        compare(
                            f"{count} frames of {title}",
                            ours=lambda path=path, count=count: ours(path, count),
                            theirs=lambda side=side, path=path, count=count: side(path, count),
                            against=f"{name} {VERSIONS[name]}",
                            target=1.0,
                        )
                    )
        for title, path in paths.items():
            for name in ("decord", "PyAV"):
                results.append(memory(title, path, against=name))
        with ContainedDecoder() as decoder:
            for title, path in paths.items():
                results.append(
                    compare(
                        f"16 frames of {title}, in a child process",
                        ours=lambda path=path: drain(decoder.stream(path, 16)),
                        theirs=lambda path=path: ours(path, 16),
                        against="the same, directly",
                        target=0.9,
                    )
                )
    return results


def write_film(path: str, *, width: int, height: int, seconds: int) -> None:
    """A window that wanders over a large smooth picture, and a bright square that crosses it."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    large = Image.fromarray(coarse).resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
    scene, side = np.asarray(large), height // 6
    with av.open(path, "w") as output:
        film: Any = output.add_stream(
            "libx264", rate=RATE, options={"preset": "veryfast", "crf": "26"}
        )
        film.width, film.height, film.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * RATE):
            x = int(width / 2 + width / 3 * np.sin(number / 90))
            y = int(height / 2 + height / 3 * np.cos(number / 130))
            picture = scene[y : y + height, x : x + width].copy()
            place = number * 7 % (width - side)
            picture[side : 2 * side, place : place + side] = (255, number % 256, 0)
            output.mux(film.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(film.encode(None))


def ours(path: str, count: int) -> int:
    """Frame after frame; none is kept, as tiles are cut from them at once."""
    return drain(stream(path, count))


def drain(frames: Any) -> int:
    return sum(1 for _ in frames)


def spread_numbers(length: int, count: int) -> list[int]:
    """The frames of a constant rate that are on screen at evenly spread instants."""
    return [(length - 1) * index // (count - 1) for index in range(count)]


def by_decord(path: str, count: int) -> np.ndarray:
    reader = decord.VideoReader(path)
    frames: np.ndarray = reader.get_batch(spread_numbers(len(reader), count)).asnumpy()
    return frames


def by_pyav(path: str, count: int) -> list[np.ndarray]:
    with av.open(path) as container:
        (film,) = container.streams.video
        wanted = set(spread_numbers(film.frames, count))
        frames = enumerate(container.decode(film))
        return [frame.to_ndarray(format="rgb24") for n, frame in frames if n in wanted]


SIDES: dict[str, Callable[[str, int], object]] = {
    "ours": ours,
    "decord": by_decord,
    "PyAV": by_pyav,
}
VERSIONS = {"decord": decord.__version__, "PyAV": av.__version__}


def check(path: str, count: int) -> None:
    """All sides give the same frames, up to how colours are rounded."""
    theirs = by_decord(path, count)
    for ours_, decords, pyavs in zip(
        stream(path, count), theirs, by_pyav(path, count), strict=True
    ):
        found = np.asarray(ours_.picture, np.int16)
        assert np.abs(found - decords).mean() < 2 and np.abs(found - pyavs).mean() < 2


def memory(title: str, path: str, *, against: str) -> Ratio:
    """MiB of 64 frames, ours against theirs."""
    mine, other = (peak(side, path) for side in ("ours", against))
    return Ratio(
        name=f"64 frames of {title}: memory in MiB instead of ms",
        against=f"{against} {VERSIONS[against]}",
        ours_ms=mine,
        theirs_ms=other,
        low=other / mine,
        median=other / mine,
        high=other / mine,
        target=1.0,
    )


def peak(side: str, path: str) -> float:
    command = [sys.executable, "-c", PEAK, side, path, "64"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
