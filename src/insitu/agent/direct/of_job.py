"""A job's direct inputs: listed for its intake before it starts, fed while it runs, looked at when it has ended."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace

from insitu.agent.attempt import Attempt, Next
from insitu.agent.catalogue import DatasetVersion, index_key
from insitu.agent.datastores import open_datastore
from insitu.agent.direct.feed_server import FeedServer, Granted
from insitu.agent.staging.digests import DigestKeys
from insitu.agent.staging.manifest import load_manifest
from insitu.agent.stores.contract import ObjectChangedError, ObjectMissingError, ObjectStore
from insitu.agent.stores.meaning import changed
from insitu.domain.errors import InsituError, IntegrityError, UnavailableError
from insitu.domain.jobs import FailureClass, JobState
from insitu.intake.inputs import write_list

_log = logging.getLogger("insitu.agent")


def direct_inputs(attempt: Attempt) -> list[tuple[str, DatasetVersion]]:
    """(input's name, version) of those inputs that the job reads through its gate."""
    modes = {name: given.mode for name, given in attempt.verified.job.datasets.items()}
    return [(name, version) for name, version in attempt.datasets if modes.get(name) == "direct"]


def check_readable(attempt: Attempt, version: DatasetVersion) -> None:
    """See that the store can be reached and gives the first object as it was; the others are checked as they are read.

    Raises:
        StoreError: it can't.
        IntegrityError: it is another object, or the version's manifest can't be read.
    """
    first = load_manifest(version.staged.manifest).objects[0]
    try:
        with closing(_store_of(attempt, version)) as store:
            found = store.describe(first.name)
    except ObjectMissingError as exc:
        raise _changed(version.label, exc) from exc
    if found.etag != first.etag:
        raise _changed(version.label, changed(first.name))


def list_for_intake(attempt: Attempt) -> None:
    """Write down what the intake may name."""
    for name, version in direct_inputs(attempt):
        objects = load_manifest(version.staged.manifest).objects
        rows = [(one.name, one.size_bytes, one.digest) for one in objects]
        write_list(attempt.workspace.input_list(name), rows)


def keep_feeding(attempt: Attempt) -> None:
    """Serve the job's reads from now on, if it has any and nobody does yet. Its intake is attached to."""
    wanted = direct_inputs(attempt) if attempt.feed is None else []
    if not wanted:
        return
    granted = {
        name: Granted(
            version.label,
            load_manifest(version.staged.manifest).objects,
            lambda version=version: _store_of(attempt, version),
        )
        for name, version in wanted
    }
    space = attempt.workspace
    space.make_feed(gate_gid=attempt.site.settings.gate_gid)
    attempt.feed = FeedServer(
        space.feed,
        granted,
        DigestKeys.of(index_key(attempt.site.folder)),
        space.read_counts,
        may_ask=lambda: attempt.intake.pid if attempt.intake is not None else 0,
    )
    attempt.feed.start()


def _store_of(attempt: Attempt, version: DatasetVersion) -> ObjectStore:
    return open_datastore(attempt.site.folder, version.datastore, attempt.site.environment)


def after_reading(attempt: Attempt, outcome: Next) -> Next:
    """How the run ended, in view of what its reads met.

    A job that was given an object which is not its version's any more has failed, whatever it made of the error.
    """
    feed = attempt.feed
    if feed is None:
        return outcome
    feed.stop()
    attempt.feed = None
    outcome = replace(outcome, details={**outcome.details, "read_bytes": feed.read_bytes})
    if outcome.state not in (JobState.JUDGING, JobState.FAILED) or feed.problem is None:
        return outcome
    label = feed.problem_with
    if isinstance(feed.problem, ObjectChangedError | ObjectMissingError):
        other = _changed(label, feed.problem)
        _log.warning("%s: %s", other.what, other.why)
        return Next(JobState.FAILED, outcome.details, Next.failed(FailureClass.DATA, other).event)
    if outcome.state is JobState.FAILED and outcome.event.get("failure") == FailureClass.SCRIPT.value:
        away = UnavailableError(
            f"the data of {label} can't be had from the site's datastore",
            code=feed.problem.code,
            hint="at the site: `insitu datastore check`",
        )
        return Next(JobState.FAILED, outcome.details, Next.failed(FailureClass.DATA, away).event)
    return outcome


def _changed(label: str, found: InsituError) -> IntegrityError:
    """What the hub hears of the version; `why` names the object, and stays."""
    return IntegrityError(
        f"dataset {label} is not what it was when it was added",
        code="dataset-changed",
        rule="dataset-version",
        why=str(found),
        hint="at the site: add the changed objects as a new version with `insitu data add`",
    )
