"""Which blobs the hub has, and who has shown their bytes. The bytes themselves are files: `hub.blobs`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import bindparam, select

from insitu.domain.digests import Digest
from insitu.hub.store.session import ReadSession, WriteSession
from insitu.hub.store.tables import BlobHolderRow, BlobRow, table_of


def person(name: str) -> str:
    return f"person:{name}"


def site(name: str) -> str:
    return f"site:{name}"


def add(session: WriteSession, digest: Digest, size_bytes: int, *, holder: str, now: datetime) -> None:
    """Note a blob whose bytes lie in the store, shown by `holder`."""
    insert = session.insert(BlobRow).values(digest=digest, size_bytes=size_bytes, created_at=now)
    session.change(insert.on_conflict_do_nothing())
    session.change(session.insert(BlobHolderRow).values(digest=digest, holder=holder).on_conflict_do_nothing())


# Made once: every submitted job asks for it.
_BLOBS, _HOLDERS = table_of(BlobRow), table_of(BlobHolderRow)
_HELD = (
    select(_BLOBS.c.digest, _BLOBS.c.size_bytes)
    .join(_HOLDERS, _HOLDERS.c.digest == _BLOBS.c.digest)
    .where(_HOLDERS.c.holder == bindparam("by"), _BLOBS.c.digest.in_(bindparam("digests", expanding=True)))
)


def held_by(session: ReadSession, holder: str, digests: Collection[str]) -> dict[str, int]:
    """Those of `digests` that `holder` has shown, with their sizes."""
    rows = session.rows(_HELD, {"by": holder, "digests": list(digests)})
    return dict(rows.all())
