"""What a steward may ask of a site: its queue, its ledger, its policy. Its data: `steward_data`.

Called through the console socket, never through the hub. Whose verdict counts is
`review`; what is shown of an item is `evidence`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from insitu.agent.evidence import Evidence, brief
from insitu.agent.folder import SiteFolder
from insitu.agent.ledger import Ledger
from insitu.agent.policy_file import PolicyFile
from insitu.agent.review import Review
from insitu.agent.review_queue import ItemRow
from insitu.agent.staging.data_cache import DataCache
from insitu.agent.store import Store
from insitu.domain.errors import NotFoundError


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
    cache: Path
    """Where the code of jobs lies, by digest."""
    data: DataCache
    """Where copies of the data lie that jobs read."""
    environment: Mapping[str, str]
    """Where credentials of datastores may stand."""
    now: Callable[[], datetime]

    @property
    def review(self) -> Review:
        return Review(self.store, self.ledger, self.policy, self.wake, self.now)

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.review, self.folder, self.cache, self.gate_gid)

    # -- ledger and policy ---------------------------------------------------------------------------------------------

    def ledger_show(self, *, dataset: str = "", job: str = "") -> list[dict[str, Any]]:
        entries = [entry for entry in self.ledger.entries() if entry.is_about(dataset, job)]
        return [entry.model_dump(mode="json") for entry in entries]

    def policy_show(self) -> dict[str, Any]:
        policy = self.policy.require()
        return {"version": policy.version, "policy": policy.model_dump(mode="json", by_alias=True)}

    # -- the queue -----------------------------------------------------------------------------------------------------

    def release_list(self, *, state: str = "") -> list[dict[str, Any]]:
        return [brief(item) for item in self.store.queue.items() if not state or item.state == state]

    def release_show(self, *, id: str, view: dict[str, Any] | None = None) -> dict[str, Any]:
        """An item's evidence. Who looks is recorded: by key when `view` is signed."""
        item = self._item(id)
        self.review.note_view(item, "show", view)
        return self.evidence.of(item)

    def release_diff(self, *, id: str, view: dict[str, Any] | None = None) -> dict[str, Any]:
        """What differs from the last release of the same model or output, in its files and in the code."""
        item = self._item(id)
        self.review.note_view(item, "diff", view)
        return self.evidence.difference(item)

    def release_terms(self, *, id: str) -> dict[str, Any]:
        """What a verdict has to name. Shows nothing of the item, so it is no view."""
        item, head = self._item(id), self.ledger.head
        return {
            "id": item.id,
            "state": item.state.value,
            "digest": item.digest,
            "policy_version": self.policy.require().version,
            "ledger_entries": head.entries,
            "ledger_hash": head.hash,
        }

    def release_decide(self, *, id: str, envelope: dict[str, Any]) -> dict[str, Any]:
        """Act on a signed verdict, as `Review.decide` says."""
        item = self._item(id)
        self.review.decide(item, envelope)
        return brief(item)

    def _item(self, item_id: str) -> ItemRow:
        item = self.store.queue.item(item_id)
        if item is None:
            raise NotFoundError(
                f"there is no release {item_id!r} here", code="no-release", hint="`insitu release list`"
            )
        return item
