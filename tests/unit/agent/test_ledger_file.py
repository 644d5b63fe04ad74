"""The ledger on disk: whole entries, in order, also after a crash or a full disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from insitu.agent.ledger import Ledger
from insitu.domain.errors import IntegrityError, UnavailableError
from insitu.testing.builders import NOON
from insitu.wire.ledger import GENESIS, LedgerEntry, verify


def _entry(**changes: object) -> LedgerEntry:
    fields: dict[str, object] = {
        "seq": 0,
        "at": NOON,
        "kind": "batch",
        "job_id": "j-1",
        "attempt": 1,
        "datasets": ["wdbc@1"],
        "submitter": "ed25519:SHA256:x",
        "size_bytes": 10,
        "prev": GENESIS,
    }
    return LedgerEntry.model_validate(fields | changes)


def test_entries_are_chained_and_can_be_verified_without_the_agent(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    for _ in range(3):
        ledger.append(_entry())
    with (tmp_path / "ledger").open("rb") as stream:
        assert verify(stream) == ledger.head


def test_what_was_spent_survives_a_restart(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger").append(_entry(size_bytes=70))
    spending = Ledger(tmp_path / "ledger").spending
    assert spending.of_job("j-1") == 70
    assert spending.of_dataset("wdbc", NOON) == 70
    assert spending.of_submitter("ed25519:SHA256:x", NOON) == 70
    assert spending.of_dataset("wdbc", NOON.replace(year=2027)) == 0


def test_a_line_torn_by_a_crash_is_cut_off(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger").append(_entry())
    whole = (tmp_path / "ledger").read_bytes()
    for length in range(1, len(whole)):
        (tmp_path / "ledger").write_bytes(whole + whole[:length].rstrip(b"\n"))
        ledger = Ledger(tmp_path / "ledger")
        assert ledger.head.entries == 1
        assert (tmp_path / "ledger").read_bytes() == whole
        ledger.close()


def test_a_rewritten_entry_keeps_the_agent_from_starting(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.append(_entry())
    ledger.append(_entry())
    data = (tmp_path / "ledger").read_bytes().replace(b'"size_bytes":10', b'"size_bytes":11', 1)
    (tmp_path / "ledger").write_bytes(data)
    with pytest.raises(IntegrityError):
        Ledger(tmp_path / "ledger")


def test_a_disk_that_refuses_leaves_no_half_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.append(_entry())
    before = (tmp_path / "ledger").read_bytes()
    real = os.write

    def half(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(UnavailableError) as caught:
        ledger.append(_entry())
    monkeypatch.undo()
    assert caught.value.code == "ledger-write"
    assert (tmp_path / "ledger").read_bytes() == before
    ledger.append(_entry())
    with (tmp_path / "ledger").open("rb") as stream:
        assert verify(stream).entries == 2


def test_a_frozen_ledger_lets_nothing_out(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ledger.freeze("rolled back")
    with pytest.raises(UnavailableError, match="reconciled"):
        ledger.append(_entry())
