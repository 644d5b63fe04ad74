"""How long the judge takes for 100 MB of weights: one process, one request, as the agent asks it, without the sandbox."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.leaks.inside.networks import save
from benchmarks.leaks.policy import as_one_line, release
from insitu.domain.outputs import OutputContract, OutputType, ReleaseContract
from insitu.gate.judgement import Candidate, JudgeLimits, JudgeRequest, judge_request_json, parse_judge_reply

_MEGABYTES = 100
_LIMITS = JudgeLimits(time_s=300.0)


def seconds_for_100_mb(index: Path, folder: Path) -> float:
    """From the request to the reply, a decision on the whole file."""
    written, out = folder / "model", folder / "out"
    written.mkdir()
    out.mkdir()
    values = np.random.default_rng(0).normal(0, 0.05, (25, 1000, 1000)).astype(np.float32)
    save({f"layer{number}.weight": layer for number, layer in enumerate(values)}, written / "model.safetensors")
    rules = release()
    rules["models"] |= {"max_bytes": "500MB", "ceiling": "500MB"}
    policy = f"version: 1\nrelease: {as_one_line(rules)}\n"
    request = JudgeRequest(
        policy=policy,
        contract=ReleaseContract(outputs=(OutputContract("model", OutputType.CUSTOM_MODEL),)),
        candidates=(Candidate("model", OutputType.CUSTOM_MODEL, written),),
        index_dirs=(index,),
        lock_packages=(),
        out_dir=out,
        limits=_LIMITS,
        in_envelope=True,
    )
    begun = time.perf_counter()
    command = [sys.executable, "-P", "-m", "insitu.gate.judge"]
    asked = judge_request_json(request).encode()
    done = subprocess.run(command, input=asked, capture_output=True, timeout=600, check=True)
    took_s = time.perf_counter() - begun
    decision = parse_judge_reply(done.stdout.decode())[0]
    if decision.not_checked:
        raise RuntimeError(f"not all of it was checked: {decision.rule}")
    return took_s * 100 / _MEGABYTES
