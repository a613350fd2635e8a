"""A film in a container at chosen times: read once, and decoded only where it is looked at.

What arrives is untrusted. Named containers alone are told apart by content, from a file that is
already open: nothing in it can make FFmpeg open another. Headers are not believed: all packets are
read once, without decoding, and *their* presentation times are the clip's; so a header that claims
ten hours changes nothing, and cut files count as far as they go.

A frame is then decoded from the last key frame before it. On the way frames that no other refers
to are skipped. Where times are missing or repeated, everything is decoded twice instead: once for
the times that the decoder gives, once for the pictures.
"""

import contextlib
from array import array
from collections.abc import Iterator
from fractions import Fraction
from typing import IO, Any

import av
import numpy as np
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from PIL import Image

from language.errors import InputError
from video.timeline import Timeline
from video.upright import MAX_PIXELS, UprightFrames, check_size, display_matrix, square_pixels

CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,ivf,obu,h264,hevc,m4v,h263,y4m,yuv4mpegpipe"
)
"""FFmpeg's demuxers that untrusted bytes may reach: no playlists, nothing that opens a file."""

MAX_PACKETS = 2**23
"""Most packets of a film: 38 hours at 60 frames per second."""

SKIPPING = ("h264", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9")
"""Codecs whose unreferenced frames FFmpeg knows for sure, and may skip."""

ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these leave transparency out."""

BT601 = (2, 5, 6)
"""Colour matrices, unspecified and two names of one, that need no word about them."""

MAX_THREADS = 4
DROPPED = 64
"""Packets that are rather read and dropped than sought over."""

MAX_RETRIES = 4


class Film:
    """One open film; `close` ends it, whatever happened."""

    def __init__(self, file: IO[bytes], *, name: str) -> None:
        """Open a container; the file stays the caller's.

        Raises:
            InputError: it is no film that can be decoded, or out of bounds.
        """
        self._file, self._name = file, name
        self._untimed = False
        self._packets: Iterator[Packet] = iter(())
        self._decoder: Any = None
        self._open()
        context = self._stream.codec_context
        if context is None:
            self.close()
            raise InputError(name, "its pictures are in a codec that cannot be decoded")
        shape = self._stream.sample_aspect_ratio
        shape = Fraction(shape) if shape and shape > 0 else Fraction(1)
        try:
            if context.width and context.height:  # raw streams know no size yet
                check_size(context.width, context.height, name=name)
                check_size(*square_pixels(context.width, context.height, shape), name=name)
            self._decoder = self._new_decoder()
        except BaseException:
            self.close()
            raise
        self._shape = shape
        self._pts = self._by_pts = self._keys = np.empty(0, np.int64)
        self._upright = UprightFrames(pixel_shape=shape, name=name)

    def close(self) -> None:
        """Close the container and let the decoder go, without waiting for garbage collection."""
        self._container.close()
        self._packets, self._decoder = iter(()), None

    def timeline(self) -> Timeline:
        """Read when each frame is shown.

        Raises:
            InputError: there is no frame.
        """
        pts, is_key, is_shown = self._read_packets()
        if self._untimed or len(np.unique(pts)) < len(pts):
            return self._thorough_timeline()
        if len(pts) and (not is_key[0] or pts[is_shown].min(initial=pts[0]) < pts[0]):
            # Cut out of a longer film: what needs frames that are gone does not come out.
            first = next((frame for frame in self._all_frames() if frame.pts is not None), None)
            is_shown &= first is not None and pts >= first.pts
            self._reopen()
        if not is_shown.any():
            raise InputError(self._name, "no frame in it can be decoded")
        is_key[0] = True
        order = np.argsort(pts, kind="stable")
        order = order[is_shown[order]]  # [frames]: places in the file by time of showing
        self._pts, self._by_pts, self._keys = pts, np.argsort(pts), np.flatnonzero(is_key)

        ticks = pts[order]

        def pictures(chosen: np.ndarray) -> Iterator[tuple[int, Image.Image]]:
            shown = -1
            for frame in self._sought(order[chosen]):
                stamp = int(frame.pts or 0)
                index = int(np.searchsorted(ticks, stamp))
                if index > shown and index < len(ticks) and ticks[index] == stamp:
                    shown = index  # of two broken frames the one before them is shown once
                    yield index, self._upright(frame)

        return Timeline(ticks=ticks, seconds_per_tick=self._time_base, pictures=pictures)

    def is_plain(self, timeline: Timeline) -> bool:
        """Whether older decoders show it rightly: 8 bits, upright, every packet a frame to be seen.

        No frame may be shown before the key frame that it follows in the file.
        """
        context = self._stream.codec_context
        if not {"mov", "matroska"} & set(self._container.format.name.split(",")):
            return False
        if len(self._pts) != len(timeline.ticks) or context.name not in ("h264", "vp8", "vp9"):
            return False
        later = np.minimum.accumulate(self._pts[::-1])[::-1]
        if (later[self._keys] < self._pts[self._keys]).any():
            return False
        if context.pix_fmt != "yuv420p" or context.color_range == 2:
            return False
        if context.colorspace not in BT601:
            return False
        if self._decoder is not context or self._shape != 1:
            return False
        first = next(self._sought(np.array([0])), None)
        return first is not None and display_matrix(first) == (1, 0, 0, 1)

    def _open(self) -> None:
        self._file.seek(0)
        options = {
            "format_whitelist": CONTAINERS,
            "protocol_whitelist": "",
            "max_pixels": str(MAX_PIXELS),
        }
        try:
            container = av.open(
                self._file, "r", options=options, metadata_errors="ignore", buffer_size=2**16
            )
        except Exception as error:  # FFmpeg's parsers raise nearly anything on hostile bytes
            raise InputError(
                self._name,
                "no film that can be decoded: in another format, broken or truncated "
                f"({reason(error)})",
            ) from None
        assert isinstance(container, InputContainer)
        self._container = container
        films = [
            stream
            for stream in container.streams.video
            if not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
        ]
        if not films:
            self.close()
            raise InputError(self._name, "no moving pictures in it")
        best: Any = container.streams.best("video")
        self._stream: Any = best if best in films else films[0]
        for stream in container.streams:
            if stream.index != self._stream.index:
                stream.discard = Discard.all
        self._time_base = Fraction(self._stream.time_base or Fraction(1, 1000))
        self._position = 0
        self._packets = self._demuxed()

    def _reopen(self) -> None:
        self._container.close()
        self._open()

    def _new_decoder(self) -> Any:
        codec: Any = self._stream.codec_context
        if self._stream.metadata.get("alpha_mode", "0") != "0" and codec.name in ALPHA_DECODERS:
            extradata = codec.extradata
            codec = CodecContext.create(ALPHA_DECODERS[codec.name], "r")
            if extradata:
                codec.extradata = extradata
        codec.thread_type = "SLICE"  # frame threads can hang beside torchvision
        codec.thread_count = MAX_THREADS
        codec.options = {"max_pixels": str(MAX_PIXELS)}
        return codec

    def _demuxed(self) -> Iterator[Packet]:
        """Packets with content; a fault ends them, as the end of the file does."""
        with contextlib.suppress(Exception):  # as above
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet

    def _read_packets(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Presentation times, which are key frames, and which are shown; each `[packets]`."""
        pts, marks = array("q"), array("B")  # 9 bytes a packet
        is_vp8 = self._decoder.name == "vp8"
        for number, packet in enumerate(self._packets):
            if number == MAX_PACKETS:
                raise InputError(self._name, f"more than the {MAX_PACKETS:,} frames allowed")
            if packet.pts is None:
                self._untimed = True
                break
            hidden = packet.is_discard or packet.is_corrupt
            hidden = hidden or (is_vp8 and not memoryview(packet)[0] & 16)
            pts.append(packet.pts)
            marks.append(packet.is_keyframe + 2 * (not hidden))
        self._position = len(pts)
        kinds = np.array(marks, np.uint8)
        return np.array(pts, np.int64), (kinds & 1).astype(bool), (kinds & 2).astype(bool)

    def _sought(self, places: np.ndarray) -> Iterator[VideoFrame]:
        """Yield the frames of the packets at these places in the file, by time of showing."""
        starts = [self._key_before(int(place)) for place in places]
        begin = 0
        while begin < len(places):
            end = begin + 1
            while end < len(places) and starts[end] == starts[begin]:
                end += 1
            key = starts[begin]
            for further in range(1, MAX_RETRIES + 1):
                try:
                    strict = 0 < key and further < MAX_RETRIES
                    yield from self._decoded(key, places[begin:end], strict=strict)
                    break
                except _TooLateError:  # no frame to begin at, or one from which it takes some time
                    before = int(np.searchsorted(self._keys, key)) - 2**further + 1
                    key = int(self._keys[max(0, before)])
            begin = end

    def _key_before(self, place: int) -> int:
        """Where decoding has to begin: a key frame before it in the file and in time."""
        at = int(np.searchsorted(self._keys, place, side="right")) - 1
        while at > 0 and self._pts[self._keys[at]] > self._pts[place]:
            at -= 1
        return int(self._keys[at])

    def _decoded(self, key: int, places: np.ndarray, *, strict: bool) -> Iterator[VideoFrame]:
        """Decode from a key frame to the last of these frames; for a broken one, the one before.

        Raises:
            _TooLateError: if strict, and the first of these frames does not come out.
        """
        wanted = self._pts[places]
        needed = set(places.tolist()) if self._decoder.name in SKIPPING else None
        self._go_to(key)
        sound: VideoFrame | None = None
        index = 0
        for frame in self._frames(key, int(places.max()), needed):
            if frame.pts is None:
                continue
            if strict and frame.pts > wanted[0]:
                raise _TooLateError
            strict = False
            while index < len(wanted) and wanted[index] < frame.pts:
                if sound is not None:
                    yield sound
                index += 1
            if index == len(wanted):
                return
            if wanted[index] == frame.pts:
                yield sound if frame.is_corrupt and sound is not None else frame
                index += 1
            if not frame.is_corrupt:
                sound = frame
        if strict:
            raise _TooLateError
        if sound is not None and index < len(wanted):
            yield sound

    def _frames(self, key: int, last: int, needed: set[int] | None) -> Iterator[VideoFrame]:
        """What comes out of the decoder when packets `key` to `last` go in."""
        decoder = self._decoder
        decoder.flush_buffers()
        packets = self._packets
        for packet in packets:
            place, self._position = self._position, self._position + 1
            if packet.is_corrupt:
                continue
            if needed is not None:
                decoder.skip_frame = "DEFAULT" if place in needed else "NONREF"
            yield from _decode(decoder, packet)
            if place >= last:
                break
        decoder.skip_frame = "DEFAULT"
        yield from _decode(decoder, None)

    def _go_to(self, place: int) -> None:
        """Make packet `place` the next one."""
        if not 0 <= place - self._position <= DROPPED:
            for stamp in (int(self._pts[place]), None):
                if stamp is None:
                    self._reopen()
                elif not self._seek(stamp):
                    continue
                if self._position <= place:
                    break
        while self._position < place and next(self._packets, None) is not None:
            self._position += 1

    def _seek(self, stamp: int) -> bool:
        """Go to a key frame at or before a presentation time; whether it is known where we are."""
        try:
            self._container.seek(stamp, stream=self._stream)
        except Exception:  # a container without an index, or a broken one
            return False
        packets = self._demuxed()
        packet = next(packets, None)
        if packet is None or packet.pts is None:
            return False
        found = np.searchsorted(self._pts, packet.pts, sorter=self._by_pts)
        if found == len(self._pts) or self._pts[self._by_pts[found]] != packet.pts:
            return False
        self._position = int(self._by_pts[found])
        self._packets = _chained(packet, packets)
        return True

    def _thorough_timeline(self) -> Timeline:
        """Decode everything for its times; pictures are what decoding everything again gives."""
        times = array("q")
        unknown = False
        for frame in self._all_frames():
            unknown = unknown or frame.pts is None
            times.append(0 if frame.pts is None else frame.pts)
        stamps, tick = np.array(times, np.int64), self._time_base
        if not len(stamps):
            raise InputError(self._name, "no frame in it can be decoded")
        if unknown:
            rate = self._stream.average_rate or self._stream.guessed_rate or 25
            stamps, tick = np.arange(len(stamps)), 1 / Fraction(rate)
        # Of frames with one time the last is seen: the first one in the reverse.
        ticks, places = np.unique(stamps[::-1], return_index=True)
        places = len(stamps) - 1 - places

        def pictures(chosen: np.ndarray) -> Iterator[tuple[int, Image.Image]]:
            index_of = {int(places[index]): int(index) for index in chosen}
            ready: dict[int, Image.Image] = {}
            expected = 0
            for place, frame in enumerate(self._all_frames()):
                if place in index_of:
                    ready[index_of[place]] = self._upright(frame)
                while expected < len(chosen) and int(chosen[expected]) in ready:
                    index = int(chosen[expected])
                    yield index, ready.pop(index)
                    expected += 1
                if expected == len(chosen):
                    return

        return Timeline(ticks=ticks, seconds_per_tick=tick, pictures=pictures)

    def _all_frames(self) -> Iterator[VideoFrame]:
        self._reopen()
        self._decoder = decoder = self._new_decoder()
        for number, packet in enumerate(self._packets):
            if number == MAX_PACKETS:
                raise InputError(self._name, f"more than the {MAX_PACKETS:,} frames allowed")
            if not packet.is_corrupt:
                yield from _decode(decoder, packet)
        yield from _decode(decoder, None)


class _TooLateError(Exception):
    """Decoding began behind what a frame needs."""


def _decode(decoder: Any, packet: Packet | None) -> list[VideoFrame]:
    """Frames that come out; a broken packet gives none."""
    try:
        return decoder.decode(packet)
    except Exception:  # FFmpeg's decoders raise nearly anything on hostile bytes
        return []


def _chained(packet: Packet, packets: Iterator[Packet]) -> Iterator[Packet]:
    yield packet
    yield from packets


def reason(error: Exception) -> str:
    """Return an exception's words, without the numbers and names around them, on one line."""
    words = getattr(error, "strerror", None) or str(error)
    return " ".join(words.split()) or type(error).__name__
