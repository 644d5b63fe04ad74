"""What a site remembers of judged outputs: each item, the verdicts given on it, and who looked at it.

Three tables of the agent's database. An item's state changes in `move` alone, guarded
by the state that was seen and by what `domain.reviews` lets follow. Views are kept here
and not in the ledger, which records what leaves; a verdict's ledger entry counts them.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from insitu.domain.errors import ConflictError
from insitu.domain.reviews import ItemState, ReviewVerdict, can_follow

SCHEMA = """
create table if not exists items (
    id text primary key,                 -- r-<hex>: one judged output
    job_id text not null,
    attempt integer not null,
    output text not null,
    state text not null,                 -- domain.reviews.ItemState
    digest text not null,
    decision text not null,              -- JSON of the gate's decision
    details text not null default '{}',
    at text not null
) strict;
create table if not exists verdicts (
    item text not null,
    round integer not null,              -- an item that was held back after an approval is reviewed anew
    reviewer text not null,
    key text not null,                   -- fingerprint
    verdict text not null,
    reason text not null,
    envelope text not null,              -- JSON, as it was signed
    at text not null,
    primary key (item, round, key)
) strict;
create table if not exists views (
    item text not null,
    viewer text not null,                -- a name of the policy, or what somebody called themselves
    key text not null,                   -- fingerprint; empty: nobody signed for it
    what text not null,                  -- show | diff
    at text not null
) strict;
create index if not exists views_of_item on views (item);
"""

Write = Callable[[], AbstractContextManager[sqlite3.Connection]]
Read = Callable[..., list[sqlite3.Row]]


@dataclass
class ItemRow:
    """One judged output: the steward's queue and its history."""

    id: str
    job_id: str
    attempt: int
    output: str
    state: ItemState
    digest: str
    decision: dict[str, Any]
    details: dict[str, Any]
    at: datetime

    @property
    def round(self) -> int:
        """Which review of this item it is: one more after each time that it was held back."""
        return int(self.details.get("round", 0))


@dataclass(frozen=True)
class VerdictRow:
    """One reviewer's verdict on an item, as they signed it."""

    item: str
    round: int
    reviewer: str
    key: str
    verdict: ReviewVerdict
    reason: str
    envelope: dict[str, Any] = field(repr=False)
    at: datetime


@dataclass(frozen=True)
class ViewRow:
    """Somebody looked at an item's evidence. Without a key it is only what they claimed."""

    item: str
    viewer: str
    key: str
    what: str
    at: datetime


class ReviewQueue:
    """The items of a site, within the agent's database."""

    def __init__(self, write: Write, read: Read) -> None:
        self._write, self._read = write, read
        self.deciding = threading.Lock()
        """Held from looking at an item's verdicts until there is one more."""

    # -- items ---------------------------------------------------------------------------------------------------------

    def put(self, item: ItemRow) -> None:
        """Keep a judged output; the same one a second time changes nothing."""
        with self._write() as db:
            db.execute(
                "insert or ignore into items values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    item.id,
                    item.job_id,
                    item.attempt,
                    item.output,
                    item.state.value,
                    item.digest,
                    json.dumps(item.decision),
                    json.dumps(item.details),
                    item.at.isoformat(),
                ),
            )

    def move(self, item: ItemRow, after: ItemState, *, given: VerdictRow | None = None, **details: object) -> bool:
        """Every change of an item's state. False: it is not in the state in which it was seen any more.

        Args:
            given: the verdict that moves it, kept in the same transaction. It may leave the item under review.

        Raises:
            ConflictError: no such change exists.
        """
        stays = given is not None and after is item.state is ItemState.UNDER_REVIEW
        if not stays and not can_follow(item.state, after):
            raise ConflictError(
                f"{item.id} is {item.state.value.replace('_', ' ')}: it can't become {after.value.replace('_', ' ')}",
                code="not-held",
                hint="see `insitu release list`",
            )
        known = item.details | details
        with self._write() as db:
            changed = db.execute(
                "update items set state = ?, decision = ?, details = ? where id = ? and state = ?",
                (after.value, json.dumps(item.decision), json.dumps(known), item.id, item.state.value),
            ).rowcount
            if changed and given is not None:
                db.execute("insert into verdicts values (?, ?, ?, ?, ?, ?, ?, ?)", _values(given))
        if changed:
            item.state, item.details = after, known
        return bool(changed)

    def note(self, item: ItemRow, **details: object) -> None:
        """Remember something about an item that is no change of its state."""
        with self._write() as db:
            found = db.execute("select details from items where id = ?", (item.id,)).fetchone()
            item.details = {**(json.loads(found[0]) if found else item.details), **details}
            db.execute("update items set details = ? where id = ?", (json.dumps(item.details), item.id))

    def items(self, *, job_id: str | None = None) -> list[ItemRow]:
        """All items, newest first; or those of a job, in the order in which they were judged."""
        if job_id is None:
            return [_item(row) for row in self._read("select * from items order by rowid desc")]
        return [_item(row) for row in self._read("select * from items where job_id = ? order by rowid", job_id)]

    def item(self, item_id: str) -> ItemRow | None:
        rows = self._read("select * from items where id = ?", item_id)
        return _item(rows[0]) if rows else None

    # -- verdicts and views --------------------------------------------------------------------------------------------

    def verdicts(self, item: ItemRow, *, all_rounds: bool = False) -> list[VerdictRow]:
        """Verdicts on an item as it stands now, in the order in which they were given."""
        rows = self._read("select * from verdicts where item = ? order by rowid", item.id)
        return [_verdict(row) for row in rows if all_rounds or row["round"] == item.round]

    def add_view(self, row: ViewRow) -> None:
        with self._write() as db:
            db.execute(
                "insert into views values (?, ?, ?, ?, ?)",
                (row.item, row.viewer, row.key, row.what, row.at.isoformat()),
            )

    def views(self, item_id: str) -> list[ViewRow]:
        """Who looked at an item, oldest first."""
        rows = self._read("select * from views where item = ? order by rowid", item_id)
        return [
            ViewRow(row["item"], row["viewer"], row["key"], row["what"], datetime.fromisoformat(row["at"]))
            for row in rows
        ]


def _item(row: sqlite3.Row) -> ItemRow:
    return ItemRow(
        id=row["id"],
        job_id=row["job_id"],
        attempt=row["attempt"],
        output=row["output"],
        state=ItemState(row["state"]),
        digest=row["digest"],
        decision=json.loads(row["decision"]),
        details=json.loads(row["details"]),
        at=datetime.fromisoformat(row["at"]),
    )


def _values(row: VerdictRow) -> tuple[object, ...]:
    signed = json.dumps(row.envelope)
    return (row.item, row.round, row.reviewer, row.key, row.verdict.value, row.reason, signed, row.at.isoformat())


def _verdict(row: sqlite3.Row) -> VerdictRow:
    return VerdictRow(
        item=row["item"],
        round=row["round"],
        reviewer=row["reviewer"],
        key=row["key"],
        verdict=ReviewVerdict(row["verdict"]),
        reason=row["reason"],
        envelope=json.loads(row["envelope"]),
        at=datetime.fromisoformat(row["at"]),
    )
