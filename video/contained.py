"""Decoding in a child process, so that a decoder that crashes or hangs costs one clip and no more.

Films are decoded by C code that strangers' files have crashed before. Here it runs in a process of
its own, under a limit of memory and of time; whatever happens to it becomes one `InputError` that
names the clip, and the next clip gets a new child. A child serves clip after clip: starting one
takes a fifth of a second, a frame through the pipe a fraction of a millisecond.

Nothing that a file could shape is unpickled: frames come back as raw pixels behind a line of JSON.
It is a plain subprocess, which daemonic processes (a loader's workers) may have too.
"""

import contextlib
import fcntl
import json
import os
import queue
import resource
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from PIL import Image

from language.errors import InputError
from video.frames import Clip, Decoder, Frame, clip_name, stream
from vision.pictures import MAX_PIXELS

ROOT = str(Path(__file__).resolve().parent.parent)
PROGRAM = f"import sys; sys.path.insert(0, {ROOT!r}); from video.contained import main; main()"
"""What the child runs."""

PIPE_BYTES = 2**20
STOP_SECONDS = 1.0
"""How long an abandoned clip's child may take to stop before it is replaced."""


class ContainedDecoder:
    """Streams clips as `video.frames.stream` does, decoding files in one child process at a time.

    The child starts with the first clip, and ends with `close`, with this object or with its
    process. Clips that hold no file (arrays, PIL images, lists) are not decoded by FFmpeg and are
    streamed directly. One clip at a time: starting another ends the one before.
    """

    def __init__(
        self,
        *,
        seconds_per_clip: float = 60.0,
        memory_bytes: int = 4 * 2**30,
        decoder: Decoder = "av",
    ) -> None:
        """Set the limits; nothing is started yet.

        Args:
            seconds_per_clip: how long a clip's frames may be waited for, all together; time that
                the caller spends between frames does not count.
            memory_bytes: address space of the child, of which libraries take a quarter of a GB.
            decoder: as `video.frames.stream` has it.
        """
        if seconds_per_clip <= 0 or memory_bytes <= 0:
            raise ValueError("seconds_per_clip and memory_bytes must be positive")
        self.seconds_per_clip, self.memory_bytes = seconds_per_clip, memory_bytes
        self.decoder: Decoder = decoder
        self._child: _Child | None = None

    def __call__(self, clip: Clip, num_frames: int) -> Iterator[Frame]:
        """Do as `stream` does, so that the decoder can stand where a function is wanted."""
        return self.stream(clip, num_frames)

    def stream(self, clip: Clip, num_frames: int, *, name: str | None = None) -> Iterator[Frame]:
        """Yield what `video.frames.stream` yields.

        Raises:
            ValueError: `num_frames` is less than 1.
            InputError: while iterating: as there, or the decoder crashed, took too much memory or
                took too long.
        """
        if not isinstance(clip, str | os.PathLike | bytes | bytearray | memoryview):
            return stream(clip, num_frames, name=name)
        if num_frames < 1:
            raise ValueError(f"num_frames must be 1 or more, not {num_frames}")
        return self._stream(clip, num_frames, name=name or clip_name(clip))

    def close(self) -> None:
        """End the child; the next clip would start another."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def __enter__(self) -> "ContainedDecoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_child": None}

    def _stream(self, clip: Any, num_frames: int, *, name: str) -> Iterator[Frame]:
        child = self._ready_child()
        child.is_busy = True
        deadline = _Deadline(self.seconds_per_clip)
        try:
            wanted = {"num_frames": num_frames, "name": name, "decoder": self.decoder}
            child.send(clip, wanted, deadline)
            while (header := child.receive_line(deadline)).get("frame"):
                width, height = header["frame"]
                if not 0 < width * height <= MAX_PIXELS:
                    raise _ChildError("answered nonsense")
                pixels = child.receive(3 * width * height, deadline)
                picture = Image.frombytes("RGB", (width, height), pixels)
                yield Frame(picture=picture, time=header["time"])
                if child is not self._child:
                    raise _ChildError("was given another clip, or closed, before the end")
            child.is_busy = False
        except _ChildError as fault:
            raise InputError(name, f"the decoder {fault}") from None
        except GeneratorExit:
            if child is self._child and child.is_alive():
                child.is_busy = not child.stopped()
            raise
        finally:
            if child.is_busy:
                child.kill()
        if "fault" in header:
            raise InputError(header.get("source", name), header["fault"])

    def _ready_child(self) -> "_Child":
        """The child of this process, idle: not a parent's, nor one with an unfinished clip."""
        child = self._child
        if child is not None and child.owner != os.getpid():
            child = self._child = None  # a fork's copy: the original is not ours to end
        if child is not None and (child.is_busy or not child.is_alive()):
            child.kill()
            child = None
        if child is None:
            child = self._child = _Child(self.memory_bytes)
        return child


class _ChildError(Exception):
    """What happened to the child, as the end of a sentence."""


class _Deadline:
    """Seconds left of a clip's time, which passes only while waiting."""

    def __init__(self, seconds: float) -> None:
        self.seconds = self.left = seconds

    def wait(self, file: int, *, writing: bool) -> None:
        """Wait until a pipe is ready.

        Raises:
            _ChildError: the time is over.
        """
        begin = time.monotonic()
        poll = select.poll()
        poll.register(file, select.POLLOUT if writing else select.POLLIN)
        ready = poll.poll(max(0.0, self.left) * 1000)
        self.left -= time.monotonic() - begin
        if not ready:
            raise _ChildError(f"took longer than {self.seconds:g} s")


class _Child:
    """A process that decodes, and the two pipes to it."""

    def __init__(self, memory_bytes: int) -> None:
        self.owner, self.is_busy, self._number = os.getpid(), False, 0
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self._process.stdin and self._process.stdout
        self._in, self._out = self._process.stdin, self._process.stdout
        self._rest = b""
        for file in (self._in, self._out):
            os.set_blocking(file.fileno(), False)
            _widen(file)
        self._finalizer = weakref.finalize(self, _end, self._process, self.owner)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process and close its pipes; also that of another's fork is left alone."""
        self.is_busy = False
        self._finalizer()

    def send(self, clip: Any, wanted: dict[str, Any], deadline: _Deadline) -> None:
        """Ask for a clip."""
        self._number += 1
        request: dict[str, Any] = {**wanted, "clip": self._number}
        data = b""
        if isinstance(clip, str | os.PathLike):
            path = os.fspath(clip)
            request["path"] = path if isinstance(path, str) else os.fsdecode(path)
        else:
            data = clip
            request["bytes"] = memoryview(clip).nbytes
        for part in (_line(request), data):
            rest = memoryview(part).cast("B") if len(part) else memoryview(b"")
            while len(rest):
                deadline.wait(self._in.fileno(), writing=True)
                try:
                    rest = rest[os.write(self._in.fileno(), rest) :]
                except BlockingIOError:
                    continue
                except OSError:
                    raise _ChildError(self._end()) from None

    def receive_line(self, deadline: _Deadline) -> dict[str, Any]:
        """The next header."""
        while b"\n" not in self._rest:
            self._rest += self._read(2**16, deadline)
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def receive(self, size: int, deadline: _Deadline) -> bytearray:
        """The next bytes."""
        data = bytearray(size)
        view, filled = memoryview(data), min(size, len(self._rest))
        view[:filled], self._rest = self._rest[:filled], self._rest[filled:]
        while filled < size:
            try:
                read = os.readv(self._out.fileno(), [view[filled:]])
            except BlockingIOError:
                deadline.wait(self._out.fileno(), writing=False)
                continue
            if not read:
                raise _ChildError(self._end())
            filled += read
        return data

    def stopped(self) -> bool:
        """Stop the clip that is under way; False if it will not."""
        deadline = _Deadline(STOP_SECONDS)
        try:
            os.write(self._in.fileno(), _line({"stop": self._number}))
            while (header := self.receive_line(deadline)).get("frame"):
                width, height = header["frame"]
                self.receive(3 * width * height, deadline)
        except (_ChildError, OSError, ValueError):
            return False
        return True

    def _read(self, size: int, deadline: _Deadline) -> bytes:
        while True:
            deadline.wait(self._out.fileno(), writing=False)
            try:
                data = os.read(self._out.fileno(), size)
            except BlockingIOError:
                continue
            if not data:
                raise _ChildError(self._end())
            return data

    def _end(self) -> str:
        """How the process ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        code = self._process.poll()
        how = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
        return f"crashed ({how})"


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """End a child; in a fork of its owner, only let go of the pipes."""
    for file in (process.stdin, process.stdout):
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
    if os.getpid() == owner:
        process.kill()
        process.wait()
    else:
        process.returncode = 0  # not ours to wait for


def _widen(file: IO[bytes]) -> None:
    """Let a frame pass in few pieces, where the system grants it."""
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(file.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def main() -> None:
    """Serve clips from standard input to standard output until the input ends."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints does not get among the frames
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests: queue.Queue[tuple[dict[str, Any], bytes]] = queue.Queue()
    stopped: set[int] = set()
    threading.Thread(target=_listen, args=(requests, stopped), daemon=True).start()
    while True:
        request, data = requests.get()
        try:
            clip = request["path"] if "path" in request else data
            options = {key: request[key] for key in ("name", "decoder")}
            for frame in stream(clip, request["num_frames"], **options):
                if request["clip"] in stopped:
                    break
                header = {"frame": frame.picture.size, "time": frame.time}
                _write(out, _line(header) + frame.picture.tobytes())
            answer: dict[str, Any] = {}
        except InputError as error:
            answer = {"source": error.source, "fault": error.fault}
        except MemoryError:
            answer = {"fault": f"its decoder needs more than {limit:,} bytes of memory"}
        except Exception as error:
            words = " ".join(str(error).split()) or type(error).__name__
            answer = {"fault": f"cannot be decoded ({words})"}
        data = b""  # a clip's bytes are not held until the next one comes
        stopped.discard(request["clip"])
        _write(out, _line(answer))


def _listen(requests: queue.Queue[tuple[dict[str, Any], bytes]], stopped: set[int]) -> None:
    """Take requests; when the other side is gone, end the process whatever it is doing."""
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        if "stop" in request:
            stopped.add(request["stop"])
        else:
            requests.put((request, sys.stdin.buffer.read(request.get("bytes", 0))))
    os._exit(0)


def _write(out: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while len(rest):
        rest = rest[out.write(rest) :]
