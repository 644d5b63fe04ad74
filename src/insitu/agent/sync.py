"""The conversation with the hub: tell what is, hear what should be, act, and again.

One thread long-polls; another reports at once when something here changed, so
that the hub need not wait for the poll's end. A hub that is away is asked again
with growing pauses; work at the site goes on meanwhile.
"""

from __future__ import annotations

import base64
import logging
import random
import threading
from datetime import datetime

from insitu.agent.assignments import Assignments
from insitu.agent.catalogue import list_datasets
from insitu.agent.deployments import Deployments
from insitu.agent.heads import keep_countersigned
from insitu.agent.published_policy import published
from insitu.agent.publishing import offers
from insitu.agent.site import Site
from insitu.domain.digests import digest_of
from insitu.domain.errors import InsituError, SignatureError
from insitu.wire.keys import parse_verify_key
from insitu.wire.ledger import GENESIS, LedgerEntry
from insitu.wire.sync import BaseOffer, Capacity, HeadProof, HeadReport, SyncReply, SyncRequest, head_message

_log = logging.getLogger("insitu.agent")

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 20.0
_AFTER_WORK_S = 0.1
_GROWING_S = 2.0
_LOOK_S = 1.0  # between two looks at what a steward may have changed
_STATUS_EVERY = 1000  # messages in one ledger entry, and what is left over when the agent stops


class HubConversation:
    """Keeps hub and site in agreement until `stop`."""

    def __init__(
        self,
        site: Site,
        assignments: Assignments,
        deployments: Deployments,
        *,
        capacity: Capacity,
        version: str,
        started_at: datetime,
    ) -> None:
        self._site, self._assignments, self._deployments = site, assignments, deployments
        self._capacity, self._version, self._started_at = capacity, version, started_at
        self._stop = threading.Event()
        self._changed = threading.Event()
        self._revision = ""
        self._applying = threading.Lock()
        self._noting = threading.Lock()
        self._messages = 0
        self._told: dict[str, str] = {
            entry.name: entry.digest for entry in site.ledger.entries() if entry.kind == "catalogue"
        }
        """Dataset version, or `policy` → digest of what the hub was told of it last."""
        self._countersigned: HeadReport | None = None
        self._threads = [
            threading.Thread(target=self._poll_loop, name="poll", daemon=True),
            threading.Thread(target=self._report_loop, name="report", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def changed(self) -> None:
        """Something here is different: tell the hub soon."""
        self._changed.set()

    def stop(self) -> None:
        self._stop.set()
        self._changed.set()
        self._note_status()

    # -- loops ---------------------------------------------------------------------------------------------------------

    def _poll_loop(self) -> None:
        pause = _FIRST_PAUSE_S
        while not self._stop.is_set():
            try:
                if self._once(wait_s=self._patience()):
                    # The job that has just come starts now; the poll that acknowledges it can wait for that.
                    self._stop.wait(_AFTER_WORK_S)
                pause = _FIRST_PAUSE_S
            except InsituError as exc:
                _log.warning("%s (again in %.1f s)", exc.what, pause)
                # Spread out, so that many agents don't come back in one moment.
                self._stop.wait(pause * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            except Exception:  # noqa: BLE001 - said in the log; the process goes on
                _log.exception("the conversation with the hub failed")
                self._stop.wait(pause)

    def _patience(self) -> float:
        """How long the hub may take to answer: not long while the ledger grows, so that it is countersigned soon."""
        known = self._countersigned
        grows = known is None or known.entries < self._site.ledger.head.entries or self._assignments.reports()
        return min(self._site.settings.wait_s, _GROWING_S) if grows else self._site.settings.wait_s

    def _report_loop(self) -> None:
        known = self._surroundings()
        while not self._stop.is_set():
            told = self._changed.wait(_LOOK_S)
            if self._stop.is_set():
                return
            seen = self._surroundings()
            if not told and seen == known:
                continue
            if seen != known:
                self._site.intakes.expect_policy(self._site.policy.text)
            known = seen
            self._changed.clear()
            try:
                self._once(wait_s=0)
            except InsituError as exc:
                _log.debug("report: %s", exc.what)
            except Exception:  # noqa: BLE001 - said in the log; the process goes on
                _log.exception("reporting to the hub failed")
            if self._messages > _STATUS_EVERY:
                self._note_status()

    def _surroundings(self) -> tuple[int, tuple[str, ...]]:
        """What a steward may change in the folder while the agent runs: the policy and the datasets."""
        policy = self._site.policy.current()
        return (policy.version if policy else 0, tuple(known.label for known in list_datasets(self._site.folder)))

    def _once(self, *, wait_s: float) -> bool:
        """One message and its answer; True when the answer brought attempts that are new here."""
        reply = self._site.link.sync(self._request(wait_s))
        self._messages += 1
        with self._applying:
            self._check_head(reply)
            fresh = self._assignments.apply(reply.assignments, reply.over)
            self._deployments.apply(reply.deployments)
            self._revision = reply.revision
        return fresh

    # -- what is -------------------------------------------------------------------------------------------------------

    def _request(self, wait_s: float) -> SyncRequest:
        site = self._site
        policy = site.policy.current()
        told = offers(site.folder)
        for offer in told:
            label = f"{offer.name}@{offer.version}"
            self._note_catalogue(label, offer.model_dump_json(), [label])
        rules = published(policy, {offer.name for offer in told})
        if rules is not None:
            self._note_catalogue("policy", rules.model_dump_json(), [])
        # By the poll alone: its messages follow one another, so a head never arrives after a longer one.
        head = self._signed_head() if wait_s else None
        return SyncRequest(
            agent_version=self._version,
            started_at=self._started_at,
            sandbox=site.sandbox.name,  # type: ignore[arg-type] - the schema refuses any other word
            policy_version=policy.version if policy else 0,
            policy=rules,
            bases=[BaseOffer(digest=site.base.digest, python=site.base.python, platform=site.base.platform)],
            capacity=self._capacity,
            datasets=told,
            attempts=self._assignments.reports(),
            deployments=self._deployments.reports(),
            head=head,
            head_proof=self._head_proof(head) if head else None,
            revision=self._revision,
            wait_s=wait_s,
        )

    def _signed_head(self) -> HeadReport:
        head, site = self._site.ledger.head, self._site.settings.site
        signature = self._site.key.sign(head_message(site, head.entries, head.hash, head.root))
        signed = base64.b64encode(signature).decode()
        return HeadReport(entries=head.entries, hash=head.hash, root=head.root, signature=signed)

    def _head_proof(self, head: HeadReport) -> HeadProof | None:
        """That this head begins with the one that the hub countersigned last."""
        known = self._countersigned
        if known is None:
            return None
        return HeadProof(since=known.entries, steps=self._site.ledger.consistency(known.entries, head.entries))

    def _note_catalogue(self, name: str, what: str, datasets: list[str]) -> None:
        """What is told of a dataset or of the policy is about to leave, or to change: into the ledger first."""
        digest = digest_of(what.encode())
        with self._noting:
            if self._told.get(name) == digest:
                return
            self._site.ledger.append(
                LedgerEntry(
                    seq=0,
                    at=self._site.now(),
                    kind="catalogue",
                    name=name,
                    datasets=datasets,
                    decision="released",
                    rule="catalogue",
                    size_bytes=len(what.encode()),
                    digest=digest,
                    prev=GENESIS,
                )
            )
            self._told[name] = digest

    def _note_status(self) -> None:
        """Status messages have a closed schema; how many left is one entry for all of them."""
        if not self._messages:
            return
        try:
            self._site.ledger.append(
                LedgerEntry(
                    seq=0,
                    at=self._site.now(),
                    kind="status",
                    name="sync",
                    decision="released",
                    rule="closed-schema",
                    counts={"messages": self._messages},
                    prev=GENESIS,
                )
            )
            self._messages = 0
        except InsituError as exc:
            _log.warning("%s", exc.what)

    # -- what the hub remembers ----------------------------------------------------------------------------------------

    def _check_head(self, reply: SyncReply) -> None:
        """If the hub countersigned what is not here, this ledger was rolled back or rewritten: nothing leaves."""
        remembered, before = reply.countersigned, self._countersigned
        if remembered is None or (before is not None and remembered.signature == before.signature):
            return
        site = self._site.settings.site
        message = head_message(site, remembered.entries, remembered.hash, remembered.root)
        try:
            parse_verify_key(self._site.settings.hub_key).check(base64.b64decode(remembered.signature), message)
        except (SignatureError, ValueError):
            _log.warning("the hub's countersignature is not that of the key pinned at join")
            return
        if self._site.ledger.root_at(remembered.entries) != remembered.root:
            self._site.ledger.freeze("the hub countersigned a head that this ledger does not contain")
            _log.error("the ledger was rolled back or rewritten: nothing leaves until a steward reconciles it")
            return
        self._countersigned = remembered
        keep_countersigned(self._site, remembered)
