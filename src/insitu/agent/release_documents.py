"""What is written down when an output leaves, or its card does: the ledger's entry and the signed document."""

from __future__ import annotations

from typing import Any

import rfc8785

from insitu.agent.attempt import Attempt
from insitu.agent.review_queue import ItemRow
from insitu.wire.cards import CardDocument
from insitu.wire.ledger import GENESIS, LedgerEntry
from insitu.wire.releases import ReleasedFile, ReleaseDocument

_ANY_ENTRY = 10**12  # longer than any entry's number: a card's weight is known before its entry is written


def released_files(item: ItemRow) -> list[ReleasedFile]:
    return [ReleasedFile.model_validate(file) for file in item.details["files"]]


def rule_of(item: ItemRow) -> str:
    """What let it out, or keeps it here: a rule of the gate, or who said so."""
    return str(item.details.get("verdict_rule") or item.decision["rule"])


def file_entry(attempt: Attempt, item: ItemRow) -> LedgerEntry:
    """An output leaves."""
    files = released_files(item)
    return _entry(
        attempt,
        item,
        kind="file",
        decision="released",
        counts={"files": len(files)},
        size_bytes=sum(file.size_bytes for file in files),
        ceiling_bytes=item.decision.get("ceiling_bytes", 0),
    )


def card_entry(attempt: Attempt, item: ItemRow) -> LedgerEntry:
    """A card leaves: with the signed job, the entry says everything that the card does."""
    files = released_files(item)
    entry = _entry(
        attempt,
        item,
        kind="card",
        decision="resident",
        counts={"files": len(files), "model_bytes": sum(file.size_bytes for file in files)},
    )
    weighed = card_document(attempt, item, entry.model_copy(update={"seq": _ANY_ENTRY}))
    return entry.model_copy(update={"size_bytes": len(rfc8785.dumps(weighed.model_dump(mode="json")))})


def _entry(attempt: Attempt, item: ItemRow, **fields: Any) -> LedgerEntry:
    return LedgerEntry(
        seq=0,
        at=attempt.site.now(),
        job_id=item.job_id,
        attempt=item.attempt,
        name=item.output,
        datasets=list(attempt.about.datasets),
        submitter=attempt.about.submitter,
        rule=rule_of(item),
        digest=item.digest,
        policy_version=attempt.about.policy_version,
        reviewer=item.details.get("reviewer", ""),
        run_envelope=attempt.run_envelope,
        prev=GENESIS,
        **fields,
    )


def release_document(attempt: Attempt, item: ItemRow, entry: LedgerEntry) -> ReleaseDocument:
    return ReleaseDocument(
        **_common(attempt, item, entry),
        files=released_files(item),
        released_at=entry.at,
    )


def card_document(attempt: Attempt, item: ItemRow, entry: LedgerEntry) -> CardDocument:
    return CardDocument(
        **_common(attempt, item, entry),
        files=entry.counts["files"],
        size_bytes=entry.counts["model_bytes"],
        decided_at=entry.at,
    )


def _common(attempt: Attempt, item: ItemRow, entry: LedgerEntry) -> dict[str, Any]:
    """What a release and a card both say: of what job it is, made of what, and who decided."""
    job = attempt.verified
    target = attempt.row.details["target"]
    output = next(out for out in job.job.contract.outputs if out.name == item.output)
    return {
        "job_id": item.job_id,
        "attempt": item.attempt,
        "fence": attempt.row.fence,
        "output": item.output,
        "type": output.type,
        "register_as": output.register,
        "digest": item.digest,
        "datasets": {f"{pin.name}@{pin.version}": pin.digest for pin in job.document.datasets},
        "code": job.document.code,
        "lock": target["lock"],
        "base": target["base"],
        "policy_version": attempt.about.policy_version,
        "rule": entry.rule,
        "reviewer": entry.reviewer,
        "entry": entry.seq,
    }
