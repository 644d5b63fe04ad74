"""The job's standard output and error: read as they come, decided line by line, kept in full.

The sandbox's keeper hands over the reading ends of both pipes. A line is an
event before the next one is read. All that was written is kept at the site for
the steward, up to a bound for each stream.
"""

from __future__ import annotations

import asyncio
import os
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
        self._file = (folder / f"{name}.log").open("xb", buffering=0)
        self._room_bytes = most_bytes
        os.set_blocking(fd, False)

    def fileno(self) -> int:
        return self._fd

    def read_some(self) -> bool:
        """Take in what is there, a chunk at most. False when the stream has ended."""
        try:
            chunk = os.read(self._fd, _CHUNK_BYTES)
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
        """No more is read: decide what was left of a line, and of a traceback."""
        if self.counts.ended:
            return
        self.counts.ended = True
        self._decide(list(self._splitter.end()))
        self.counts.released += self._decided.stream_ended(self.name)
        os.close(self._fd)
        self._file.close()

    def _decide(self, lines: list[str]) -> None:
        if lines:
            self.counts.lines += len(lines)
            self.counts.released += self._decided.lines(self.name, [self._reword(line) for line in lines])

    def _keep(self, chunk: bytes) -> None:
        self.counts.size_bytes += len(chunk)
        if self._room_bytes <= 0:
            return
        try:
            self._room_bytes -= self._file.write(chunk[: self._room_bytes]) or 0
        except OSError:  # a full disk: the job's own copy ends here, its release does not
            self._room_bytes = 0


class JobStreams:
    """Both pipes on the event loop.

    Args:
        reword: a line as people outside can read it; the site's own copy stays as it was written.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        decided: Decided,
        *,
        folder: Path,
        most_bytes: int,
        reword: Callable[[str], str],
        give_up: Callable[[UnavailableError], None],
    ) -> None:
        self._loop = loop
        self._decided = decided
        self._folder = folder
        self._most_bytes = most_bytes
        self._reword = reword
        self._give_up = give_up
        self._streams: list[JobStream] = []
        self._ended = asyncio.Event()
        self._may_read = False
        folder.mkdir(mode=0o750)

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
        if self._may_read:
            self.go()
        return True

    def go(self) -> None:
        """Read from now on. Until then what the job writes waits in its pipes."""
        self._may_read = True
        for stream in self._streams:
            self._loop.add_reader(stream.fileno(), self._read, stream)

    async def wait_ended(self, timeout_s: float) -> None:
        """Wait for both to end, at most so long; then take what is there and finish."""
        if self._streams:
            try:
                await asyncio.wait_for(self._ended.wait(), timeout_s)
            except TimeoutError:  # somebody still holds a writing end
                for stream in self._streams:
                    if not stream.counts.ended:
                        stream.read_some()
                        self._finish(stream)

    def _read(self, stream: JobStream) -> None:
        try:
            goes_on = stream.read_some()
            if not goes_on:
                self._finish(stream)
            self._decided.flush()
        except UnavailableError as exc:
            self._give_up(exc)

    def _finish(self, stream: JobStream) -> None:
        self._loop.remove_reader(stream.fileno())
        stream.finish()
        if all(each.counts.ended for each in self._streams):
            self._ended.set()
