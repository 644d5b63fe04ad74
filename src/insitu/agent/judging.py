"""Has the gate's judge look at what a job wrote: a process of its own, confined, with limits.

A judge that crashes, hangs or says nothing has let nothing out: each declared
output is then held, with the rule `not-readable`.
"""

from __future__ import annotations

import json
from pathlib import Path

from insitu.agent.catalogue import DatasetVersion
from insitu.agent.judge_pool import JUDGE_TIME_S, JudgePool
from insitu.agent.site import Site
from insitu.agent.store import AttemptRow
from insitu.agent.workspace import Workspace
from insitu.domain.digests import Digest
from insitu.domain.outputs import Decision, OutputType, Verdict
from insitu.gate.judgement import Candidate, JudgeLimits, JudgeRequest
from insitu.wire.jobs import Target, VerifiedJob


def judge(
    site: Site, space: Workspace, job: VerifiedJob, row: AttemptRow, data: list[tuple[str, DatasetVersion]]
) -> list[Decision]:
    """A decision for every output that the job declared. Never raises for what the job wrote."""
    candidates = find_candidates(space, job)
    target = Target.model_validate(row.details["target"])
    request = JudgeRequest(
        policy=site.policy.text,
        contract=job.job.contract,
        candidates=tuple(candidates),
        index_dirs=tuple(version.index for _, version in data),
        lock_packages=() if target.image else site.environments.packages(Digest(target.lock)),
        out_dir=space.out,
        limits=JudgeLimits(time_s=JUDGE_TIME_S),
        in_envelope=bool(row.details.get("run_envelope")),
    )
    missing = [_missing(name) for name in job.job.outputs if name not in {found.output for found in candidates}]
    if not candidates:
        return missing
    space.make_out(site.settings.gate_gid)
    decided = site.judges.ask(request)
    return [*(decided.get(found.output) or _not_read(found) for found in candidates), *missing]


def ask_judge(request: JudgeRequest, *, uid: int, root: Path) -> dict[str, Decision]:
    """Output → decision, by a judge that is started for it; empty when it ended without an answer."""
    return JudgePool(root, uid=uid).ask(request)


def find_candidates(space: Workspace, job: VerifiedJob) -> list[Candidate]:
    """Each declared output that was written: as a folder of outputs, or logged through MLflow."""
    logged = _logged(space)
    found: list[Candidate] = []
    for name, output in job.job.outputs.items():
        for path in (space.frozen / name, logged.get(name)):
            if path is not None and path.exists():
                found.append(Candidate(output=name, type=OutputType(output.type), path=path))
                break
    return found


def _logged(space: Workspace) -> dict[str, Path]:
    """Output → folder or file, as the gate's process matched them when the script had ended."""
    try:
        document = json.loads((space.intake / "artifacts.json").read_text())
    except (OSError, ValueError):
        return {}
    return {name: space.intake / entry["path"] for name, entry in document.get("outputs", {}).items()}


def _missing(name: str) -> Decision:
    return Decision(
        name=name,
        verdict=Verdict.KEPT,
        rule="not-written",
        measure="nothing was written",
        hint=f"write it to $INSITU_OUTPUTS/{name}, or log the model under the name {name!r}",
    )


def _not_read(candidate: Candidate) -> Decision:
    return Decision(
        name=candidate.output,
        verdict=Verdict.HELD,
        rule="not-readable",
        measure="the judge ended without a decision",
        hint="a steward looks at it; a simpler format may help",
        not_checked=("all",),
    )
