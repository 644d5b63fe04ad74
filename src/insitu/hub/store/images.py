"""Images: asked for, being built, ready or failed."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from sqlalchemy import or_, select, update

from insitu.hub.store.outputs import AdmittedRelease
from insitu.hub.store.session import ReadSession, WriteSession
from insitu.hub.store.tables import ImageRow
from insitu.wire.people import ImageView, Reason

TOPIC = "images"


@dataclass(frozen=True)
class ImageToBuild:
    id: str
    model: str
    version: int
    model_digest: str
    base: str
    lock: str
    push: bool


@dataclass(frozen=True)
class BuiltImage:
    """What became of a build: everything that the row says of it."""

    digest: str
    reference: str
    size_bytes: int
    blobs: Sequence[str]
    pushed: bool
    reason: Reason


def current(session: ReadSession, model: str, version: int) -> ImageView | None:
    """The image of a model version that is ready or being built."""
    row = session.rows(
        select(ImageRow)
        .where(ImageRow.model == model, ImageRow.version == version, ImageRow.state != "failed")
        .order_by(ImageRow.number.desc())
        .limit(1)
    ).scalar_one_or_none()
    return None if row is None else _view(row)


def add(
    session: WriteSession, model: str, version: int, release: AdmittedRelease, *, push: bool, now: datetime
) -> ImageView:
    row = ImageRow(
        id="i-" + secrets.token_hex(6),
        state="building",
        model=model,
        version=version,
        push=push,
        model_digest=release.digest,
        base=release.base,
        lock=release.lock,
        digest="",
        reference="",
        size_bytes=0,
        blobs=[],
        pushed=False,
        reason={},
        created_at=now,
    )
    session.add(row)
    session.wake(TOPIC)
    return _view(row)


def push_again(session: WriteSession, image_id: str) -> None:
    """A ready image that was not pushed is taken up again: its layers are there, so this costs the push alone."""
    changed = session.change(
        update(ImageRow)
        .where(ImageRow.id == image_id, ImageRow.state == "ready", ImageRow.pushed.is_(False))
        .values(state="building", push=True, reason={})
    )
    if changed:
        session.wake(TOPIC)


def to_build(session: ReadSession) -> list[ImageToBuild]:
    rows = session.rows(select(ImageRow).where(ImageRow.state == "building").order_by(ImageRow.number)).scalars()
    return [
        ImageToBuild(row.id, row.model, row.version, row.model_digest, row.base, row.lock, row.push) for row in rows
    ]


def note_ready(session: WriteSession, image_id: str, built: BuiltImage) -> bool:
    changed = session.change(
        update(ImageRow)
        .where(ImageRow.id == image_id, ImageRow.state == "building")
        .values(
            state="ready",
            digest=built.digest,
            reference=built.reference,
            size_bytes=built.size_bytes,
            blobs=list(built.blobs),
            pushed=built.pushed,
            reason=built.reason.model_dump(exclude_defaults=True),
        )
    )
    return bool(changed)


def note_failed(session: WriteSession, image_id: str, reason: Reason) -> bool:
    changed = session.change(
        update(ImageRow)
        .where(ImageRow.id == image_id, ImageRow.state == "building")
        .values(state="failed", reason=reason.model_dump(exclude_defaults=True))
    )
    return bool(changed)


def view(session: ReadSession, name: str) -> ImageView | None:
    """By id, by the digest of its manifest, or as `<model>:<version>`; the newest of several."""
    model, _, version = name.rpartition(":")
    named = [ImageRow.id == name, ImageRow.digest == name]
    if model and version.isdecimal() and len(version) < 10:
        named.append((ImageRow.model == model) & (ImageRow.version == int(version)))
    row = session.rows(
        select(ImageRow).where(or_(*named)).order_by(ImageRow.number.desc()).limit(1)
    ).scalar_one_or_none()
    return None if row is None else _view(row)


def views(session: ReadSession, *, limit: int) -> list[ImageView]:
    rows = session.rows(select(ImageRow).order_by(ImageRow.number.desc()).limit(limit)).scalars()
    return [_view(row) for row in rows]


def ready_by_digest(session: ReadSession, digest: str) -> list[ImageView]:
    """Every ready image with this manifest: two versions of a model may be the same bytes."""
    rows = session.rows(select(ImageRow).where(ImageRow.digest == digest, ImageRow.state == "ready")).scalars()
    return [_view(row) for row in rows]


def blobs_of(session: ReadSession, digest: str) -> list[str]:
    found = session.rows(
        select(ImageRow.blobs).where(ImageRow.digest == digest).order_by(ImageRow.number.desc()).limit(1)
    )
    return list(found.scalar_one_or_none() or [])


def _view(row: ImageRow) -> ImageView:
    return ImageView(
        id=row.id,
        state=cast("Literal['building', 'ready', 'failed']", row.state),
        model=row.model,
        version=row.version,
        model_digest=row.model_digest,
        digest=row.digest,
        reference=row.reference,
        size_bytes=row.size_bytes,
        base=row.base,
        lock=row.lock,
        pushed=row.pushed,
        created_at=row.created_at,
        reason=Reason.model_validate(row.reason),
    )
