"""Has frozen canonical copies judged once more, under a policy that is not the one they were judged under.

A canonical copy is what would leave, so the judge finds in it what it would find
in it today. What only the original showed is not in it: see `replay_outputs`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from insitu.agent.catalogue import find_dataset
from insitu.agent.folder import SiteFolder, open_to_gate
from insitu.agent.judging import ask_judge
from insitu.agent.store import AttemptRow
from insitu.domain.outputs import Decision
from insitu.gate.judgement import Candidate, JudgeLimits, JudgeRequest
from insitu.images.locks import parse_lock
from insitu.wire.jobs import VerifiedJob

_TIME_S = 60.0  # for each copy


def judge_copies(
    row: AttemptRow,
    job: VerifiedJob,
    copies: Mapping[str, Path],
    policy_text: str,
    *,
    folder: SiteFolder,
    cache: Path,
    gate_uid: int,
) -> dict[str, Decision]:
    """Output → decision on its copy; without those on which the judge gave no answer.

    Raises:
        NotFoundError: a dataset that the job read is not at this site any more.
    """
    room = Path(tempfile.mkdtemp(prefix=".copies-", dir=folder.jobs))
    try:
        for output, copy in copies.items():
            shutil.copytree(copy, room / "copies" / output)
        (room / "out").mkdir()
        _hand_over(room, gate_uid)
        request = JudgeRequest(
            policy=policy_text,
            contract=job.job.contract,
            candidates=tuple(
                Candidate(output, job.job.outputs[output].type, room / "copies" / output) for output in copies
            ),
            index_dirs=tuple(find_dataset(folder, pin.name, pin.version).index for pin in job.document.datasets),
            lock_packages=_packages(row, cache / "locks"),
            out_dir=room / "out",
            limits=JudgeLimits(time_s=_TIME_S * len(copies)),
            in_envelope=bool(row.details.get("run_envelope")),
        )
        return ask_judge(request, uid=gate_uid, root=folder.root)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _hand_over(room: Path, gate_uid: int) -> None:
    """To the gate's uid, which is nobody else's; an agent that is no root runs its judges as itself."""
    for path in room.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
        if os.geteuid() == 0:
            os.chown(path, gate_uid, gate_uid)
    if os.geteuid() == 0:
        open_to_gate(room, gate_uid)


def _packages(row: AttemptRow, locks: Path) -> tuple[tuple[str, str], ...]:
    """Name and version of each package of the job's lock; none where the lock is gone."""
    lock = str(row.details.get("target", {}).get("lock", ""))
    path = locks / f"{lock.removeprefix('sha256:')}.toml"
    if not lock or not path.exists():
        return ()
    return tuple((package.name, package.version) for package in parse_lock(path.read_bytes()).packages)
