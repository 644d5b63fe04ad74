"""What a steward may ask of a site: its queue, its ledger, its policy, its data.

Called through the console socket, never through the hub. Reaching the socket is
access; identity is a key: a verdict counts when a reviewer whom the policy names
has signed it, over the item's digest, and it is not their own job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from insitu.agent.catalogue import add_dataset, find_dataset, list_datasets
from insitu.agent.datastores import add_datastore, list_datastores
from insitu.agent.folder import SiteFolder
from insitu.agent.ledger import Ledger
from insitu.agent.policy_file import PolicyFile
from insitu.agent.store import ItemRow, Store
from insitu.domain.errors import ConflictError, DeniedError, NotFoundError
from insitu.wire.envelopes import parse_envelope
from insitu.wire.jobs import open_job
from insitu.wire.ledger import LedgerEntry
from insitu.wire.verdicts import VerifiedVerdict, open_verdict


@dataclass(frozen=True)
class Steward:
    """A site's answers to its steward. `wake` lets a held attempt walk on."""

    folder: SiteFolder
    store: Store
    ledger: Ledger
    policy: PolicyFile
    wake: Callable[[str, int], None]
    changed: Callable[[], None]
    gate_gid: int | None

    # -- data ----------------------------------------------------------------------------------------------------------

    def datastore_add(self, *, name: str, url: str) -> dict[str, Any]:
        return add_datastore(self.folder, name, url).as_dict()

    def datastore_list(self) -> list[dict[str, Any]]:
        return [store.as_dict() for store in list_datastores(self.folder)]

    def data_add(self, *, name: str, datastore: str, path: str, format: str, description: str) -> dict[str, Any]:
        added = add_dataset(
            self.folder,
            name,
            datastore=datastore,
            pattern=path,
            kind=format,
            description=description,
            gate_gid=self.gate_gid,
        )
        self.changed()
        return added.as_dict()

    def data_list(self) -> list[dict[str, Any]]:
        return [known.as_dict() for known in list_datasets(self.folder)]

    def data_show(self, *, name: str, version: int | None = None) -> dict[str, Any]:
        return find_dataset(self.folder, name, version).as_dict()

    # -- ledger and policy ---------------------------------------------------------------------------------------------

    def ledger_show(self, *, dataset: str = "", job: str = "") -> list[dict[str, Any]]:
        entries = [entry for entry in self.ledger.entries() if _is_about(entry, dataset, job)]
        return [entry.model_dump(mode="json") for entry in entries]

    def policy_show(self) -> dict[str, Any]:
        policy = self.policy.require()
        return {"version": policy.version, "policy": policy.model_dump(mode="json", by_alias=True)}

    # -- the queue -----------------------------------------------------------------------------------------------------

    def release_list(self, *, state: str = "") -> list[dict[str, Any]]:
        return [_brief(item) for item in self.store.items() if not state or item.state == state]

    def release_show(self, *, id: str) -> dict[str, Any]:
        item = self._item(id)
        head = self.ledger.head
        return {
            **_brief(item),
            "decision": item.decision,
            "files": item.details.get("files", []),
            "folder": item.details.get("folder", ""),
            "reason": item.details.get("reason", ""),
            "reviewer": item.details.get("reviewer", ""),
            "policy_version": self.policy.require().version,
            "ledger_entries": head.entries,
            "ledger_hash": head.hash,
        }

    def release_decide(self, *, id: str, envelope: dict[str, Any]) -> dict[str, Any]:
        """Act on a signed verdict.

        Raises:
            SignatureError: no reviewer whom the policy names signed it.
            DeniedError: it is their own job, or the verdict is over something else.
            ConflictError: the item is not held (any more).
        """
        item = self._item(id)
        policy = self.policy.require()
        verdict = open_verdict(parse_envelope(envelope), reviewers=policy.review.reviewers)
        self._check_verdict(verdict, item)
        self._check_not_own(verdict, item)
        approve = verdict.document.verdict == "approve"
        if approve and not item.details.get("files"):
            raise DeniedError(
                "there is no canonical copy of this output, so nothing could be sent",
                code="nothing-to-release",
                rule=item.decision.get("rule", ""),
                hint="the gate could not read it; ask for another format and reject this one",
            )
        moved = self.store.move_item(
            item,
            before="held",
            after="releasing" if approve else "rejected",
            reviewer=verdict.reviewer_name,
            reason=verdict.document.reason,
            verdict_rule=f"approved by {verdict.reviewer_name}" if approve else "",
            verdict_envelope=envelope,
        )
        if not moved:
            raise ConflictError(f"{id} is {item.state}, not held", code="not-held", hint="see `insitu release list`")
        self.wake(item.job_id, item.attempt)
        return _brief(item)

    def _check_verdict(self, verdict: VerifiedVerdict, item: ItemRow) -> None:
        document = verdict.document
        if document.release_id != item.id or document.digest != item.digest:
            raise DeniedError(
                "the verdict is over something else",
                code="verdict-digest",
                rule="frozen-digest",
                measure=document.digest,
                limit=item.digest,
                hint="look again with `insitu release show`, then decide",
            )
        if document.verdict == "reject" and not document.reason:
            raise DeniedError(
                "a rejection needs a reason, which the data scientist sees",
                code="no-reason",
                hint="--reason TEXT",
                rule="review",
            )

    def _check_not_own(self, verdict: VerifiedVerdict, item: ItemRow) -> None:
        row = self.store.attempt(item.job_id, item.attempt)
        if row is None:
            raise NotFoundError(f"the attempt of {item.id} is not known here", code="no-attempt")
        policy = self.policy.require()
        listed = {**policy.signers, **row.details.get("signer", {})}
        job = open_job(parse_envelope(row.envelope), signers=listed)
        if verdict.reviewer == job.signer or verdict.reviewer_name == job.signer_name:
            raise DeniedError(
                "nobody reviews their own job",
                code="own-job",
                rule="review.own",
                measure=verdict.reviewer_name,
                limit="never",
                hint="another reviewer whom the policy names decides",
            )

    def _item(self, item_id: str) -> ItemRow:
        item = self.store.item(item_id)
        if item is None:
            raise NotFoundError(
                f"there is no release {item_id!r} here", code="no-release", hint="`insitu release list`"
            )
        return item


def _brief(item: ItemRow) -> dict[str, Any]:
    decision = item.decision
    return {
        "id": item.id,
        "state": item.state,
        "job_id": item.job_id,
        "attempt": item.attempt,
        "output": item.output,
        "digest": item.digest,
        "size_bytes": decision.get("size_bytes", 0),
        "rule": decision.get("rule", ""),
        "measure": decision.get("measure", ""),
        "limit": decision.get("limit", ""),
        "hint": decision.get("hint", ""),
        "at": item.at.isoformat(),
    }


def _is_about(entry: LedgerEntry, dataset: str, job: str) -> bool:
    datasets = {label.partition("@")[0] for label in entry.datasets} | set(entry.datasets)
    return (not dataset or dataset in datasets) and (not job or entry.job_id == job)
