"""What every store of bytes at a site can do, whoever keeps it.

A store holds objects by name: UTF-8 with `/` between its parts, never a path of
this machine. Objects are read as a whole, in ranges, or as a stream; each reading
may name the ETag that the object had when it was listed, and fails when it has
another one by now. Reading never changes a store; only `write` does, and the agent
writes for `data upload` alone.

Four things can go wrong, one after the other, and each has its own error:

    reach   nobody answers at the address              StoreUnreachableError
    login   the store knows us not, or no longer       StoreLoginError
    list    the container is not there, or closed      StoreListError
    read    an object is not there, or closed          StoreReadError, ObjectMissingError, ObjectChangedError
    write   it takes nothing from us                   StoreWriteError

Credentials are in none of them: what a store or its library says may hold
them (an address with its signature), so nothing of it is passed on but its own
short code. The names of objects stand in these errors, so their text is for the
site alone; beyond it goes `code`.

Implementations may be used by many threads at once. Their names stand in `opening`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from insitu.domain.errors import (
    AuthenticationError,
    InsituError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
    UnreachableError,
)

Step = Literal["reach", "login", "list", "read", "write"]

RANGE_BYTES = 8 << 20
"""How much of an object is asked for at once where it is read in ranges."""

Buffer = bytes | bytearray | memoryview
Progress = Callable[[int], None]


def told_nobody(_: int) -> None:
    """Progress that nobody wants to hear of."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of an object without reading it."""

    name: str
    size_bytes: int
    etag: str
    """The store's own word for these very bytes, without quotes. Of a folder: inode, size and times."""
    modified_at: datetime
    """Aware, UTC."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """Memory for a stream's pieces, of a taker who is done with each before it asks for the next."""

    buffer: memoryview
    """Of bytes; overwritten with each piece. Half a megabyte stays in a processor's cache."""
    full: bool = True
    """Only the last piece may be smaller than the buffer. Else each is what is there already."""


class ObjectStore(Protocol):
    """A container, bucket or folder, and maybe a prefix in it; names are relative to that."""

    @property
    def kind(self) -> str:
        """folder, azure, azure-sdk or s3."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose names begin with `prefix`, page after page, in no particular order.

        A prefix may end within a name's part: `wdbc/part-` finds `wdbc/part-1.csv`.

        Raises:
            StoreUnreachableError, StoreLoginError, StoreListError.
        """
        ...

    def describe(self, name: str) -> ObjectInfo:
        """One object, as `list` would name it.

        Raises:
            ObjectMissingError: there is none.
            StoreUnreachableError, StoreLoginError, StoreReadError.
        """
        ...

    def read(self, name: str, start: int, length: int, *, etag: str = "") -> Buffer:
        """The bytes from `start`, exactly `length` of them; none are asked for when it is 0.

        Args:
            etag: what the object must still have; empty: whatever it has.

        Raises:
            ObjectChangedError: it has another ETag by now, or ends earlier.
            ObjectMissingError: there is none.
            StoreUnreachableError, StoreLoginError, StoreReadError.
        """
        ...

    @property
    def reuses(self) -> bool:
        """Whether `stream` has a quicker way to read into memory that is used again."""
        ...

    def stream(
        self,
        name: str,
        *,
        start: int = 0,
        length: int | None = None,
        etag: str = "",
        reuse: Reuse | None = None,
    ) -> Iterator[Buffer]:
        """The object from `start` on, in pieces of half a megabyte or more: `length` bytes, or to its end.

        One request, however long: each costs a store some milliseconds. Fewer bytes than `length` come when the object
        ends earlier.

        Args:
            reuse: pieces may lie in this memory, each in place of the one before. None: each has its own.

        Raises:
            As `read` does, also between two pieces.
        """
        ...

    def write(self, name: str, source: Path, *, progress: Progress = told_nobody) -> ObjectInfo:
        """Put the file `source` there, whole or not at all, in place of what was there.

        Args:
            progress: called with each number of bytes that were handed over.

        Raises:
            StoreWriteError: the store takes it not.
            StoreUnreachableError, StoreLoginError.
        """
        ...

    def close(self) -> None:
        """Let go of connections. A closed store is used no more."""
        ...


class StoreError(InsituError):
    """Something went wrong between a site and its store; `step` says at which of the steps above."""

    step: ClassVar[Step] = "reach"
    default_code = "store"


class StoreUnreachableError(StoreError, UnreachableError):
    """Nobody answers at the endpoint, or not in a way that can be understood."""

    default_code = "store-unreachable"


class StoreLoginError(StoreError, AuthenticationError):
    """The store does not accept who we say that we are. `code` tells apart what can be told apart.

    store-key-wrong, store-key-malformed, store-token-expired, store-clock-skew, store-no-credentials, store-login
    """

    step = "login"
    default_code = "store-login"


class StoreListError(StoreError, UnavailableError):
    """We may not list, or there is nothing to be listed: store-container-missing, store-list-denied, store-list."""

    step = "list"
    default_code = "store-list"


class StoreReadError(StoreError, UnavailableError):
    """An object can't be read: store-read-denied, store-read."""

    step = "read"
    default_code = "store-read"


class ObjectMissingError(StoreError, NotFoundError):
    """There is no such object."""

    step = "read"
    default_code = "object-missing"


class ObjectChangedError(StoreError, IntegrityError):
    """An object is not the one that was listed."""

    step = "read"
    default_code = "object-changed"


class StoreWriteError(StoreError, UnavailableError):
    """The store takes nothing from us: store-write-denied, store-full, store-write."""

    step = "write"
    default_code = "store-write"
