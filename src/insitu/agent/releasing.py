"""From decision to hub: recorded, ledgered, uploaded, admitted; held ones wait for a verdict.

    judged ──► releasing ──► released
          ├──► held ──approve──► releasing
          │        └──reject──► rejected
          └──► refused | kept

Each arrow is a guarded change in the store. The ledger's entry for an output is
on disk before its first byte is uploaded; a crash in between sends it once.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from insitu.agent.attempt import Attempt, Next
from insitu.agent.budget import check_can_spend
from insitu.agent.store import ItemRow
from insitu.domain.digests import Digest, digest_of_file
from insitu.domain.errors import DeniedError, IntegrityError, UnavailableError, UnreachableError
from insitu.domain.jobs import JobState
from insitu.domain.outputs import Decision, Verdict
from insitu.wire.ledger import GENESIS, LedgerEntry
from insitu.wire.releases import ReleasedFile, ReleaseDocument, files_digest, seal_release

_ITEM_STATE = {
    Verdict.RELEASED: "releasing",
    Verdict.HELD: "held",
    Verdict.REFUSED: "refused",
    Verdict.RESIDENT: "resident",
    Verdict.KEPT: "kept",
}
_RETRY_S = 2.0


def record(attempt: Attempt, decisions: list[Decision]) -> list[dict[str, Any]]:
    """Put each decision on disk as an item, its canonical copy frozen by digest; the events that tell the hub."""
    events = []
    for decision in decisions:
        item_id = _item_id(attempt, decision.name)
        folder = _keep_copy(attempt, item_id, decision)
        files = list_files(folder) if folder else []
        digest = files_digest(files) if files else ""
        item = ItemRow(
            id=item_id,
            job_id=attempt.row.job_id,
            attempt=attempt.row.attempt,
            output=decision.name,
            state=_ITEM_STATE[decision.verdict],
            digest=digest,
            decision=asdict(decision),
            details={"folder": str(folder) if folder else "", "files": [file.model_dump() for file in files]},
            at=attempt.site.now(),
        )
        attempt.site.store.put_item(item)
        events.append(decision_event(decision, digest))
    return events


def decision_event(decision: Decision, digest: str, *, reason: str = "") -> dict[str, Any]:
    findings = [asdict(finding) for finding in decision.findings[:20]]
    return {
        "kind": "decision",
        "output": decision.name,
        "verdict": decision.verdict.value,
        "rule": decision.rule,
        "measure": decision.measure[:200],
        "limit": decision.limit[:200],
        "hint": decision.hint[:500],
        "findings": findings,
        "not_checked": list(decision.not_checked[:40]),
        "size_bytes": decision.size_bytes,
        "digest": digest,
        "reason": reason,
    }


def _item_id(attempt: Attempt, output: str) -> str:
    """The same output of the same attempt always gets the same id, so judging twice makes one item."""
    text = f"{attempt.row.job_id}/{attempt.row.attempt}/{output}"
    return "r-" + hashlib.sha256(text.encode()).hexdigest()[:12]


def _keep_copy(attempt: Attempt, item_id: str, decision: Decision) -> Path | None:
    """Move the canonical copy to where only the agent reaches it."""
    target = attempt.site.folder.held / item_id
    source = attempt.workspace.out / decision.name
    if not target.exists() and source.exists():
        work = target.with_name(f".{item_id}")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(source, work, symlinks=True) if source.is_dir() else _copy_file(source, work)
        work.rename(target)
    return target if target.exists() else None


def _copy_file(source: Path, folder: Path) -> None:
    folder.mkdir()
    shutil.copyfile(source, folder / source.name)


def list_files(folder: Path) -> list[ReleasedFile]:
    """A canonical copy's files with their digests.

    Raises:
        IntegrityError: it holds anything but plain files.
    """
    files: list[ReleasedFile] = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file():
            raise IntegrityError("a canonical copy holds something that is not a plain file", code="not-a-file")
        relative = path.relative_to(folder).as_posix()
        files.append(ReleasedFile(path=relative, digest=digest_of_file(path), size_bytes=path.stat().st_size))
    return files


def after_judging(attempt: Attempt) -> Next:
    """Where an attempt goes when its outputs have been judged, or a verdict has come."""
    items = [
        item for item in attempt.site.store.items(job_id=attempt.row.job_id) if item.attempt == attempt.row.attempt
    ]
    states = {item.state for item in items}
    if "releasing" in states:
        return Next(JobState.RELEASING)
    for state, item_states in ((JobState.HELD, {"held"}), (JobState.REFUSED, {"refused", "rejected"})):
        found = next((item for item in items if item.state in item_states), None)
        if found is not None:
            return Next(state, event=_why(found))
    return Next(JobState.SUCCEEDED, event={"exit_code": 0})


def _why(item: ItemRow) -> dict[str, str]:
    decision = item.decision
    word = {"held": "held for a steward", "refused": "refused", "rejected": "refused by a steward"}[item.state]
    fields = {
        "code": f"output-{'held' if item.state == 'held' else 'refused'}",
        "what": f"output {item.output!r} is {word}",
        "rule": decision.get("rule", ""),
        "measure": decision.get("measure", ""),
        "limit": decision.get("limit", ""),
        "hint": item.details.get("reason") or decision.get("hint", ""),
    }
    return {key: str(value)[:200] for key, value in fields.items()}


def release_all(attempt: Attempt) -> Next:
    """Send every item that may leave, one after the other, however long the hub is away."""
    site = attempt.site
    for item in site.store.items(job_id=attempt.row.job_id):
        if item.state != "releasing" or item.attempt != attempt.row.attempt:
            continue
        while not attempt.detached.is_set():
            try:
                _release(attempt, item)
                break
            except (UnreachableError, UnavailableError):
                attempt.detached.wait(_RETRY_S)
            except DeniedError as exc:
                _hold_back(attempt, item, exc)
                break
    return after_judging(attempt)


def _hold_back(attempt: Attempt, item: ItemRow, error: DeniedError) -> None:
    """A budget or a newer policy said no after the gate had said yes: a person decides."""
    item.decision |= {"rule": error.rule, "measure": error.measure, "limit": error.limit, "hint": error.hint}
    attempt.site.store.move_item(item, before="releasing", after="held", overruled=error.as_dict())
    event = {"kind": "decision", "output": item.output, "verdict": "held", "digest": item.digest}
    attempt.stream.add([event | {key: item.decision[key][:200] for key in ("rule", "measure", "limit", "hint")}])


def _release(attempt: Attempt, item: ItemRow) -> None:
    site = attempt.site
    files = [ReleasedFile.model_validate(file) for file in item.details["files"]]
    folder = Path(item.details["folder"])
    _check_frozen(folder, item.digest)
    entry = site.ledger.file_entry(item.job_id, item.attempt, item.output)
    if entry is None:
        policy = site.policy.require()
        size = sum(file.size_bytes for file in files)
        check_can_spend(attempt.about, size, policy=policy, ledger=site.ledger, now=site.now())
        entry = site.ledger.append(_entry(attempt, item, size))
    for file in files:
        site.link.upload(folder / file.path, Digest(file.digest))
    site.link.send_release(seal_release(_document(attempt, item, files, entry), site.key))
    site.store.move_item(item, before="releasing", after="released", entry=entry.seq)


def _check_frozen(folder: Path, digest: str) -> None:
    if not digest or files_digest(list_files(folder)) != digest:
        raise DeniedError(
            "a frozen output is not what was judged, so it stays",
            code="frozen-changed",
            rule="frozen-digest",
            hint="run the job again; keep the folder as evidence",
        )


def _entry(attempt: Attempt, item: ItemRow, size_bytes: int) -> LedgerEntry:
    return LedgerEntry(
        seq=0,
        at=attempt.site.now(),
        kind="file",
        job_id=item.job_id,
        attempt=item.attempt,
        name=item.output,
        datasets=list(attempt.about.datasets),
        submitter=attempt.about.submitter,
        decision="released",
        rule=item.details.get("verdict_rule") or item.decision["rule"],
        counts={"files": len(item.details["files"])},
        size_bytes=size_bytes,
        digest=item.digest,
        policy_version=attempt.about.policy_version,
        reviewer=item.details.get("reviewer", ""),
        prev=GENESIS,
    )


def _document(attempt: Attempt, item: ItemRow, files: list[ReleasedFile], entry: LedgerEntry) -> ReleaseDocument:
    job = attempt.verified
    target = attempt.row.details["target"]
    output = next(out for out in job.job.contract.outputs if out.name == item.output)
    return ReleaseDocument(
        job_id=item.job_id,
        attempt=item.attempt,
        fence=attempt.row.fence,
        output=item.output,
        type=output.type,
        register_as=output.register,
        files=files,
        digest=item.digest,
        datasets={f"{pin.name}@{pin.version}": pin.digest for pin in job.document.datasets},
        code=job.document.code,
        lock=target["lock"],
        base=target["base"],
        policy_version=attempt.about.policy_version,
        rule=entry.rule,
        reviewer=entry.reviewer,
        entry=entry.seq,
        released_at=entry.at,
    )
