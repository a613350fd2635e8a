"""Films whose every frame says which one it is, and what is to be seen of them by brute force."""

import io
from fractions import Fraction
from pathlib import Path
from tempfile import NamedTemporaryFile

import av
import numpy as np

BITS = 10
MILLISECOND = Fraction(1, 1000)


def numbered(number, *, width=160, height=48):
    """A picture `[height, width, 3]` of bars, bright where the number's binary digit is one."""
    bars = np.array([number >> bit & 1 for bit in range(BITS)], np.uint8)
    row = np.repeat(20 + 215 * bars, width // BITS)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def number_of(picture):
    """Read it back, from a PIL image or an array."""
    pixels = np.asarray(picture)
    height, width = pixels.shape[:2]
    rows = pixels[height // 4 : 3 * height // 4]
    edge = width / BITS
    return sum(
        1 << bit
        for bit in range(BITS)
        if rows[:, round((bit + 0.3) * edge) : round((bit + 0.7) * edge)].mean() > 128
    )


def film(
    pts,
    *,
    codec="libx264",
    container="mp4",
    pixels="yuv420p",
    size=(160, 48),
    gop=12,
    time_base=MILLISECOND,
    options=None,
    container_options=None,
    prepare=lambda stream: None,
    picture=numbered,
):
    """The bytes of a film whose frame i is shown from `pts[i]` on."""
    file = NamedTemporaryFile(suffix=".film")  # by name: the index comes first in a second pass
    with file, av.open(file.name, "w", format=container, options=container_options or {}) as output:
        stream = output.add_stream(codec, rate=30, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.codec_context.time_base = stream.time_base = time_base
        stream.codec_context.gop_size = gop
        prepare(stream)
        for number, stamp in enumerate(pts):
            array = picture(number, width=size[0], height=size[1])
            layout = "rgba" if array.shape[2] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(array, format=layout)
            frame.pts, frame.time_base = stamp, time_base
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
        output.close()
        return Path(file.name).read_bytes()


def everything(data):
    """All frames of a film as {exact time: number}, decoded from front to back."""
    with av.open(io.BytesIO(data)) as container:
        (stream,) = container.streams.video
        stream.thread_type = "NONE"
        shown = {}
        for packet in container.demux(stream):
            if not packet.is_corrupt:
                for frame in packet.decode():
                    number = number_of(frame.to_ndarray(format="rgb24"))
                    shown[frame.pts * frame.time_base] = number
    return shown


def on_screen(shown, num_frames):
    """The rule, word by word, of {time: anything}: [(seconds from the first, anything)]."""
    times = sorted(shown)
    first, last = times[0], times[-1]
    if num_frames == 1:
        instants = [(first + last) / Fraction(2)]
    else:
        step = Fraction(last - first) / (num_frames - 1)
        instants = [first + index * step for index in range(num_frames)]
    seen = {max(time for time in times if time <= instant) for instant in instants}
    if 1 < num_frames >= len(times):
        seen = set(times)
    return [(float(time - first), shown[time]) for time in sorted(seen)]


def patched(data, box, change):
    """An MP4 file with the content of its first such box changed in place."""
    changed = bytearray(data)
    place = changed.index(box)
    change(memoryview(changed)[place + 4 :])
    return bytes(changed)


def repeated(data, times, *, container="mp4"):
    """A film played so many times over, without encoding it again."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=container) as output:
        (played,) = source.streams.video
        stream = output.add_stream_from_template(played)
        packets = [
            (bytes(packet), packet.pts, packet.dts, packet.is_keyframe)
            for packet in source.demux(played)
            if packet.size
        ]
        stamps = sorted(pts for _, pts, _, _ in packets)
        length = stamps[-1] - stamps[0] + stamps[1] - stamps[0]
        for turn in range(times):
            for content, pts, dts, is_key in packets:
                packet = av.Packet(content)
                packet.stream, packet.time_base = stream, played.time_base
                packet.pts, packet.dts = pts + turn * length, dts + turn * length
                packet.is_keyframe = is_key
                output.mux(packet)
    return file.getvalue()
