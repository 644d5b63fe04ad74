"""What an attempt tells the hub arrives once, in order, and never before its ledger entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from insitu.agent.ledger import Ledger
from insitu.agent.spare_threads import SpareThreads
from insitu.agent.store import Store
from insitu.agent.stream import About, AttemptStream
from insitu.domain.errors import ConflictError, InsituError, UnreachableError
from insitu.testing.builders import NOON
from insitu.wire.events import EventBatch

ABOUT = About("j-1", 1, 7, ("wdbc@1",), "ed25519:SHA256:x", 3)


class ScriptedLink:
    """A hub that keeps what it is sent, after the errors that a test wants it to raise first."""

    def __init__(self, ledger: Ledger, errors: Sequence[InsituError] = ()) -> None:
        self.ledger, self.errors = ledger, list(errors)
        self.events: dict[int, Any] = {}
        self.batches: list[EventBatch] = []

    def send_events(self, raw: bytes) -> int:
        batch = EventBatch.model_validate_json(raw)
        # The entry that the batch names is on disk before anything of it is sent.
        entry = self.ledger.entries()[batch.entry]
        assert (entry.first_seq, entry.last_seq) == (batch.events[0].seq, batch.events[-1].seq)
        self.batches.append(batch)
        for event in batch.events:
            self.events.setdefault(event.seq, event)
        if self.errors:
            raise self.errors.pop(0)
        return batch.events[-1].seq


Open = Callable[..., AttemptStream]


@pytest.fixture
def site(tmp_path: Path) -> tuple[Store, Ledger]:
    store = Store(tmp_path / "db")
    store.put_assignment("j-1", 1, 7, {})
    return store, Ledger(tmp_path / "ledger")


@pytest.fixture
def open_stream(tmp_path: Path, site: tuple[Store, Ledger]) -> Open:
    store, ledger = site

    def opened(link: ScriptedLink, *, room: int = 10**9) -> AttemptStream:
        row = store.attempt("j-1", 1)
        assert row is not None
        return AttemptStream(
            tmp_path / "journal",
            ABOUT,
            store=store,
            ledger=ledger,
            link=link,  # type: ignore[arg-type] - the fake has the one call that a stream makes
            may_spend=lambda about, size: ledger.spending.of_job(about.job_id) + size <= room,
            has_policy=lambda: True,
            clock=lambda: NOON,
            acked=row.acked,
            threads=SpareThreads(),
        )

    return opened


def _log(text: str) -> dict[str, Any]:
    return {"kind": "log", "stream": "stdout", "text": text}


def test_events_are_numbered_from_one_without_a_gap(site: tuple[Store, Ledger], open_stream: Open) -> None:
    link = ScriptedLink(site[1])
    stream = open_stream(link)
    for number in range(1200):
        stream.add([_log(str(number))])
    assert stream.drain(10)
    stream.close()
    assert sorted(link.events) == list(range(1, 1201))
    assert [link.events[seq].text for seq in sorted(link.events)] == [str(number) for number in range(1200)]


def test_what_the_site_itself_says_is_no_log_line_in_the_ledger(site: tuple[Store, Ledger], open_stream: Open) -> None:
    stream = open_stream(ScriptedLink(site[1]))
    stream.add([_log("epoch 1"), {**_log("one line stayed"), "stream": "site"}])
    assert stream.drain(10)
    stream.close()
    entry = site[1].entries()[-1]
    assert entry.counts == {"log": 1, "note": 1}
    assert sum(entry.sizes.values()) == entry.size_bytes


def test_a_reply_that_was_lost_means_the_same_batch_again_under_the_same_entry(
    site: tuple[Store, Ledger], open_stream: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insitu.agent.stream._RETRY_S", 0.01)
    link = ScriptedLink(site[1], [UnreachableError("lost")])
    stream = open_stream(link)
    stream.add([_log("once")])
    assert stream.drain(10)
    stream.close()
    first, second = link.batches
    assert first == second
    assert [entry.kind for entry in site[1].entries()] == ["batch"]


def test_a_restart_between_ledger_and_hub_sends_that_batch_and_no_second_entry(
    site: tuple[Store, Ledger], open_stream: Open
) -> None:
    dead = ScriptedLink(site[1], [UnreachableError("killed")] * 1000)
    stream = open_stream(dead)
    stream.add([_log("a"), _log("b")])
    while not dead.batches:
        stream.drain(0.01)
    stream.close()
    link = ScriptedLink(site[1])
    again = open_stream(link)
    again.add([_log("c")])
    assert again.drain(10)
    again.close()
    assert [link.events[seq].text for seq in sorted(link.events)] == ["a", "b", "c"]
    entries = site[1].entries()
    assert [(entry.first_seq, entry.last_seq) for entry in entries] == [(1, 2), (3, 3)]


def test_a_journal_line_torn_by_a_crash_is_dropped_and_the_rest_goes_on(
    tmp_path: Path, site: tuple[Store, Ledger], open_stream: Open
) -> None:
    first = open_stream(ScriptedLink(site[1]))
    first.add([_log("whole")])
    assert first.drain(10)
    first.close()
    with (tmp_path / "journal").open("ab") as journal:
        journal.write(b'{"kind":"log","str')
    link = ScriptedLink(site[1])
    again = open_stream(link)
    again.add([_log("next")])
    assert again.drain(10)
    again.close()
    assert {seq: event.text for seq, event in link.events.items()} == {2: "next"}


def test_what_the_budget_has_no_room_for_stays_and_is_counted(site: tuple[Store, Ledger], open_stream: Open) -> None:
    link = ScriptedLink(site[1])
    stream = open_stream(link, room=250)
    for number in range(10):
        stream.add([_log("x" * 20 + str(number))])
    stream.add([{"kind": "state", "state": "running"}])
    assert stream.drain(10)
    stream.close()
    assert stream.dropped["log"] > 0
    assert site[1].spending.of_job("j-1") <= 250
    assert [event.kind for event in link.events.values()][-1] == "state"
    assert sorted(link.events) == list(range(1, len(link.events) + 1))


def test_a_hub_that_refuses_for_good_ends_the_stream(site: tuple[Store, Ledger], open_stream: Open) -> None:
    link = ScriptedLink(site[1], [ConflictError("an older fence", code="fenced")])
    stream = open_stream(link)
    stream.add([_log("late")])
    stream.drain(10)
    stream.close()
    assert stream.refused is not None
    assert stream.refused.code == "fenced"
