"""What left a site for a job, channel by channel, as the hub received it. The site's ledger is the record."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
from sqlalchemy import select

from insitu.hub.store import outputs
from insitu.hub.store.session import ReadSession
from insitu.hub.store.tables import JobEventsRow, JobRow
from insitu.wire.events import channel_of
from insitu.wire.people import ChannelView, MeterView

_BY_THE_HUB = -1
_WORDS = frozenset({"metric", "param", "tag", "run", "log", "note"})  # kinds that say something of the job's own


def meter(session: ReadSession, job_id: str) -> MeterView | None:
    """All channels of a job, over its attempts."""
    job = session.rows(
        select(JobRow.state, JobRow.egress_bytes, JobRow.room_bytes).where(JobRow.id == job_id)
    ).one_or_none()
    if job is None:
        return None
    entries, sizes = _of_events(session, job_id)
    for item in outputs.egress(session, job_id):
        if item.size_bytes:
            entries["file"] += 1
            sizes["file"] += item.size_bytes
    channels = [ChannelView(channel=kind, entries=entries[kind], left_bytes=sizes[kind]) for kind in sorted(entries)]
    return MeterView(
        job_id=job_id, state=job.state, channels=channels, left_bytes=job.egress_bytes, room_bytes=job.room_bytes
    )


def _of_events(session: ReadSession, job_id: str) -> tuple[Counter[str], Counter[str]]:
    entries: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    row = JobEventsRow
    of_job = (row.job_id == job_id, row.entry != _BY_THE_HUB)
    for kinds, first, last, size_bytes in session.rows(
        select(row.kinds, row.first_cursor, row.last_cursor, row.size_bytes).where(*of_job)
    ).all():
        alone = kinds.strip(",")
        if alone in _WORDS:  # most batches: nothing has to be read
            entries[alone] += last - first + 1
            sizes[alone] += size_bytes
        elif any(kind in _WORDS for kind in alone.split(",")):
            _add_mixed(_payload(session, job_id, first), size_bytes, entries, sizes)
    return entries, sizes


def _payload(session: ReadSession, job_id: str, first_cursor: int) -> list[dict[str, Any]]:
    row = JobEventsRow
    query = select(row.payload).where(row.job_id == job_id, row.first_cursor == first_cursor)
    return orjson.loads(session.rows(query).scalar_one())


def _add_mixed(events: list[dict[str, Any]], size_bytes: int, entries: Counter[str], sizes: Counter[str]) -> None:
    """Share a batch's size among its kinds, by how long their events are here."""
    lengths: Counter[str] = Counter()
    for event in events:
        channel = channel_of(event)
        if channel in _WORDS:
            entries[channel] += 1
            lengths[channel] += len(orjson.dumps(event))
    whole = max(1, lengths.total())
    left = size_bytes
    for kind, length in lengths.most_common()[1:]:
        sizes[kind] += (share := size_bytes * length // whole)
        left -= share
    for kind, _ in lengths.most_common(1):
        sizes[kind] += left
