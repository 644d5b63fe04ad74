"""`insitu policy test`: what a new policy would have said to the jobs that this site has had.

    signed job, as it is in the store ──► may it run?      ──► refused | runs
    canonical copy, where it is kept  ──► the real judge   ──► decision then │ decision now
    ledger                            ──► budgets, counts  ──► what would have stayed

Nothing of it leaves the site, and nothing at the site changes. Where the site has
kept too little to tell, it says so: what can't be told is never shown as unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from insitu.agent.accept import check_may_run
from insitu.agent.catalogue import list_datasets
from insitu.agent.folder import SiteFolder
from insitu.agent.ledger import Ledger
from insitu.agent.replay_ledger import LedgerReplay
from insitu.agent.replay_outputs import OutputReplay, OutputTest, judge_again
from insitu.agent.store import AttemptRow, Store
from insitu.domain.errors import DeniedError, InsituError
from insitu.domain.jobs import JobState
from insitu.gate.policy.loading import Policy, load_policy
from insitu.wire.envelopes import parse_envelope, signer_of
from insitu.wire.jobs import VerifiedJob, open_job

RUNS, REFUSED, UNREADABLE = "runs", "refused", "can't tell"


@dataclass(frozen=True)
class JobReplay:
    """One job: what was said to it, and what the new policy would have said."""

    job: str
    name: str
    by: str
    signed_at: str
    state: str  # as it is at the site
    then: str  # runs | refused
    now: str  # runs | refused | can't tell
    why: str  # the rule that refuses it now, what it measured and its limit
    outputs: tuple[OutputReplay, ...]
    stays: tuple[str, ...]  # of what left then, what would not have

    @property
    def differs(self) -> bool:
        return self.then != self.now or bool(self.stays) or any(output.differs for output in self.outputs)

    @property
    def is_certain(self) -> bool:
        return self.now != UNREADABLE and all(output.now != UNREADABLE for output in self.outputs)


@dataclass(frozen=True)
class Replay:
    """A site's past under another policy. Reads, and writes nothing but a folder for copies that is gone afterwards."""

    folder: SiteFolder
    store: Store
    ledger: Ledger
    base: str
    cache: Path
    gate_uid: int

    def under(self, text: str, *, last: int, since: datetime | None = None) -> list[JobReplay]:
        """The last jobs, oldest first, under the policy that `text` states.

        Args:
            last: how many at most.
            since: only those signed from then on.

        Raises:
            InvalidInputError: it is no policy.
        """
        policy = load_policy(text)
        everything = list(self._signed())
        recent = [row.job_id for row, job in everything if since is None or job.document.signed_at >= since]
        asked = set(recent[-last:])
        ruled = dict(self._rule(everything, asked, policy))
        refused = {job_id for job_id, error in ruled.items() if error is not None}
        approved = {row.job_id for row, _ in everything if row.details.get("run_envelope")}
        spent = LedgerReplay(self.ledger.entries(), policy, asked=asked, refused=refused, approved=approved)
        tests = {row.job_id: OutputTest(row, job, policy, text) for row, job in everything if row.job_id in asked}
        kept = {job_id: test for job_id, test in tests.items() if job_id not in refused}
        outputs = judge_again(kept, self.folder, self.store, self.cache, self.gate_uid)
        return [
            _told(row, job, ruled[row.job_id], outputs.get(row.job_id, ()), spent.of(row.job_id))
            for row, job in everything
            if row.job_id in asked
        ]

    def _signed(self) -> Iterator[tuple[AttemptRow, VerifiedJob]]:
        """Every job whose signature is what it was, under the name that it had; whether it counts is asked later."""
        for row in self.store.newest_attempts():
            try:
                envelope = parse_envelope(row.envelope)
                names: dict[str, str] = row.details.get("signer") or {"(not listed)": signer_of(envelope).fingerprint}
                yield row, open_job(envelope, signers=names)
            except InsituError:
                continue  # never was a job

    def _rule(
        self, everything: list[tuple[AttemptRow, VerifiedJob]], asked: set[str], policy: Policy
    ) -> Iterator[tuple[str, DeniedError | None]]:
        """Job → what refuses it under the new policy. Runs are counted along, in the order in which they came."""
        offered = {(known.name, known.version): known.digest for known in list_datasets(self.folder)}
        runs: Counter[str] = Counter()
        for row, job in everything:
            error = self._refusal(row, job, policy, offered, runs) if row.job_id in asked else None
            if row.job_id in asked:
                yield row.job_id, error
            ran = error is None if row.job_id in asked else "target" in row.details
            if ran:
                runs.update({pin.name for pin in job.document.datasets})

    def _refusal(
        self,
        row: AttemptRow,
        job: VerifiedJob,
        policy: Policy,
        offered: Mapping[tuple[str, int], str],
        runs: Mapping[str, int],
    ) -> DeniedError | None:
        if "target" in row.details:  # what it read was here then, whatever has become of it
            offered = {**offered, **{(pin.name, pin.version): pin.digest for pin in job.document.datasets}}
        try:
            listed = open_job(parse_envelope(row.envelope), signers=policy.signers)
            base = row.details.get("target", {}).get("base", self.base)
            now = job.document.signed_at
            check_may_run(listed, policy, base=base, offered=offered, runs_of=lambda name: runs.get(name, 0), now=now)
        except DeniedError as error:
            return error
        return None


def _told(
    row: AttemptRow,
    job: VerifiedJob,
    error: DeniedError | None,
    outputs: tuple[OutputReplay, ...],
    stays: tuple[str, ...],
) -> JobReplay:
    return JobReplay(
        job=row.job_id,
        name=job.job.display_name,
        by=job.signer_name,
        signed_at=job.document.signed_at.isoformat(),
        state=row.state.value,
        then=RUNS if "target" in row.details else _then(row),
        now=RUNS if error is None else REFUSED,
        why="" if error is None else f"{error.rule or error.code}: {error.measure} (limit: {error.limit})",
        outputs=outputs,
        stays=stays,
    )


def _then(row: AttemptRow) -> str:
    return REFUSED if row.state is JobState.REFUSED else row.state.value
