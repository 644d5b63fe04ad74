"""A part of a ledger stands on its own: each entry is proved to be one of it, and the head to be what was signed."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from insitu.domain.errors import InsituError, IntegrityError, SignatureError
from insitu.testing.builders import NOON
from insitu.wire.heads import CountersignedHead, check_begins_with, check_signatures, parse_head
from insitu.wire.keys import SigningKey
from insitu.wire.ledger import GENESIS, LedgerEntry, read_ledger
from insitu.wire.ledger_exports import export_lines, is_export, read_export
from insitu.wire.sync import head_message

SITE, HUB = SigningKey.generate(), SigningKey.generate()


def lines_of(count: int, word: str = "") -> list[bytes]:
    lines, prev = [], GENESIS
    for seq in range(count):
        about = ["wdbc@1"] if seq % 3 == 0 else ["other@2"]
        entry = LedgerEntry(
            seq=seq, at=NOON, kind="file", name=f"model{word}", datasets=about, size_bytes=seq, prev=prev
        )
        lines.append(entry.as_line())
        prev = entry.hash
    return lines


def signed(lines: list[bytes]) -> CountersignedHead:
    head = read_ledger(lines).head
    message = head_message("leeds", head.entries, head.hash, head.root)
    return CountersignedHead(
        site="leeds",
        entries=head.entries,
        hash=head.hash,
        root=head.root,
        site_key=SITE.public.text,
        site_signature=base64.b64encode(SITE.sign(message)).decode(),
        hub_key=HUB.public.text,
        hub_signature=base64.b64encode(HUB.sign(message)).decode(),
    )


def exported(count: int = 20, covered: int = 13) -> list[str]:
    lines = lines_of(count)
    return list(export_lines(lines, lambda entry: entry.is_about("wdbc"), signed(lines[:covered])))


def checked(lines: list[str]) -> Any:
    return read_export([line.encode() for line in lines])


def test_an_export_holds_what_was_asked_for_and_proves_it() -> None:
    lines = exported()
    assert all(is_export(line.encode()) for line in lines)
    found = checked(lines)
    assert [entry.seq for entry in found.entries] == [0, 3, 6, 9, 12, 15, 18]
    assert found.ledger_entries == 20
    assert found.root == read_ledger(lines_of(20)).head.root
    assert check_signatures(found.countersigned) == (SITE.fingerprint, HUB.fingerprint)
    assert "other@2" not in "".join(lines)


def changed(lines: list[str], where: int, change: Any) -> list[str]:
    document = json.loads(lines[where])
    change(document)
    return [*lines[:where], json.dumps(document), *lines[where + 1 :][: len(lines) - where - 1]]


@pytest.mark.parametrize(
    ("where", "change"),
    [
        (2, lambda line: line["entry"].update(size_bytes=0)),
        (2, lambda line: line["entry"].update(seq=7)),
        (2, lambda line: line["proof"].pop()),
        (7, lambda line: line["head"].update(entries=19)),
        (7, lambda line: line["head"].update(root="sha256:" + "0" * 64)),
        (7, lambda line: line["consistency"].pop()),
        (7, lambda line: line["countersigned"].update(root=GENESIS)),
    ],
)
def test_an_export_in_which_anything_was_changed_proves_nothing(where: int, change: Any) -> None:
    with pytest.raises(IntegrityError):
        checked(changed(exported(), where, change))


def test_a_countersigned_head_of_others_is_told_by_its_signatures() -> None:
    lines = changed(exported(), 7, lambda line: line["countersigned"].update(site="turin"))
    with pytest.raises(SignatureError):
        check_signatures(checked(lines).countersigned)


@pytest.mark.parametrize("lines", [[], exported()[:-1], ["7"], ['{"head": 3}'], ['{"entry": {}, "proof": []}'], ["{"]])
def test_what_is_no_export_is_said(lines: list[str]) -> None:
    with pytest.raises(InsituError) as error:
        checked(lines)
    assert error.value.code == "ledger-export"


def test_a_ledger_that_went_back_or_was_rewritten_is_not_what_was_countersigned() -> None:
    head = signed(lines_of(10))
    check_begins_with(read_ledger(lines_of(12)), head)
    with pytest.raises(IntegrityError, match="went back"):
        check_begins_with(read_ledger(lines_of(9)), head)
    with pytest.raises(IntegrityError, match="first 10 entries"):
        check_begins_with(read_ledger(lines_of(12, "other")), head)
    with pytest.raises(IntegrityError, match="first 10 entries"):
        list(export_lines(lines_of(12, "other"), lambda _: True, head))


def test_a_head_is_read_strictly() -> None:
    assert parse_head(signed(lines_of(2)).model_dump_json()) == signed(lines_of(2))
    for text in ("", "{}", '{"site": 3}'):
        with pytest.raises(InsituError):
            parse_head(text)
