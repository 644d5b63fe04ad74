"""A part of a ledger that stands on its own: entries, each with the proof that it is one of the ledger's.

A JSON line for each entry and a last one for the head:

    {"entry": {…}, "hash": "sha256:…", "proof": ["<hex>", …]}
    {"head": {"entries": 420, "hash": …, "root": …}, "countersigned": {…} | null}

So what left about one dataset can be handed to somebody who may not see the
rest, and they can check it (RFC 9162, 2.1.3) against the countersigned head.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from insitu.domain.errors import IntegrityError, InvalidInputError
from insitu.wire.heads import CountersignedHead, check_begins_with
from insitu.wire.ledger import LedgerEntry, ReadLedger, read_entries, read_ledger
from insitu.wire.merkle import extends, includes

_MAX_LINE = 1 << 20


@dataclass(frozen=True)
class ReadExport:
    """An export whose entries are all proved to be the ledger's."""

    entries: tuple[LedgerEntry, ...]
    ledger_entries: int
    root: str
    countersigned: CountersignedHead | None


def export_lines(
    lines: Iterable[bytes], wanted: Callable[[LedgerEntry], bool], countersigned: CountersignedHead | None
) -> Iterator[str]:
    """The export of those entries that are `wanted`. The ledger is checked on the way.

    Raises:
        IntegrityError: the ledger's chain doesn't hold, or it isn't the one that was countersigned.
    """
    kept = list(lines)
    ledger = read_ledger(kept)
    if countersigned is not None:
        check_begins_with(ledger, countersigned)
    for entry in read_entries(kept):
        if wanted(entry):
            yield _line({"entry": entry.model_dump(mode="json"), "hash": entry.hash, **_proof(ledger, entry.seq)})
    head = {"entries": ledger.head.entries, "hash": ledger.head.hash, "root": ledger.head.root}
    since = [step.hex() for step in _since(ledger, countersigned)]
    document = countersigned.model_dump(mode="json") if countersigned else None
    yield _line({"head": head, "countersigned": document, "consistency": since})


def _proof(ledger: ReadLedger, seq: int) -> dict[str, list[str]]:
    return {"proof": [step.hex() for step in ledger.tree.inclusion_proof(seq)]}


def _since(ledger: ReadLedger, countersigned: CountersignedHead | None) -> list[bytes]:
    return ledger.tree.consistency_proof(countersigned.entries) if countersigned else []


def _line(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":")) + "\n"


def is_export(first_line: bytes) -> bool:
    return first_line.startswith((b'{"entry":', b'{"head":'))


def read_export(lines: Iterable[bytes]) -> ReadExport:
    """Check an export against its own head. Whose signatures that head has is for the caller to compare.

    Raises:
        InvalidInputError: it is no export, or its last line is missing.
        IntegrityError: an entry is not proved to be the ledger's, or the head doesn't begin with the countersigned one.
    """
    proved: list[tuple[LedgerEntry, list[bytes]]] = []
    for line in lines:
        document = _document(line)
        if "head" in document:
            return _against(proved, document)
        proved.append(_entry(document))
    raise InvalidInputError(
        "the export has no head", code="ledger-export", why="its last line is missing", hint="export it again"
    )


def _document(line: bytes) -> dict[str, Any]:
    try:
        if len(line) > _MAX_LINE:
            raise ValueError("too long")
        document: Any = json.loads(line)
        if not isinstance(document, dict):
            raise TypeError("no object")
    except (ValueError, TypeError, RecursionError) as exc:
        raise InvalidInputError("this is not an export of a ledger", code="ledger-export") from exc
    return document  # pyright: ignore[reportUnknownVariableType] - its parts are checked where they are read


def _entry(document: dict[str, Any]) -> tuple[LedgerEntry, list[bytes]]:
    try:
        return LedgerEntry.model_validate(document["entry"]), [bytes.fromhex(step) for step in document["proof"]]
    except (ValidationError, KeyError, ValueError, TypeError) as exc:
        raise InvalidInputError("a line of the export is no entry with its proof", code="ledger-export") from exc


def _against(proved: list[tuple[LedgerEntry, list[bytes]]], last: dict[str, Any]) -> ReadExport:
    try:
        size, root = int(last["head"]["entries"]), bytes.fromhex(last["head"]["root"].removeprefix("sha256:"))
        signed = None if last["countersigned"] is None else CountersignedHead.model_validate(last["countersigned"])
        steps = [bytes.fromhex(step) for step in last["consistency"]]
    except (ValidationError, KeyError, ValueError, TypeError, AttributeError) as exc:
        raise InvalidInputError("the export's last line is no head", code="ledger-export") from exc
    for entry, proof in proved:
        if not includes(entry.canonical, entry.seq, size, proof, root):
            raise _not_proved(f"entry {entry.seq} is not proved to be one of this ledger")
    if signed is not None and not _begins(signed, size, root, steps):
        raise _not_proved("the ledger is not proved to begin with the countersigned head")
    return ReadExport(tuple(entry for entry, _ in proved), size, f"sha256:{root.hex()}", signed)


def _begins(signed: CountersignedHead, size: int, root: bytes, steps: list[bytes]) -> bool:
    return extends(signed.entries, bytes.fromhex(signed.root.removeprefix("sha256:")), size, root, steps)


def _not_proved(what: str) -> IntegrityError:
    return IntegrityError(
        what,
        code="ledger-export",
        rule="inclusion-proof",
        hint="it was changed after it was exported, or belongs to another ledger; ask the site for a new export",
    )
