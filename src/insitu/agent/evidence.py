"""The evidence page of one judged output: everything a reviewer needs to decide, and nothing that a check did not find.

What was checked, what was found and what was *not checked* are three different things, and
the third is never drawn as the first. All of it is for people at the site; what of a
decision the hub hears is `releasing`'s.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from insitu.agent.approved_code import ApprovedCode, approved_code
from insitu.agent.budget import spent_so_far
from insitu.agent.catalogue import find_dataset
from insitu.agent.differences import compare_arrays, compare_code, compare_files, inventory_of
from insitu.agent.folder import SiteFolder
from insitu.agent.review import Review
from insitu.agent.review_queue import ItemRow
from insitu.agent.run_envelopes import RunEnvelopes
from insitu.domain.errors import NotFoundError
from insitu.domain.reviews import WAITING, ItemState
from insitu.gate.budget import budget_lines
from insitu.gate.inventory import Inventory, inventory_json, parse_inventory
from insitu.wire.job_file import command_line
from insitu.wire.jobs import VerifiedJob

_LEFT_BEFORE = frozenset({ItemState.RELEASED, ItemState.RESIDENT})


def brief(item: ItemRow) -> dict[str, Any]:
    """One line of the queue."""
    decision = item.decision
    return {
        "id": item.id,
        "state": item.state.value,
        "job_id": item.job_id,
        "attempt": item.attempt,
        "output": item.output,
        "digest": item.digest,
        "size_bytes": decision.get("size_bytes", 0),
        "ceiling_bytes": decision.get("ceiling_bytes", 0),
        "rule": decision.get("rule", ""),
        "measure": decision.get("measure", ""),
        "limit": decision.get("limit", ""),
        "hint": decision.get("hint", ""),
        "at": item.at.isoformat(),
    }


@dataclass(frozen=True)
class Evidence:
    """Looks up, for one site, what there is to know of an item."""

    review: Review
    folder: SiteFolder
    cache: Path
    gate_gid: int | None

    def of(self, item: ItemRow) -> dict[str, Any]:
        """The whole page, as `insitu release show --json` prints it."""
        job = self.review.job_of(item)
        policy, head = self.review.policy.require(), self.review.ledger.head
        last = self._last(item)
        return {
            **brief(item),
            "type": item.details.get("type", ""),
            "register": item.details.get("register", ""),
            "files": item.details.get("files", []),
            "folder": item.details.get("folder", ""),
            "contents": self._contents(item),
            "decision": item.decision,
            "checks": checks(item.decision),
            "not_checked": not_checked(item.decision),
            "datasets": self._datasets(job),
            "budgets": self._budgets(item, job),
            "asked": _asked(job),
            "run_envelope": self._run_envelope(item),
            "last_release": brief(last) if last else None,
            "code": self._code(job, self._approved_code(item, last)),
            "review": self._review(item, policy.review.needed),
            "views": [
                {"viewer": view.viewer, "signed": bool(view.key), "what": view.what, "at": view.at.isoformat()}
                for view in self.review.store.queue.views(item.id)
            ],
            "reason": item.details.get("reason", ""),
            "reviewer": item.details.get("reviewer", ""),
            "overruled": item.details.get("overruled"),
            "policy_version": policy.version,
            "ledger_entries": head.entries,
            "ledger_hash": head.hash,
        }

    def difference(self, item: ItemRow) -> dict[str, Any]:
        """What differs from the last release of the same model or output, and from the code that was approved last."""
        job, last = self.review.job_of(item), self._last(item)
        before = last.details.get("files", []) if last else []
        approved = self._approved_code(item, last)
        code = self._code_folder(job.document.code)
        former = self._code_folder(approved.digest) if approved else None
        return {
            "id": item.id,
            "last_release": brief(last) if last else None,
            "files": compare_files(before, item.details.get("files", [])),
            "arrays": compare_arrays(self._inventory(last), self._inventory(item)) if last else None,
            "code": {
                **self._code(job, approved),
                "diff": asdict(compare_code(former, code)) if code and (former or not approved) else None,
            },
        }

    # -- pieces --------------------------------------------------------------------------------------------------------

    def _last(self, item: ItemRow) -> ItemRow | None:
        """The last item that left, or became resident, under the same model's name; else the same output of such a job."""
        for other in self.review.store.queue.items():
            if other.id != item.id and other.state in _LEFT_BEFORE and _label(other) == _label(item):
                return other
        return None

    def _inventory(self, item: ItemRow) -> Inventory:
        """Counted once: a copy is frozen by digest."""
        known = item.details.get("inventory", "")
        if known:
            return parse_inventory(known)
        folder = item.details.get("folder", "")
        if not folder or not Path(folder).is_dir():
            return Inventory((), ended="there is no canonical copy")
        found = inventory_of(Path(folder), site=self.folder.root, gate_gid=self.gate_gid)
        self.review.store.queue.note(item, inventory=inventory_json(found))
        return found

    def _contents(self, item: ItemRow) -> dict[str, Any]:
        inventory = self._inventory(item)
        return {"arrays": len(inventory.arrays), "numbers": inventory.numbers, "not_counted": inventory.ended}

    def _datasets(self, job: VerifiedJob) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for pin in job.document.datasets:
            try:
                known = find_dataset(self.folder, pin.name, pin.version).as_dict()
            except NotFoundError:
                known = {"rows": None, "size_bytes": None}
            found.append(
                {"name": f"{pin.name}@{pin.version}", "rows": known["rows"], "size_bytes": known["size_bytes"]}
            )
        return found

    def _budgets(self, item: ItemRow, job: VerifiedJob) -> list[dict[str, Any]]:
        """Each budget before and after; an item that has left, or never will, costs nothing more."""
        review = self.review
        more = sum(file["size_bytes"] for file in item.details.get("files", []))
        ceiling = item.decision.get("ceiling_bytes", 0)
        if item.state not in WAITING:
            more = ceiling = 0
        spent = spent_so_far(
            review.ledger,
            review.now(),
            job_id=item.job_id,
            datasets=[pin.name for pin in job.document.datasets],
            submitter=job.signer,
        )
        lines = budget_lines(review.policy.require().budget, spent, more, ceiling)
        return [asdict(line) | {"after": line.after, "is_over": line.is_over} for line in lines]

    def _run_envelope(self, item: ItemRow) -> dict[str, str]:
        row = self.review.store.attempt(item.job_id, item.attempt)
        details = row.details if row else {}
        return {"digest": details.get("run_envelope", ""), "why_none": details.get("nearest_envelope", "")}

    def _approved_code(self, item: ItemRow, last: ItemRow | None) -> ApprovedCode | None:
        kept = RunEnvelopes(self.folder.run_envelopes).all(self.review.policy.current())
        return approved_code(item, last, kept, lambda digest: self._code_folder(digest) is not None)

    def _code(self, job: VerifiedJob, approved: ApprovedCode | None) -> dict[str, Any]:
        digest = job.document.code
        former, by = (approved.digest, approved.by) if approved else ("", "")
        return {"digest": digest, "last_approved": former, "approved_by": by, "same": former == digest}

    def _code_folder(self, digest: str) -> Path | None:
        folder = self.cache / "code" / digest.removeprefix("sha256:")
        return folder if digest and folder.is_dir() else None

    def _review(self, item: ItemRow, needed: int) -> dict[str, Any]:
        """Who has spoken; what they said only when all have."""
        given = self.review.store.queue.verdicts(item)
        blind = item.state in WAITING
        return {
            "needed": needed,
            "given_by": [one.reviewer for one in given],
            "verdicts": []
            if blind
            else [
                {
                    "reviewer": one.reviewer,
                    "verdict": one.verdict.value,
                    "reason": one.reason,
                    "at": one.at.isoformat(),
                }
                for one in given
            ],
        }


def checks(decision: dict[str, Any]) -> list[dict[str, str]]:
    """Every rule with what became of it: found something, not checked, or passed, in this order of precedence."""
    found = {one["rule"]: one for one in decision.get("findings", ())}
    open_ = list(decision.get("not_checked", ()))
    rows: list[dict[str, str]] = []
    for rule in dict.fromkeys([*found, *open_, *decision.get("checks", ())]):
        finding = found.get(rule)
        # `all`: the judge ended without a decision, so no rule has passed.
        result = "found" if finding else "not checked" if rule in open_ or "all" in open_ else "passed"
        fields = ("measure", "limit", "where")
        rows.append({"rule": rule, "result": result, **{key: finding[key] if finding else "" for key in fields}})
    return rows


def not_checked(decision: dict[str, Any]) -> list[str]:
    """Everything that no ✓ on the page speaks for: rules that could not run, and places that were not searched."""
    return [*decision.get("not_checked", ()), *decision.get("passed_over", ())]


def _asked(job: VerifiedJob) -> dict[str, str]:
    return {
        "name": job.signer_name,
        "key": job.signer,
        "job": job.job.display_name,
        "purpose": job.job.tags.get("purpose", ""),
        "command": command_line(job.job),
        "signed_at": job.document.signed_at.isoformat(),
    }


def _label(item: ItemRow) -> tuple[str, ...]:
    register = item.details.get("register", "")
    return (register,) if register else (item.details.get("job_name", ""), item.output)
