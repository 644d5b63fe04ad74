"""From decision to hub: recorded, ledgered, sent, admitted; held ones wait for their reviewers.

    judged ──► releasing ──► released            its bytes leave
          ├──► announcing ──► resident           a card leaves, its bytes never
          ├──► held ──verdicts──► releasing | announcing | rejected | changes_requested
          └──► refused | kept

The states and what may follow what are `domain.reviews`. The ledger's entry is on
disk before the first byte that it records is sent; a crash in between sends it once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from insitu.agent.attempt import Attempt, Next
from insitu.agent.budget import check_can_spend
from insitu.agent.frozen import check_frozen, keep_copy, list_files
from insitu.agent.release_documents import card_document, card_entry, file_entry, release_document, released_files
from insitu.agent.review_queue import ItemRow
from insitu.agent.statements import keep_statement
from insitu.agent.still_allowed import check_still_released, judged_under
from insitu.domain.digests import Digest
from insitu.domain.errors import DeniedError, UnavailableError, UnreachableError
from insitu.domain.jobs import JobState
from insitu.domain.outputs import Decision, Verdict
from insitu.domain.reviews import DENIED, FIRST_STATE, UNDER_WAY, WAITING, ItemState
from insitu.wire.cards import seal_card
from insitu.wire.ledger import LedgerEntry
from insitu.wire.releases import files_digest, seal_release

_RETRY_S = 2.0


# -- judged ------------------------------------------------------------------------------------------------------------


def record(attempt: Attempt, decisions: list[Decision]) -> list[dict[str, Any]]:
    """Put each decision on disk as an item, its canonical copy frozen by digest; the events that tell the hub."""
    events: list[dict[str, Any]] = []
    for decision in decisions:
        item = _item(attempt, decision)
        attempt.site.store.queue.put(item)
        events.append(_decision_event(item, decision.verdict))
    return events


def _item(attempt: Attempt, decision: Decision) -> ItemRow:
    item_id = _item_id(attempt, decision.name)
    folder = keep_copy(attempt.workspace.out / decision.name, attempt.site.folder.held / item_id)
    files = list_files(folder) if folder else []
    job = attempt.verified
    output = job.job.outputs[decision.name]
    return ItemRow(
        id=item_id,
        job_id=attempt.row.job_id,
        attempt=attempt.row.attempt,
        output=decision.name,
        state=FIRST_STATE[decision.verdict],
        digest=files_digest(files) if files else "",
        decision=asdict(decision),
        details={
            "folder": str(folder) if folder else "",
            "files": [file.model_dump() for file in files],
            "type": output.type,
            "register": output.register_as or "",
            "job_name": job.job.display_name,
            "code": job.document.code,
            **judged_under(attempt),
        },
        at=attempt.site.now(),
    )


def _item_id(attempt: Attempt, output: str) -> str:
    """The same output of the same attempt always gets the same id, so judging twice makes one item."""
    text = f"{attempt.row.job_id}/{attempt.row.attempt}/{output}"
    return "r-" + hashlib.sha256(text.encode()).hexdigest()[:12]


def _decision_event(item: ItemRow, verdict: Verdict) -> dict[str, Any]:
    """What the hub hears of a decision, or of the verdicts that came after it."""
    decision, details = item.decision, item.details
    return {
        "kind": "decision",
        "output": item.output,
        "verdict": verdict.value,
        "rule": str(details.get("verdict_rule") or decision["rule"])[:80],
        "measure": decision["measure"][:200],
        "limit": decision["limit"][:200],
        "hint": decision["hint"][:500],
        "findings": [dict(finding) for finding in decision["findings"][:20]],
        "not_checked": list(decision["not_checked"][:40]),
        "size_bytes": decision["size_bytes"],
        "digest": item.digest,
        "review": details.get("review", ""),
        "reason": details.get("reason", "")[:500],
    }


# -- where an attempt goes ---------------------------------------------------------------------------------------------


def after_judging(attempt: Attempt) -> Next:
    """Where an attempt goes when its outputs have been judged, or verdicts have come."""
    items = _items(attempt)
    if any(item.state in UNDER_WAY for item in items):
        return Next(JobState.RELEASING)
    for state, item_states in ((JobState.HELD, WAITING), (JobState.REFUSED, DENIED)):
        found = next((item for item in items if item.state in item_states), None)
        if found is not None:
            return Next(state, event=_why(found))
    return Next(JobState.SUCCEEDED)


def after_review(attempt: Attempt) -> Next:
    """As `after_judging`, when reviewers may have denied something: then the hub hears why."""
    for item in _items(attempt):
        if item.state in (ItemState.REJECTED, ItemState.CHANGES_REQUESTED):
            _tell(attempt, item, Verdict.REFUSED)
    return after_judging(attempt)


def _items(attempt: Attempt) -> list[ItemRow]:
    found = attempt.site.store.queue.items(job_id=attempt.row.job_id)
    return [item for item in found if item.attempt == attempt.row.attempt]


def _tell(attempt: Attempt, item: ItemRow, verdict: Verdict) -> None:
    """Say once what became of an item. Said and not noted is said twice, which changes nothing."""
    if item.details.get("review") and item.details.get("told") != item.state.value:
        attempt.stream.add([_decision_event(item, verdict)])
        attempt.site.store.queue.note(item, told=item.state.value)


_WORDS: Mapping[ItemState, tuple[str, str]] = {
    ItemState.HELD: ("output-held", "output {!r} is held for a reviewer"),
    ItemState.UNDER_REVIEW: ("output-held", "output {!r} is held for a reviewer"),
    ItemState.REFUSED: ("output-refused", "output {!r} is refused"),
    ItemState.REJECTED: ("output-rejected", "output {!r} is refused by a reviewer"),
    ItemState.CHANGES_REQUESTED: ("changes-requested", "a reviewer asks for changes to output {!r}"),
}


def _why(item: ItemRow) -> dict[str, str]:
    code, what = _WORDS[item.state]
    decision = item.decision
    return {
        "code": code,
        "what": what.format(item.output)[:200],
        "rule": str(decision.get("rule", ""))[:80],
        "measure": str(decision.get("measure", ""))[:200],
        "limit": str(decision.get("limit", ""))[:200],
        "hint": str(item.details.get("reason") or decision.get("hint", ""))[:500],
    }


# -- sent --------------------------------------------------------------------------------------------------------------


def release_all(attempt: Attempt) -> Next:
    """Send every item that may leave, and every card, one after the other, however long the hub is away."""
    for item in _items(attempt):
        send = _SENDERS.get(item.state)
        while send is not None and not attempt.detached.is_set():
            try:
                send(attempt, item)
                break
            except (UnreachableError, UnavailableError):
                attempt.detached.wait(_RETRY_S)
            except DeniedError as exc:
                _hold_back(attempt, item, exc)
                break
    return after_review(attempt)


def _hold_back(attempt: Attempt, item: ItemRow, error: DeniedError) -> None:
    """A budget, a newer policy or the hub said no after the gate or a reviewer had said yes: a person decides, anew."""
    item.decision |= {"rule": error.rule, "measure": error.measure, "limit": error.limit, "hint": error.hint}
    settled: dict[str, Any] = {"review": "", "reason": "", "reviewer": "", "verdict_rule": "", "told": ""}
    settled |= {"round": item.round + 1, "overruled": error.as_dict()}
    attempt.site.store.queue.move(item, ItemState.HELD, **settled)
    attempt.stream.add([_decision_event(item, Verdict.HELD)])


def _release(attempt: Attempt, item: ItemRow) -> None:
    """Let an output leave: ledger, files, document."""
    site, folder = attempt.site, Path(item.details["folder"])
    check_frozen(folder, item.digest)
    entry = site.ledger.output_entry("file", item.job_id, item.attempt, item.output)
    if entry is None:
        check_still_released(attempt, item)
        entry = _spend(attempt, file_entry(attempt, item))
    for file in released_files(item):
        site.link.upload(folder / file.path, Digest(file.digest))
    statement = seal_release(release_document(attempt, item, entry), site.key)
    keep_statement(site, item, statement)
    site.link.send_release(statement)
    site.store.queue.move(item, ItemState.RELEASED, entry=entry.seq)
    _tell(attempt, item, Verdict.RELEASED)


def _announce(attempt: Attempt, item: ItemRow) -> None:
    """Let a model stay, and its card leave: ledger, card."""
    site = attempt.site
    check_frozen(Path(item.details["folder"]), item.digest)
    entry = site.ledger.output_entry("card", item.job_id, item.attempt, item.output)
    if entry is None:
        entry = _spend(attempt, card_entry(attempt, item))
    site.link.send_card(seal_card(card_document(attempt, item, entry), site.key))
    site.store.queue.move(item, ItemState.RESIDENT, entry=entry.seq)
    _tell(attempt, item, Verdict.RESIDENT)


def _spend(attempt: Attempt, entry: LedgerEntry) -> LedgerEntry:
    """Write an entry, if the budgets have room for what it records.

    Raises:
        DeniedError: they haven't.
        UnavailableError: the ledger can't be written.
    """
    site = attempt.site
    check_can_spend(
        attempt.about,
        entry.size_bytes,
        ceiling_bytes=entry.ceiling_bytes,
        policy=site.policy.require(),
        ledger=site.ledger,
        now=site.now(),
    )
    return site.ledger.append(entry)


_SENDERS: Mapping[ItemState, Callable[[Attempt, ItemRow], None]] = {
    ItemState.RELEASING: _release,
    ItemState.ANNOUNCING: _announce,
}
