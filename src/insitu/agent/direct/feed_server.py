"""Gives the bytes of a job's direct inputs: one unix socket per job, which its intake alone can reach.

What is asked is checked against what the job was granted: the objects of its dataset
versions, by their numbers in lists that were made for it. Everything else is refused,
and nothing but an object's bytes is ever written to the job's connection. What a store says stays here; the
job reads sentences of ours.

Reading is inbound and costs no budget. It is counted all the same, for the steward.
"""

from __future__ import annotations

import json
import logging
import select
import socket
import struct
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from insitu.agent.direct.ranges import Ranges
from insitu.agent.staging.digests import DigestKeys
from insitu.agent.staging.manifest import ManifestObject
from insitu.agent.stores.contract import ObjectChangedError, ObjectMissingError, ObjectStore
from insitu.domain.errors import InsituError
from insitu.intake.feed import CUT_OFF, GONE, Ask, Told, take, tell

_log = logging.getLogger("insitu.agent")

GENEROUS = 4  # ranges that are given at once in whole blocks, some ahead; further ones in small pieces
MOST_AT_ONCE = 64  # whoever reads none of them on would wait for ever if another waited for its turn
_LOOK_S = 1.0
_BACKLOG = 128


@dataclass(frozen=True)
class Granted:
    """One direct input of a job."""

    label: str
    """name@version."""
    objects: Sequence[ManifestObject]
    open: Callable[[], ObjectStore]


class FeedServer:
    """Serves from `start` to `stop`. Threads of its own."""

    def __init__(
        self, path: Path, granted: Mapping[str, Granted], keys: DigestKeys, counts: Path, *, may_ask: Callable[[], int]
    ) -> None:
        """
        Args:
            path: of the socket, in a folder that the job's intake can pass and no other job's.
            granted: by the input's name.
            may_ask: the process id of the job's intake. Intakes share a uid: this tells a neighbour's from ours.
            counts: where the bytes read of each version are noted; what an earlier agent noted counts on.
        """
        self._path, self._granted, self._keys, self._counts_file = path, granted, keys, counts
        self._may_ask = may_ask
        self.read_bytes: dict[str, int] = {found.label: 0 for found in granted.values()} | read_counts(counts)
        self.problem: InsituError | None = None
        """What was found wrong with the data, of `problem_with`."""
        self.problem_with = ""
        self._lock = threading.Lock()
        self._ranges: dict[str, Ranges] = {}
        self._stores: list[ObjectStore] = []
        self._readers = ThreadPoolExecutor(2 * GENEROUS, thread_name_prefix="direct-read")
        self._answering = ThreadPoolExecutor(MOST_AT_ONCE + 1, thread_name_prefix="direct-feed")
        self._given_now = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="direct-accept", daemon=True)

    def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listener.bind(str(self._path))
        self._path.chmod(0o666)  # its folder decides who reaches it
        self._listener.listen(_BACKLOG)
        self._thread.start()

    def stop(self) -> None:
        """Give nothing more. What is being given ends at once; who has asked already is told, and can ask the next agent."""
        self._path.unlink(missing_ok=True)  # first: from now on nobody comes who would not be told
        self._stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._answering.shutdown()
        self._readers.shutdown(cancel_futures=True)
        for store in self._stores:
            store.close()
        self._note()

    def _accept(self) -> None:
        while True:
            try:
                door, _ = self._listener.accept()
            except OSError:
                return  # `stop` shut it, and all who had come before are taken
            self._answering.submit(self._answer, door)

    def _answer(self, door: socket.socket) -> None:
        with door:
            door.settimeout(_LOOK_S)  # an intake says all at once, and listens
            try:
                asked = take(door)
                if asked is None:
                    return
                if _who(door) != self._may_ask():
                    asked[1].close()
                    return
                wanted, connection = asked
                with connection, self._counted() as given_now:
                    told = self._give(wanted, connection, given_now)
                self._note()
                tell(door, told)
            except OSError:
                return  # the intake is gone, and the job with it

    @contextmanager
    def _counted(self) -> Generator[int]:
        """How many ranges are being given, this one included."""
        with self._lock:
            self._given_now += 1
            given_now = self._given_now
        try:
            yield given_now
        finally:
            with self._lock:
                self._given_now -= 1

    def _give(self, wanted: Ask, connection: socket.socket, given_now: int) -> Told:
        if given_now > MOST_AT_ONCE:
            return Told(0, "too-many", f"this job reads {MOST_AT_ONCE} objects at once already: end one first")
        found = self._granted.get(wanted.input)
        if found is None or not 0 <= wanted.number < len(found.objects):
            return Told(0, "not-granted", "this job was not granted that object")
        one = found.objects[wanted.number]
        if wanted.start < 0 or wanted.length < 1 or wanted.start + wanted.length > one.size_bytes:
            return Told(0, "no-range", "the object has no such range")
        sent = 0
        told_to_stop = GONE
        try:
            thrifty = given_now > GENEROUS
            with closing(self._of(wanted.input).read(one, wanted.start, wanted.length, thrifty=thrifty)) as blocks:
                for block in blocks:
                    if self._stopped.is_set():
                        return told_to_stop
                    if not sent:
                        told_to_stop = CUT_OFF
                        self._send(connection, memoryview(wanted.head.encode()))
                    self._send(connection, memoryview(block))
                    sent += len(block)
                    with self._lock:
                        self.read_bytes[found.label] += len(block)
        except (ObjectChangedError, ObjectMissingError) as exc:
            self.problem, self.problem_with = exc, found.label
            return Told(sent, "object-changed", f"an object of {found.label} is not what it was when it was added")
        except InsituError as exc:
            if self.problem is None:
                self.problem, self.problem_with = exc, found.label
            return Told(sent, "store-unreachable", f"the site's datastore did not give an object of {found.label}")
        except OSError:
            if self._stopped.is_set():
                return told_to_stop
            # Else the job hung up: it has what it wanted.
        except Exception:  # noqa: BLE001 - said in the log; one reading's fault must not end the others
            _log.exception("an object of %s could not be given", found.label)
            return Told(sent, "feed-failed", "the site's agent failed at this; its log says more")
        return Told(sent)

    def _of(self, name: str) -> Ranges:
        with self._lock:
            if name not in self._ranges:
                store = self._granted[name].open()
                self._stores.append(store)
                self._ranges[name] = Ranges(store, self._keys, self._readers)
            return self._ranges[name]

    def _send(self, connection: socket.socket, data: memoryview) -> None:
        """All of it, as fast as the job takes it. The descriptor is shared with the intake, and never blocks."""
        poll = select.poll()
        poll.register(connection, select.POLLOUT)
        while data:
            try:
                data = data[connection.send(data, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                if self._stopped.is_set():
                    raise ConnectionError("the feed stops") from None
                poll.poll(1000 * _LOOK_S)

    def _note(self) -> None:
        with self._lock:
            text = json.dumps(self.read_bytes)
        self._counts_file.write_text(text)


def _who(door: socket.socket) -> int:
    """The process that connected, as the kernel says (SO_PEERCRED, unix(7))."""
    pid, _, _ = struct.unpack("3i", door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return pid


def read_counts(path: Path) -> dict[str, int]:
    """Bytes that a job has read of each version, as noted so far."""
    with suppress(OSError, ValueError):
        found: dict[str, int] = json.loads(path.read_text())
        return found
    return {}
