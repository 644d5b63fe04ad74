"""The job's standard output and error: read as they come, decided line by line, kept in full.

The sandbox's keeper hands over the reading ends of both pipes. All that was
written is kept at the site for the steward, up to a bound for each stream.

Lines come by other ways than calls, and what a line may tell depends on what was
said before it: a metric's value that has left may be printed for next to nothing.
So before each call `hear` takes in all that the pipes hold. A script that waits
for the answers of its calls, as MLflow's client does, has then been heard in the
order in which it spoke, however late we come to read it. Between two calls nobody can
tell which of both pipes was written to first.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from insitu.domain.errors import UnavailableError
from insitu.intake.decided import Decided
from insitu.intake.lines import LineSplitter

StreamName = Literal["stdout", "stderr"]
STREAMS: tuple[StreamName, StreamName] = ("stdout", "stderr")
_CHUNK_BYTES = 64 << 10


@dataclass
class StreamCounts:
    lines: int = 0
    released: int = 0
    size_bytes: int = 0
    ended: bool = False


class JobStream:
    """One pipe, from its first byte to its end."""

    def __init__(
        self,
        name: StreamName,
        fd: int,
        decided: Decided,
        *,
        folder: Path,
        most_bytes: int,
        reword: Callable[[str], str],
    ) -> None:
        self.name: StreamName = name
        self.counts = StreamCounts()
        self._fd = fd
        self._decided = decided
        self._reword = reword
        self._splitter = LineSplitter()
        self._file = (folder / f"{name}.log").open("ab", buffering=0)
        self._room_bytes = most_bytes
        os.set_blocking(fd, False)

    def fileno(self) -> int:
        return self._fd

    def read_all(self) -> None:
        """Take in what was written until now; not what is being written meanwhile."""
        (left,) = struct.unpack("i", fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)))
        while left > 0:
            self.read_some(min(left, _CHUNK_BYTES))
            left -= _CHUNK_BYTES

    def read_some(self, most_bytes: int = _CHUNK_BYTES) -> bool:
        """Take in what is there, so much at most. False when the stream has ended."""
        try:
            chunk = os.read(self._fd, most_bytes)
        except BlockingIOError:
            return True
        except OSError:
            chunk = b""
        if not chunk:
            return False
        self._keep(chunk)
        self._decide(list(self._splitter.feed(chunk)))
        return True

    def finish(self) -> None:
        """No more is read: what was left of a line, and of a traceback, is to be decided."""
        self._decide(list(self._splitter.end()))
        self._decided.stream_ended(self.name, self._note_released)
        self.close()

    def close(self) -> None:
        if not self.counts.ended:
            self.counts.ended = True
            os.close(self._fd)
            self._file.close()

    def _decide(self, lines: list[str]) -> None:
        if lines:
            self.counts.lines += len(lines)
            self._decided.lines(self.name, [self._reword(line) for line in lines], self._note_released)

    def _note_released(self, lines: int) -> None:
        self.counts.released += lines

    def _keep(self, chunk: bytes) -> None:
        self.counts.size_bytes += len(chunk)
        if self._room_bytes <= 0:
            return
        try:
            self._room_bytes -= self._file.write(chunk[: self._room_bytes]) or 0
        except OSError:  # a full disk: the job's own copy ends here, its release does not
            self._room_bytes = 0


class JobStreams:
    """Both pipes, read before each call and, from `go` on, by the event loop.

    Args:
        reword: a line as people outside can read it; the site's own copy stays as it was written.
    """

    def __init__(self, decided: Decided, *, folder: Path, most_bytes: int, reword: Callable[[str], str]) -> None:
        self._decided = decided
        self._folder = folder
        self._most_bytes = most_bytes
        self._reword = reword
        self._streams: list[JobStream] = []
        self._ended = asyncio.Event()
        self._reading: _Reading | None = None
        folder.mkdir(mode=0o750, exist_ok=True)

    @property
    def counts(self) -> dict[str, StreamCounts]:
        return {stream.name: stream.counts for stream in self._streams}

    def begin(self, fds: tuple[int, int]) -> bool:
        """Take over the reading ends of the job's standard output and error. False: they are known already."""
        if self._streams:
            return False
        for name, fd in zip(STREAMS, fds, strict=True):
            stream = JobStream(
                name, fd, self._decided, folder=self._folder, most_bytes=self._most_bytes, reword=self._reword
            )
            self._streams.append(stream)
        if self._reading:
            self._read_on(self._reading)
        return True

    def go(self, loop: asyncio.AbstractEventLoop, give_up: Callable[[UnavailableError], None]) -> None:
        """Read from now on, whenever something is there. Until then what the job writes waits in its pipes."""
        self._reading = _Reading(loop, give_up)
        self._read_on(self._reading)

    def hear(self) -> None:
        """Take in what both pipes hold now: to be decided before anything that is said from now on."""
        for stream in self._streams:
            if not stream.counts.ended:
                stream.read_all()

    async def wait_ended(self, timeout_s: float) -> None:
        """Wait for both to end, at most so long; then take what is there and finish."""
        if self._streams:
            try:
                await asyncio.wait_for(self._ended.wait(), timeout_s)
            except TimeoutError:  # somebody still holds a writing end
                self.hear()
                for stream in self._streams:
                    self._finish(stream)

    def close(self) -> None:
        for stream in self._streams:
            stream.close()

    def _read_on(self, reading: _Reading) -> None:
        for stream in self._streams:
            reading.loop.add_reader(stream.fileno(), self._read, stream, reading)

    def _read(self, stream: JobStream, reading: _Reading) -> None:
        try:
            goes_on = stream.read_some()
            if not goes_on:
                self._finish(stream)
            self._decided.flush()
        except UnavailableError as exc:
            reading.give_up(exc)

    def _finish(self, stream: JobStream) -> None:
        if stream.counts.ended:
            return
        if self._reading:
            self._reading.loop.remove_reader(stream.fileno())
        stream.finish()
        if all(each.counts.ended for each in self._streams):
            self._ended.set()


@dataclass(frozen=True)
class _Reading:
    loop: asyncio.AbstractEventLoop
    give_up: Callable[[UnavailableError], None]
