"""What a job's sandbox and its gate's process are asked to be: all that the job gets to see of its site.

Allow-lists throughout: what is not named here is not there.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from insitu.agent.attempt import Attempt
from insitu.agent.catalogue import DatasetVersion
from insitu.agent.direct.of_job import direct_inputs
from insitu.agent.job_root import JobRoot
from insitu.sandbox.spec import Limits, Mount, SandboxSpec
from insitu.wire.job_file import GATE_ADDRESS, GATE_PORT, command_line

SCRATCH_BYTES = 1 << 30
_JUST_OVER = 1 << 20  # a file that the kernel cut is more than the job may have, and so is said to be
_PLAIN = re.compile(r"""python3?(?:[ ]+(?:[\w./=:,@%+-]|'[^']*'|"[^"$`\\!]*")+)*""", re.ASCII)


def run_id_inside(job_id: str) -> str:
    """The job's run as the script sees it: 32 hex digits, mapped to MLflow's own at the hub."""
    return hashlib.sha256(f"insitu-run/{job_id}".encode()).hexdigest()[:32]


def intake_request(attempt: Attempt, data: list[tuple[str, DatasetVersion]]) -> dict[str, Any]:
    site, job, space = attempt.site, attempt.verified, attempt.workspace
    return {
        "job_id": attempt.row.job_id,
        "attempt": attempt.row.attempt,
        "run_id": run_id_inside(attempt.row.job_id),
        "experiment_id": "1",
        "experiment_name": job.job.experiment_name,
        "run_name": job.job.display_name,
        "policy": site.policy.text,
        "in_envelope": bool(attempt.run_envelope),
        "contract": asdict(job.job.contract),
        "index_dirs": [str(version.index) for _, version in data],
        "socket": str(space.socket),
        "control": str(space.control),
        "state_dir": str(space.intake),
        "inputs": {name: str(space.input_list(name)) for name, _ in direct_inputs(attempt)},
        "feed": str(space.feed),
        "address": GATE_ADDRESS,
        "script_root": "/job/code",
        "tags": dict(job.job.tags),
    }


def sandbox_spec(
    attempt: Attempt,
    code: Any,
    root: JobRoot,
    data: list[tuple[str, DatasetVersion]],
    uid: int,
    *,
    copies: Mapping[str, Path],
) -> SandboxSpec:
    """What the sandbox is to be. `copies` are inputs that the job has for itself, and may write."""
    site, job, space = attempt.site, attempt.verified, attempt.workspace
    policy = site.policy.require()
    direct = {name for name, _ in direct_inputs(attempt)}
    mounts = [
        Mount(source=code, target="/job/code"),
        *root.mounts,
        Mount(source=space.outputs, target="/job/outputs", writable=True),
        *(
            Mount(source=copies.get(name, version.data), target=f"/job/inputs/{name}", writable=name in copies)
            for name, version in data
            if name not in direct
        ),
    ]
    return SandboxSpec(
        name=attempt.site.sandbox_name(*attempt.row.key),
        rootfs=root.rootfs,
        tools=root.tools,
        argv=_argv(command_line(job.job), root),
        env=_environment(attempt, root),
        workdir="/job/code",
        mounts=tuple(mounts),
        gate_port=GATE_PORT,
        limits=Limits(
            memory_bytes=job.job.resources.memory,
            cpus=job.job.resources.cpus,
            processes=policy.sandbox.processes,
            wall_s=job.job.limits.timeout,
            scratch_bytes=SCRATCH_BYTES,
            file_bytes=policy.sandbox.disk_bytes + _JUST_OVER,
        ),
        uid=uid,
        gid=uid,
    )


def _argv(command: str, root: JobRoot) -> tuple[str, ...]:
    """What runs the command: a shell, unless it is Python with words that no shell would read otherwise."""
    if _PLAIN.fullmatch(command):
        first, *rest = shlex.split(command)
        return (root.python if root.tools else first, *rest)
    return ("/bin/sh", "-c", f"exec {command}")


def _environment(attempt: Attempt, root: JobRoot) -> dict[str, str]:
    """All that the job's environment holds: an allow-list, nothing of the agent's own; of an image what it sets itself."""
    job = attempt.verified.job
    threads = str(max(1, int(job.resources.cpus)))
    return {
        **root.env,
        "PATH": root.path,
        "HOME": "/tmp",  # noqa: S108 - the sandbox's own scratch
        "USER": "job",  # the uid has no name inside, and getpass asks here first
        "LOGNAME": "job",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MLFLOW_TRACKING_URI": GATE_ADDRESS,
        "MLFLOW_EXPERIMENT_NAME": job.experiment_name,
        "MLFLOW_RUN_ID": run_id_inside(attempt.row.job_id),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # addresses that mean nothing outside
        "GIT_PYTHON_REFRESH": "quiet",
        "INSITU_JOB_ID": attempt.row.job_id,
        "INSITU_OUTPUTS": "/job/outputs",
        **{f"INSITU_INPUT_{name.upper()}": given.place(name) for name, given in job.datasets.items()},
    }
