"""What a site does for an attempt in each state: the lifecycle on one screen.

    assigned ──accept──► preparing ──prepare──► running ──run──► judging ──judge──► releasing ──release──► succeeded
                                                                              └────► held (a steward's verdict) ┘

Every step may be repeated after a crash and ends in the same place.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insitu.agent import cover_attempt, disk, judging, releasing, smoke
from insitu.agent.accept import check_may_run
from insitu.agent.attempt import Attempt, Next
from insitu.agent.catalogue import DatasetVersion, offered
from insitu.agent.direct.of_job import after_reading, keep_feeding, list_for_intake
from insitu.agent.inside import intake_request, sandbox_spec
from insitu.agent.job_root import JobRoot, ready_root
from insitu.agent.meter import room_bytes
from insitu.agent.newer_policy import SecondLook, channels
from insitu.agent.ready_data import private_copies, ready_data
from insitu.agent.staging.fetch import StoppedError
from insitu.agent.wait_for_policy import reason, wait_for_policy
from insitu.agent.workspace import give_to_gate, unpack_code
from insitu.domain.digests import Digest
from insitu.domain.errors import DeniedError, InsituError, UnavailableError
from insitu.domain.jobs import FailureClass, JobState
from insitu.domain.outputs import Decision
from insitu.gate.channels.code_words import CODE_WORDS, WORDS_VERSION, read_code, write_code_words
from insitu.gate.channels.installed_texts import INSTALLED_TEXTS
from insitu.gate.policy.values import SandboxRules
from insitu.intake.client import EventReader, IntakeHandle, StartingIntake, attach
from insitu.intake.request import EVENTS
from insitu.sandbox.keeper import KeeperRequest
from insitu.sandbox.keeper_pool import KeeperHandle
from insitu.sandbox.spec import Reason, SandboxResult, SandboxSpec
from insitu.wire.jobs import Target, check_fresh

FAILURE_OF: Mapping[JobState, FailureClass] = {
    JobState.ASSIGNED: FailureClass.POLICY,
    JobState.PREPARING: FailureClass.ENVIRONMENT,
    JobState.RUNNING: FailureClass.SANDBOX,
    JobState.JUDGING: FailureClass.SANDBOX,
    JobState.RELEASING: FailureClass.LOST,
}

_STAND_BACK_S = 0.1  # of the gate's process, so that a sandbox that starts in a few milliseconds has the processor
_FINISH_S = 10.0
_GATHER_S = 0.02  # after the first events that come after a pause; twice as long each time that more have come
_LONGEST_GATHER_S = 0.2


# -- assigned → preparing ----------------------------------------------------------------------------------------------


def accept(attempt: Attempt) -> Next:
    """Signature, freshness, replay, policy: in that order, before code is fetched or data is touched."""
    site, row = attempt.site, attempt.row
    policy = site.policy.require()
    try:
        disk.check_free(site.folder.root, policy.sandbox.free_bytes)
    except UnavailableError as exc:
        return Next.failed(FailureClass.SANDBOX, exc)
    job = attempt.verified
    document = job.document
    if not site.store.is_accepted(job.envelope_digest):
        check_fresh(document.signed_at, document.expires_at, now=site.now())
    target = check_may_run(
        job,
        policy,
        base=site.base.digest,
        offered=offered(site.folder, [(pin.name, pin.version) for pin in document.datasets]),
        runs_of=site.store.runs_of,
        now=site.now(),
    )
    first = site.store.accept(
        envelope=job.envelope_digest,
        nonce=document.nonce,
        job_id=row.job_id,
        expires_at=document.expires_at,
        datasets=[f"{pin.name}@{pin.version}" for pin in document.datasets],
    )
    if first != row.job_id:
        raise DeniedError(
            "this signed job was accepted before under another id",
            code="replayed",
            rule="nonce",
            measure=row.job_id,
            limit="one job per envelope",
            hint="submit it again; a new signature is a new job",
        )
    return Next(
        JobState.PREPARING,
        details={
            "signer": {job.signer_name: job.signer},
            "target": target.model_dump(),
            **cover_attempt.at_acceptance(site, row.job_id, job, target),
        },
    )


# -- preparing → running -----------------------------------------------------------------------------------------------


def prepare(attempt: Attempt) -> Next:
    """Code, packages and data are put ready; then the sandbox, and the gate's process beside it."""
    site = attempt.site
    if site.keepers.adopt(attempt.workspace.keeper) is not None:
        return _runs(attempt)  # started before a crash that came before this was recorded
    target = Target.model_validate(attempt.row.details["target"])
    try:
        data = ready_data(attempt)
    except StoppedError:
        return Next(JobState.CANCELLED) if attempt.cancelled.is_set() else Next(JobState.PREPARING)
    except InsituError as exc:
        return Next.failed(FailureClass.DATA, exc)
    _end_intake_of_a_former_try(attempt)
    root = ready_root(site, target)
    texts = site.environments.texts(root.environment) if root.environment else None
    request = KeeperRequest(
        spec=_ready_spec(attempt, root, data),
        sandbox=site.sandbox.name,
        state_dir=attempt.workspace.keeper,
        settings=site.sandbox_settings,
        streams_socket=attempt.workspace.control,
    )
    # Sandbox and gate get ready beside each other, the one that takes longest first.
    with site.keepers.starting(request) as keeper:
        _make_room_for_intake(attempt, texts)
        with site.intakes.starting(intake_request(attempt, data), stand_back_s=_STAND_BACK_S) as intake:
            site.store.sync()  # while the sandbox gets ready: a power cut must not let the same envelope start twice
            attempt.keeper = keeper.go()
            attempt.intake = ready_or_ended(attempt.keeper, intake)
    return _runs(attempt)


def ready_or_ended(keeper: KeeperHandle, intake: StartingIntake) -> IntakeHandle:
    """The gate's process, which gets ready while the code starts: until then what the code says waits in its pipes.

    Raises:
        UnavailableError: it did not get ready. The sandbox has ended: nobody would judge what it says.
    """
    try:
        return intake.ready()
    except UnavailableError:
        keeper.stop()
        keeper.wait()
        raise


def _ready_spec(attempt: Attempt, root: JobRoot, data: list[tuple[str, DatasetVersion]]) -> SandboxSpec:
    """What the sandbox is to be, once code and packages are here."""
    code = _code(attempt)
    uid = _uid(attempt)
    attempt.workspace.make_outputs(uid)
    return sandbox_spec(attempt, code, root, data, uid, copies=private_copies(attempt, data, uid))


def _make_room_for_intake(attempt: Attempt, texts: Path | None) -> None:
    """Its folders, and in them what it has to know of code, packages and data that it can't reach."""
    attempt.workspace.make(gate_uid=attempt.site.settings.gate_gid)
    list_for_intake(attempt)
    _tell_code_words(_code_folder(attempt), attempt.workspace.intake / CODE_WORDS)
    if texts is not None:
        give_to_gate(texts, attempt.workspace.intake / INSTALLED_TEXTS)


def _uid(attempt: Attempt) -> int:
    """The job's own at this machine, the same whenever it is asked for."""
    if attempt.uid is None:
        attempt.uid = attempt.site.store.take_uid(attempt.row, first=attempt.site.settings.first_uid + 1)
    return attempt.uid


def _runs(attempt: Attempt) -> Next:
    """The sandbox was told to go: what holds for what it tells is what the policy says now."""
    policy = attempt.site.policy.require().for_code(approved=bool(attempt.run_envelope))
    return Next(
        JobState.RUNNING,
        details={"uid": _uid(attempt), "channels": channels(policy)},
        event=_room(attempt),
    )


def _room(attempt: Attempt) -> dict[str, Any]:
    """What the hub hears of the job's budget, if the site tells it at all."""
    site, policy = attempt.site, attempt.site.policy.require()
    if not policy.budget.tell_hub:
        return {}
    return {"room_bytes": room_bytes(site.ledger, policy, attempt.verified, attempt.row.job_id, site.now())}


def _end_intake_of_a_former_try(attempt: Attempt) -> None:
    """A gate process that was started before a crash, and whose sandbox never was, has judged nothing."""
    if attempt.workspace.control.exists():
        with contextlib.suppress(UnavailableError):
            attach(attempt.workspace.control).kill()
        attempt.workspace.forget_intake()


def _code(attempt: Attempt) -> Path:
    """The snapshot's folder, fetched if no job had it before."""
    folder = _code_folder(attempt)
    if not folder.exists():
        snapshot = folder.with_suffix(".tar")
        snapshot.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        attempt.site.link.fetch_blob(Digest(attempt.verified.document.code), snapshot)
        with contextlib.suppress(FileExistsError):
            unpack_code(snapshot, folder)
        snapshot.unlink(missing_ok=True)
    return folder


def _code_folder(attempt: Attempt) -> Path:
    return attempt.site.cache / "code" / attempt.verified.document.code.removeprefix("sha256:")


def _tell_code_words(code: Path, target: Path) -> None:
    """What names the gate may let out depends on what the code says, and the gate's process can't reach the code.

    A snapshot says the same each time, so it is read once.
    """
    known = code.with_name(f"{code.name}.words-{WORDS_VERSION}")
    if not known.exists():
        write_code_words(read_code(code), known)
    give_to_gate(known, target)


# -- running → judging -------------------------------------------------------------------------------------------------


def run(attempt: Attempt) -> Next:
    """Pass on what the gate lets out while the sandbox runs; then see how it ended."""
    keeper = attempt.keeper or attempt.site.keepers.adopt(attempt.workspace.keeper)
    if keeper is None:
        raise InsituError("the sandbox of this job never started", code="sandbox-lost", hint="submit it again")
    result = keeper if isinstance(keeper, SandboxResult) else _follow(attempt, keeper)
    if result is None:  # the agent stops; the sandbox goes on
        return Next(JobState.RUNNING)
    return after_reading(attempt, _after_run(attempt, result))


def _after_run(attempt: Attempt, result: SandboxResult) -> Next:
    finished = _finish_intake(attempt)
    _read_events(attempt)
    if (too_much := _too_much_on_disk(attempt)) is not None:
        return too_much
    if result.reason is not Reason.EXITED or result.exit_code != 0:
        return _ended_badly(attempt, result)
    if not finished:
        lost = InsituError("the gate's process ended early, so the outputs can't be judged", code="gate-lost")
        return Next.failed(FailureClass.SANDBOX, lost)
    return Next(JobState.JUDGING, event=reason(attempt))


def _follow(attempt: Attempt, keeper: KeeperHandle) -> SandboxResult | None:
    """Pass the gate's events on as they come, until the sandbox is gone or the agent stops.

    Raises:
        InsituError: the gate's process is gone, so the sandbox was stopped.
    """
    attempt.keeper = keeper
    if attempt.cancelled.is_set():
        keeper.stop()
    ended = os.eventfd(0)
    results: list[SandboxResult | None] = []

    def watch() -> None:
        results.append(keeper.wait())
        os.eventfd_write(ended, 1)

    threads = attempt.site.threads
    threads.run(watch, name=f"watch-{attempt.row.job_id}")
    with disk.watched(attempt.workspace.root, lambda: _disk_rules(attempt), keeper.stop, threads) as disk_watch:
        while not results and not attempt.detached.is_set():
            try:
                _pass_on(attempt, ended)
            except UnavailableError:
                keeper.stop()  # nobody judges what it says any more, so it may not go on
                attempt.intake = None
    attempt.disk_problem = disk_watch.problem
    # Left open while the watcher may still write to it: an agent that stops ends with its descriptors.
    if results:
        os.close(ended)
    return results[0] if results else None


def _disk_rules(attempt: Attempt) -> SandboxRules | None:
    policy = attempt.site.policy.current()
    return policy and policy.sandbox


def _too_much_on_disk(attempt: Attempt) -> Next | None:
    """A job that took too much of the disk: it was ended for it, or ended by itself before anybody looked."""
    problem, rules = attempt.disk_problem, _disk_rules(attempt)
    if problem is None and rules is not None:
        try:
            disk.check_taken(attempt.workspace.root, rules)
        except DeniedError as exc:
            problem = exc
    if problem is None or attempt.cancelled.is_set():
        return None
    too_large = isinstance(problem, DeniedError)
    return Next.failed(FailureClass.LIMITS if too_large else FailureClass.SANDBOX, problem)


def _pass_on(attempt: Attempt, ended: int) -> None:
    """Wait for the gate or the sandbox's end, at most a second, and read what the gate has decided."""
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    if attempt.intake is None and not attempt.gate_lost:
        attempt.intake = _attach(attempt)
    if attempt.intake is not None:
        keep_feeding(attempt)
        poll.register(attempt.intake.fileno(), select.POLLIN)
    if attempt.second_look is None:
        _read_events(attempt)  # none, or what came before this agent: the first one is passed on sooner then
    began = time.monotonic()
    ready = dict(poll.poll(1000))
    if time.monotonic() - began > _LONGEST_GATHER_S:
        attempt.gather_s = 0.0
    if attempt.events_wait:
        _read_events(attempt)
    if attempt.intake is not None and attempt.intake.fileno() in ready:
        attempt.intake.wait_seq(attempt.intake.seq, timeout_s=0)
        if _read_events(attempt):
            # The first of a flood was passed on at once; the rest come together, and leave the processor to the job.
            gathering = select.poll()
            gathering.register(ended, select.POLLIN)
            attempt.gather_s = min(max(_GATHER_S, 2 * attempt.gather_s), _LONGEST_GATHER_S)
            gathering.poll(1000 * max(attempt.gather_s, min(attempt.stream.pause_s, _LONGEST_GATHER_S)))


def _attach(attempt: Attempt) -> IntakeHandle:
    try:
        return attach(attempt.workspace.control)
    except UnavailableError:
        attempt.gate_lost = True
        raise


def _finish_intake(attempt: Attempt) -> bool:
    """Let the gate's process write down what it decided; False when it can't any more."""
    try:
        intake = attempt.intake or attach(attempt.workspace.control)
        intake.finish(timeout_s=_FINISH_S)
    except UnavailableError:
        return (attempt.workspace.intake / "summary.json").exists()
    return True


def _read_events(attempt: Attempt) -> bool:
    """The gate's new events into the attempt's stream, without its numbers: the stream has its own. Were there any?"""
    policy = attempt.policy_now()
    attempt.events_wait = policy is None
    if policy is None:
        return False
    look = attempt.second_look = attempt.second_look or _second_look(attempt)
    before = attempt.stream.intake_offset
    reader = EventReader(attempt.workspace.intake / EVENTS)
    while True:
        lines, offset = reader.read(attempt.stream.intake_offset)
        if not lines:
            return attempt.stream.intake_offset != before
        attempt.stream.add(look.may_leave([json.loads(line) for line in lines], policy), intake_offset=offset)


def _second_look(attempt: Attempt) -> SecondLook:
    sent: Counter[str] = Counter()
    for batch in attempt.site.ledger.batches_of(*attempt.row.key):
        sent.update(batch.counts)
    return SecondLook(attempt.row.details.get("channels", {}), sent)


_WORDS: Mapping[Reason, tuple[FailureClass, str, str, str]] = {
    Reason.TIMEOUT: (FailureClass.LIMITS, "timeout", "the job ran longer than its time limit", "raise limits.timeout"),
    Reason.MEMORY: (FailureClass.LIMITS, "memory", "the job used more memory than its limit", "raise resources.memory"),
    Reason.SELFTEST: (
        FailureClass.SANDBOX,
        "self-test",
        "the sandbox's self-test refused to start the job",
        "at the site: `insitu doctor`",
    ),
    Reason.FAILED_TO_START: (
        FailureClass.SANDBOX,
        "start",
        "the sandbox could not start",
        "at the site: `insitu doctor`",
    ),
    Reason.LOST: (FailureClass.LOST, "lost", "the site can't tell what became of the sandbox", "submit it again"),
}


def _ended_badly(attempt: Attempt, result: SandboxResult) -> Next:
    if result.reason is Reason.STOPPED and attempt.cancelled.is_set():
        return Next(JobState.CANCELLED)
    if result.reason is Reason.EXITED:
        # The number itself is eight bits that the script chose: it stays here, and a word leaves.
        code, what = ("script-failed", "failed") if result.exit_code is not None else ("script-killed", "was killed")
        return Next(
            JobState.FAILED,
            event={
                "failure": FailureClass.SCRIPT.value,
                "code": code,
                "what": f"the job's command {what}",
                "hint": "see `insitu job logs`: of an exception its type and the script's own frames leave the site",
            },
            details={"exit_code": result.exit_code, "signal": result.signal},
        )
    failure, code, what, hint = _WORDS.get(result.reason, _WORDS[Reason.LOST])
    return Next(
        JobState.FAILED,
        event={"failure": failure.value, "code": code, "what": what, "hint": hint, "measure": result.detail[:200]},
    )


# -- judging → releasing | held | refused | succeeded ------------------------------------------------------------------


def judge(attempt: Attempt) -> Next:
    """The sandbox is gone. Freeze what it wrote, judge it, and queue what needs a person."""
    attempt.workspace.freeze()
    if (stopped := wait_for_policy(attempt)) is not None:
        return stopped
    _read_events(attempt)  # what waited for the policy
    policy = attempt.site.policy.text
    decisions = _decide(attempt)
    if attempt.detached.is_set() or attempt.site.policy.text != policy:
        # The agent stops, maybe in the middle of a prediction, or another policy holds now: it is judged again.
        return Next(JobState.JUDGING)
    events = releasing.record(attempt, cover_attempt.say_what_is_missing(attempt, decisions))
    attempt.stream.add(events)
    return releasing.after_judging(attempt)


def _decide(attempt: Attempt) -> list[Decision]:
    """A decision for each output, by the policy as it is now; none that counts if it can't be read any more."""
    try:
        cover_attempt.before_judging(attempt)
        decisions = judging.judge(attempt.site, attempt.workspace, attempt.verified, attempt.row, attempt.datasets)
        written = {found.output: found.path for found in judging.find_candidates(attempt.workspace, attempt.verified)}
        return smoke.check_predictions(attempt, decisions, written)
    except DeniedError:
        if attempt.site.policy.current() is not None:
            raise
        return []


def review(attempt: Attempt) -> Next:
    """Held: on when a verdict has come for every item, else where it is."""
    return releasing.after_review(attempt)


def release(attempt: Attempt) -> Next:
    """Ledger, then upload, then admission at the hub; again from wherever it stopped."""
    return releasing.release_all(attempt)


def clean(attempt: Attempt) -> None:
    """Remove what nobody needs any more. Frozen and canonical copies of held items stay with the item."""
    with contextlib.suppress(UnavailableError):
        attempt.site.sandbox.destroy(attempt.site.sandbox_name(*attempt.row.key))
    attempt.workspace.remove()
