"""Small clip files for tests, written by PyAV."""

import io
from pathlib import Path

import av
import numpy as np
from PIL import Image

COLOURS = ((222, 44, 44), (42, 92, 226), (38, 160, 68), (248, 208, 32))


def frames(number: int, *, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    """Pictures [height, width, 3] on which a square moves, its colour changing now and then."""
    drawn = []
    for index in range(number):
        picture = np.full((size[1], size[0], 3), 230, np.uint8)
        left = index * (size[0] - 16) // max(1, number - 1)
        picture[16:32, left : left + 16] = COLOURS[index * len(COLOURS) // number]
        drawn.append(picture)
    return drawn


def clip_bytes(
    number: int = 10, *, container: str = "mp4", codec: str = "libx264", sound: float = 0.0
) -> bytes:
    """A clip of 10 frames a second, with a tone of so many seconds if any."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format={"mkv": "matroska"}.get(container, container)) as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        heard = None
        if sound:
            heard = out.add_stream("aac" if container == "mp4" else "libopus", rate=48_000)
        for picture in frames(number):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture)):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
        if heard is not None:
            times = np.arange(int(48_000 * sound)) / 48_000
            tone = (0.3 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate = 48_000
            for packet in [*heard.encode(frame), *heard.encode()]:
                out.mux(packet)
    return buffer.getvalue()


def write_gif(path: Path, *, number: int = 5) -> None:
    """An animated GIF."""
    pictures = [Image.fromarray(picture) for picture in frames(number)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)


def write_folder(path: Path, *, number: int = 5) -> None:
    """A folder of frames."""
    path.mkdir()
    for index, picture in enumerate(frames(number)):
        Image.fromarray(picture).save(path / f"{index}.png")
