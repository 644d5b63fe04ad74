"""Jobs: submitted, followed, waited for, cancelled, and what left of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from insitu.domain.errors import InvalidInputError, UnavailableError
from insitu.domain.jobs import is_final
from insitu.sdk import job_events
from insitu.sdk.bundles import BroughtWheels, bring_bundle
from insitu.sdk.hub_calls import part
from insitu.sdk.job_events import JobEvent
from insitu.sdk.sites import SiteCalls
from insitu.sdk.submit import PreparedJob, prepare_job
from insitu.sdk.transport import MissingBlobsError
from insitu.wire.envelopes import Envelope
from insitu.wire.people import EgressItem, JobRequest, JobView, LogLine, MeterView, MetricPoint, ReleaseView

_POLL_S = 0.5


class JobCalls(SiteCalls):
    """What one asks a hub about jobs; to prepare one is to look for sites and data that fit."""

    def prepare(
        self,
        path: str | Path,
        *,
        changes: Mapping[str, str] | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> PreparedJob:
        """Everything that a submission signs, without submitting it."""
        return prepare_job(
            Path(path),
            changes=changes or {},
            sites=self.sites(),
            datasets=self.datasets(),
            cache=self._cache,
            index_url=self._index_url,
            registry=self._registry,
            progress=progress,
        )

    def submit(self, job: str | Path | PreparedJob, *, changes: Mapping[str, str] | None = None) -> JobView:
        """Sign a job and hand it to the hub. Bytes that the hub lacks are uploaded first.

        Raises:
            InvalidInputError: the job file is not right.
            InsituError: the hub did not take it.
        """
        prepared = job if isinstance(job, PreparedJob) else self.prepare(job, changes=changes)
        envelope = self.sign(prepared)
        try:
            return self.submit_signed(envelope)
        except MissingBlobsError as exc:
            self._upload(exc.missing, prepared)
        return self.submit_signed(envelope)

    @contextmanager
    def submit_and_follow(
        self, job: str | Path | PreparedJob, *, changes: Mapping[str, str] | None = None
    ) -> Iterator[tuple[JobView, Iterator[JobEvent]]]:
        """As `submit`, then `follow`, but with one request: the job's first line is here sooner.

            with client.submit_and_follow("job.yaml") as (job, events):
                for event in events:
                    print(event.text)

        The events are to be read inside of the block; to leave it early stops nothing.

        Raises:
            InvalidInputError: the job file is not right.
            InsituError: the hub did not take it.
        """
        prepared = job if isinstance(job, PreparedJob) else self.prepare(job, changes=changes)
        envelope = self.sign(prepared)
        with ExitStack() as opened:
            try:
                found = opened.enter_context(self.submit_signed_and_follow(envelope))
            except MissingBlobsError as exc:
                self._upload(exc.missing, prepared)
                found = opened.enter_context(self.submit_signed_and_follow(envelope))
            yield found

    def sign(self, prepared: PreparedJob) -> Envelope:
        """A prepared job under this person's signature. It can be submitted once, within seven days."""
        return prepared.sign(submitter=self._name(), key=self._key, now=datetime.now(UTC))

    def submit_signed(self, envelope: Envelope) -> JobView:
        """Hand a signed job to the hub. The same envelope again is the same job, so it may be repeated after a silence.

        Raises:
            MissingBlobsError: the hub lacks code or locks that the job names.
            InsituError: the hub did not take it.
        """
        return JobView.model_validate(self._post("/api/v1/jobs", JobRequest(envelope=envelope)))

    def submit_signed_and_follow(
        self, envelope: Envelope
    ) -> AbstractContextManager[tuple[JobView, Iterator[JobEvent]]]:
        """As `submit_signed`, and the job's events by the same answer.

        Raises:
            MissingBlobsError: the hub lacks code or locks that the job names.
            InsituError: the hub did not take it.
        """
        return job_events.submit(self._http, JobRequest(envelope=envelope))

    def _upload(self, missing: list[str], prepared: PreparedJob) -> None:
        for digest in missing:
            address = f"/api/v1/blobs/{part(digest)}"
            if digest in prepared.blobs:
                self._http.call("PUT", address, content=prepared.blobs[digest])
            elif digest in prepared.files:
                with prepared.files[digest].open("rb") as stream:
                    self._http.call("PUT", address, content=stream)
            else:
                raise InvalidInputError(f"the hub asks for {digest}, which is not part of this job", code="odd-blob")

    def bring_wheels(self, bundle: str | Path, *, progress: Callable[[str], None] = lambda _: None) -> BroughtWheels:
        """Take a bundle to the hub; as an admin. Wheels that the hub has already are not sent.

        Raises:
            InvalidInputError: it is no whole bundle.
            InsituError: what the hub said, e.g. that a wheel is damaged. Those before it are there.
        """
        return bring_bundle(self._http, Path(bundle), progress)

    def jobs(self, *, state: str = "", limit: int = 100) -> list[JobView]:
        query = f"?limit={limit}" + (f"&state={state}" if state else "")
        return self._list(f"/api/v1/jobs{query}", JobView)

    def job(self, job_id: str) -> JobView:
        return JobView.model_validate(self._http.call("GET", f"/api/v1/jobs/{part(job_id)}"))

    def cancel(self, job_id: str) -> JobView:
        """Ask for a job's end. The site confirms it; until then `cancel_requested` is true."""
        return JobView.model_validate(self._http.call("POST", f"/api/v1/jobs/{part(job_id)}/cancel"))

    def logs(self, job_id: str, *, after: int = 0) -> list[LogLine]:
        return self._list(f"/api/v1/jobs/{part(job_id)}/logs?after={after}", LogLine)

    def metrics(self, job_id: str) -> list[MetricPoint]:
        """Every released point of every metric, in the order of arrival."""
        return self._list(f"/api/v1/jobs/{part(job_id)}/metrics", MetricPoint)

    def releases(self, *, verdicts: Sequence[str] = (), limit: int = 200) -> list[ReleaseView]:
        """What is held at sites, and what they let out or refused, newest first."""
        query = urlencode([*(("verdict", verdict) for verdict in verdicts), ("limit", limit)])
        return self._list(f"/api/v1/releases?{query}", ReleaseView)

    def meter(self, job_id: str) -> MeterView:
        """What of this job has left its site so far, channel by channel."""
        return MeterView.model_validate(self._http.call("GET", f"/api/v1/jobs/{part(job_id)}/meter"))

    def egress(self, job_id: str) -> list[EgressItem]:
        """What of this job reached the hub. The site's ledger is the record."""
        return self._list(f"/api/v1/jobs/{part(job_id)}/egress", EgressItem)

    def wait(self, job_id: str, *, timeout_s: float | None = None, held_is_enough: bool = True) -> JobView:
        """Wait until a job is final, or held for a steward.

        Raises:
            UnavailableError: it took longer than `timeout_s`.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            job = self.job(job_id)
            if is_final(job.state) or (held_is_enough and job.state == "held"):
                return job
            if end is not None and time.monotonic() > end:
                raise UnavailableError(f"job {job_id} is still {job.state}", code="timeout", hint="wait longer")
            time.sleep(_POLL_S)

    def follow(self, job_id: str, *, after: str = "") -> Iterator[JobEvent]:
        """A job's log lines, metrics, states and decisions as they arrive, until it is final or held.

        A connection that breaks is taken up again where it broke, so nothing is missed
        and nothing comes twice.

        Raises:
            UnreachableError: the hub stayed away for a minute.
        """
        return job_events.follow(self._http, job_id, after=after)
