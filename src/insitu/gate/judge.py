"""`python -m insitu.gate.judge`: one process, one judgement, one reply.

    stdin: one JSON request ──► examine ──► decide ──► stdout: one JSON reply
                                               └──► out_dir/<output>/…  canonical copies

The agent starts it confined: no network, a user of its own, limits on memory
and time, everything read-only but `out_dir`. Nothing it reads is executed. A
candidate that crashes or outlasts it is held as `not-readable`; a judge that
ends without a reply has let nothing out.

It imports numpy and PyYAML, and none of the libraries whose files it reads.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NoReturn

from insitu.domain.errors import IntegrityError
from insitu.domain.outputs import Decision, Verdict
from insitu.gate.decide import decide
from insitu.gate.effort import Effort, Limits, OutOfEffortError
from insitu.gate.examine import Knowledge, examine
from insitu.gate.judgement import (
    Candidate,
    JudgeReply,
    JudgeRequest,
    judge_reply_json,
    parse_judge_request,
)
from insitu.gate.known.data import KnownData
from insitu.gate.policy.loading import load_policy
from insitu.gate.subject import Subject, Terms

_MAX_REQUEST_BYTES = 64 << 20
_READ_LATE = ("encodings.cp437", "mmap", "numpy.ma")
"""What Python and numpy would import in the middle of a judgement: for names in archives, and for distinct values."""


def main() -> int:
    for name in _READ_LATE:
        import_module(name)
    gc.collect()
    gc.freeze()  # what was imported is not looked through again
    text = sys.stdin.read(_MAX_REQUEST_BYTES)
    if not text:
        return 0  # it waited, and nobody asked
    request = parse_judge_request(text)
    sys.stdout.write(judge_reply_json(judge(request)) + "\n")
    return 0


def judge(request: JudgeRequest) -> JudgeReply:
    """Decide on every candidate, and write the canonical copies of those that have one.

    Raises:
        InvalidInputError: the policy can't be read. Then nothing is decided, and nothing leaves.
    """
    policy = load_policy(request.policy).for_code(approved=request.in_envelope)
    terms = Terms(policy.release, request.contract, in_envelope=request.in_envelope)
    knowledge = _open(request.index_dirs)
    limits = Limits(request.limits.time_s, request.limits.expansion_bytes, request.limits.members)
    effort = Effort(limits)
    decisions: list[Decision] = []
    left_behind: Counter[str] = Counter()
    for candidate in request.candidates:
        decision, behind = _judge_one(candidate, request, terms, knowledge, effort)
        decisions.append(decision)
        left_behind.update(behind)
    return JudgeReply(tuple(decisions), dict(left_behind))


def _open(index_dirs: tuple[Path, ...]) -> Knowledge:
    known: list[KnownData] = []
    missing = 0
    for folder in index_dirs:
        try:
            known.append(KnownData.open(folder))
        except IntegrityError:
            missing += 1
    return Knowledge(known, missing)


def _judge_one(
    candidate: Candidate, request: JudgeRequest, terms: Terms, knowledge: Knowledge, effort: Effort
) -> tuple[Decision, tuple[str, ...]]:
    try:
        with _alarm(max(effort.left_s, 0.1) + 1):
            subject = examine(
                candidate, request.contract, terms.release.models, knowledge, request.lock_packages, effort
            )
            decision = decide(subject, terms)
            _write_copy(subject, decision, request.out_dir)
    except Exception:  # noqa: BLE001 - whatever happened, it is no reason to let anything out
        return _not_readable(candidate), ()
    return decision, subject.left_behind


def _write_copy(subject: Subject, decision: Decision, out_dir: Path) -> None:
    if subject.canonical is None or decision.verdict not in (Verdict.RELEASED, Verdict.HELD, Verdict.RESIDENT):
        return
    for relative, data in subject.canonical.items():
        path = out_dir / subject.name / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _not_readable(candidate: Candidate) -> Decision:
    return Decision(
        name=candidate.output,
        verdict=Verdict.HELD,
        rule="not-readable",
        measure="it could not be read to its end",
        limit="all of it read",
        hint="write it again in a plain format; a reviewer can look at it",
        not_checked=("all",),
    )


@contextmanager
def _alarm(seconds: float) -> Generator[None]:
    """A net below `Effort`: ends a loop that forgot to look at the clock."""
    previous = signal.signal(signal.SIGALRM, _time_is_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _time_is_up(_: int, __: FrameType | None) -> NoReturn:
    raise OutOfEffortError("the time of the judgement is up")


if __name__ == "__main__":
    sys.exit(main())
