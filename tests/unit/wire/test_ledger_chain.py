"""A ledger can be appended to and nothing else."""

from __future__ import annotations

import pytest

from insitu.domain.errors import IntegrityError
from insitu.testing.builders import NOON
from insitu.wire.ledger import GENESIS, LedgerEntry, verify


def _lines(count: int) -> list[bytes]:
    lines, prev = [], GENESIS
    for seq in range(count):
        entry = LedgerEntry(seq=seq, at=NOON, kind="batch", job_id="j-1", size_bytes=seq, prev=prev)
        lines.append(entry.as_line())
        prev = entry.hash
    return lines


def test_a_whole_chain_verifies_to_its_head() -> None:
    lines = _lines(5)
    head = verify(lines)
    assert head.entries == 5
    assert verify(lines[:4]).hash != head.hash


def test_an_empty_ledger_is_at_its_genesis() -> None:
    assert verify([]).hash == GENESIS


@pytest.mark.parametrize("where", range(4))
def test_changing_one_byte_of_any_entry_but_the_last_breaks_the_chain(where: int) -> None:
    lines = _lines(5)
    lines[where] = lines[where].replace(b'"size_bytes":', b'"size_bytes":1')
    with pytest.raises(IntegrityError):
        verify(lines)


def test_dropping_an_entry_breaks_the_chain() -> None:
    lines = _lines(5)
    del lines[2]
    with pytest.raises(IntegrityError):
        verify(lines)


def test_swapping_entries_breaks_the_chain() -> None:
    lines = _lines(5)
    lines[1], lines[2] = lines[2], lines[1]
    with pytest.raises(IntegrityError):
        verify(lines)


def test_an_entry_in_another_spelling_is_refused() -> None:
    lines = _lines(2)
    lines[1] = lines[1].replace(b'","', b'", "', 1)
    with pytest.raises(IntegrityError):
        verify(lines)


def test_a_ledger_of_the_first_version_still_verifies() -> None:
    """Written before entries had a ceiling or a run envelope."""
    line = (
        b'{"at":"2026-11-23T12:00:00Z","attempt":0,"counts":{},"datasets":[],"decision":"","digest":"","first_seq":0,'
        b'"job_id":"","kind":"opened","last_seq":0,"name":"","policy_version":0,"prev":"' + GENESIS.encode() + b'",'
        b'"reviewer":"","rule":"","seq":0,"size_bytes":0,"submitter":""}\n'
    )
    assert verify([line]).entries == 1


def test_a_later_field_can_not_be_taken_out_again() -> None:
    entry = LedgerEntry(seq=0, at=NOON, kind="file", ceiling_bytes=7, run_envelope="sha256:1", prev=GENESIS)
    assert verify([entry.as_line()]).hash == entry.hash
    without = entry.model_copy(update={"ceiling_bytes": 0})
    assert without.hash != entry.hash
