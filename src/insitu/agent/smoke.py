"""Asks what was written and what would leave the same rows, inside one sandbox, before anything is released.

    canonical copy + what was written ──► a sandbox of the job's own kind ──► counts ──► the gate's rule

The sandbox has the job's base, packages, code and data, no socket and no way
out but one line of counts (`insitu.serving.smoke` writes it, `insitu.gate.smoke`
reads it and decides). A comparison that does not come about holds the model.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from insitu.agent.attempt import Attempt
from insitu.agent.direct.of_job import direct_inputs
from insitu.agent.job_root import ready_root
from insitu.deploy.serving_code import put_serving_code
from insitu.domain.digests import Digest
from insitu.domain.errors import InsituError
from insitu.domain.outputs import Decision, OutputType, Verdict
from insitu.gate.policy.values import ModelRules, SmokeRules
from insitu.gate.smoke import SmokeAnswer, after_smoke, read_answer
from insitu.sandbox.keeper import KeeperRequest
from insitu.sandbox.spec import Limits, Mount, Reason, SandboxResult, SandboxSpec
from insitu.wire.jobs import Target

_WALL_S = 120.0
_SCRATCH_BYTES = 1 << 30
_LOOK_S = 1.0
_MAX_ANSWER = 1000
_MODELS = frozenset({OutputType.MLFLOW_MODEL, OutputType.CUSTOM_MODEL})
_MAY_LEAVE = frozenset({Verdict.RELEASED, Verdict.HELD, Verdict.RESIDENT})  # by itself, or by a reviewer's word


def check_predictions(attempt: Attempt, decisions: list[Decision], written: dict[str, Path]) -> list[Decision]:
    """The decisions again, each model's after its smoke prediction where the policy asks for one.

    Args:
        written: output → file or folder as the job left it, frozen.
    """
    rules = attempt.site.policy.require().release.models
    if rules.smoke is None:
        return decisions
    return [
        _checked(attempt, decision, written[decision.name], rules, rules.smoke)
        if _is_asked(attempt, decision)
        else decision
        for decision in decisions
    ]


def _is_asked(attempt: Attempt, decision: Decision) -> bool:
    output = attempt.verified.job.outputs.get(decision.name)
    has_copy = (attempt.workspace.out / decision.name).exists()
    return output is not None and output.type in _MODELS and has_copy and decision.verdict in _MAY_LEAVE


def _checked(attempt: Attempt, decision: Decision, written: Path, rules: ModelRules, smoke: SmokeRules) -> Decision:
    if attempt.detached.is_set():
        return decision  # the agent stops: it is judged again when it is back
    room = Path(tempfile.mkdtemp(prefix="smoke-", dir=attempt.workspace.root))
    room.chmod(0o711)
    try:
        answer = _ask(attempt, room, written, attempt.workspace.out / decision.name, rules, smoke)
    except (InsituError, OSError):
        answer = SmokeAnswer(problem="no-answer")
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return after_smoke(decision, answer, smoke, rules.otherwise)


def _ask(attempt: Attempt, room: Path, written: Path, copy: Path, rules: ModelRules, smoke: SmokeRules) -> SmokeAnswer:
    site = attempt.site
    _lay_out(written, room / "written")
    _lay_out(copy, room / "copy")
    answer = room / "answer"
    answer.mkdir()
    spec = _spec(attempt, room, copy.name, rules, smoke)
    site.sandbox.destroy(spec.name)  # of a try that a crash cut short
    keeper = site.keepers.start(
        KeeperRequest(spec=spec, sandbox=site.sandbox.name, state_dir=room / "keeper", settings=site.sandbox_settings)
    )
    result = None
    while result is None:
        result = keeper.wait(_LOOK_S)
        if attempt.detached.is_set():
            keeper.stop()
    return _answer_of(result, answer / "answer.json")


def _answer_of(result: SandboxResult, path: Path) -> SmokeAnswer:
    if result.reason is Reason.TIMEOUT:
        return SmokeAnswer(problem="time")
    if result.reason is not Reason.EXITED or path.is_symlink() or not path.is_file():
        return SmokeAnswer(problem="no-answer")
    with path.open("rb") as stream:
        return read_answer(stream.read(_MAX_ANSWER + 1).decode(errors="replace"))


def _lay_out(source: Path, folder: Path) -> None:
    """A copy that the sandbox's own uid can read: what was judged lies behind folders that are closed to it."""
    folder.mkdir()
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    for path in files:
        if path.is_symlink():
            continue
        target = folder / (path.name if path == source else path.relative_to(source))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def _spec(attempt: Attempt, room: Path, output: str, rules: ModelRules, smoke: SmokeRules) -> SandboxSpec:
    site, job = attempt.site, attempt.verified
    target = Target.model_validate(attempt.row.details["target"])
    code = site.cache / "code" / Digest(job.document.code).removeprefix("sha256:")
    uid = int(attempt.row.details["uid"])
    direct = {name for name, _ in direct_inputs(attempt)}  # nothing of those is at the site; then there are no rows
    data = [(name, version) for name, version in attempt.datasets if name not in direct]
    declared = job.job.outputs[output].predict
    root = ready_root(site, target)
    argv = [
        *(root.python, "-P", "-m", "insitu.serving.smoke", "--written", "/smoke/written", "--copy", "/smoke/copy"),
        *("--data", f"/job/inputs/{data[0][0]}" if data else "/job/inputs", "--rows", str(smoke.rows)),
        *("--out", "/smoke/answer/answer.json"),
        *(("--predict", declared) if declared else ()),
        *(part for name in rules.trusted_types for part in ("--trusted-type", name)),
    ]
    mounts = [
        Mount(source=code, target="/job/code"),
        *root.mounts,
        Mount(source=put_serving_code(site.folder.deployments / "code"), target="/smoke/code"),
        Mount(source=room / "written", target="/smoke/written"),
        Mount(source=room / "copy", target="/smoke/copy"),
        Mount(source=room / "answer", target="/smoke/answer", writable=True),
        *(Mount(source=version.data, target=f"/job/inputs/{name}") for name, version in data),
    ]
    threads = str(max(1, int(job.job.resources.cpus)))
    return SandboxSpec(
        name=f"{site.sandbox_name(*attempt.row.key)}-smoke",
        rootfs=root.rootfs,
        tools=root.tools,
        argv=tuple(argv),
        env={
            **root.env,
            "PATH": root.path,
            "PYTHONPATH": "/smoke/code",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": "/tmp",  # noqa: S108 - the sandbox's own scratch
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        },
        workdir="/job/code",
        mounts=tuple(mounts),
        limits=Limits(
            memory_bytes=job.job.resources.memory,
            cpus=job.job.resources.cpus,
            processes=attempt.site.policy.require().sandbox.processes,
            wall_s=_WALL_S,
            scratch_bytes=_SCRATCH_BYTES,
        ),
        uid=uid,
        gid=uid,
    )
