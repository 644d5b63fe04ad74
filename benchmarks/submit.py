"""From submitting a job to its first line in the submitter's hands, with every guard on.

The client is warm, code, lock and environment are where they will be used, one
keeper and one gate process wait: so a data scientist has it from the second job
on. Each round is what `insitu run --follow` does: the job is prepared, for which
the hub is asked for its sites and datasets, signed and posted. The clock starts
when it is about to be posted and stops when the line is read from the job's
stream. The reference is the command that a person would type to seal the same
interpreter off, without hub, signature, policy, self-test, limits, gate or ledger.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from benchmarks.containers import bare_container
from benchmarks.figures import Goal, Row, milliseconds
from benchmarks.programs import Timed, run_timed, wait_until_family_quiet
from benchmarks.scene import SMALL, Scene, bare_bwrap
from tests.rig import World

_PRINT = ["/opt/env/bin/python", "-c", "print(1)"]
_COMMAND = 'python -c "print(1)"'
_ROUNDS = 9
_UNTIL_REFILL_S = 0.8
"""After a job its site starts the next waiting keeper and gate, half a second later: not a part of the next job."""
_UNTIL_CLEARED_S = 0.5
"""After the reference the kernel takes its namespaces down: not a part of the next job either."""

_GOALS = {"bubblewrap": Goal(at_most=2.0), "podman": Goal(at_most=1.5)}
# What the client sees, and the hub's own time of placing. Times that leave a site are whole seconds, and tell nothing here.
_STAGES = (
    ("POST until it is assigned", "posted", "assigned"),
    ("POST until it is answered", "posted", "answered"),
    ("assigned until the line is seen", "assigned", "seen"),
)


def measure(scene: Scene) -> Iterator[Row]:
    for sandbox, goal in _GOALS.items():
        if shutil.which({"bubblewrap": "bwrap"}.get(sandbox, sandbox)) is None:
            yield Row(f"submit → first line, {sandbox}", "ms", (), goal=goal, failed=f"{sandbox} is not installed")
            continue
        yield from _measure_with(scene, sandbox, goal)


def _measure_with(scene: Scene, sandbox: str, goal: Goal) -> Iterator[Row]:
    world = scene.world(sandbox)
    tree = scene.environment(SMALL).tree
    bare = bare_bwrap(scene.base, tree, _PRINT) if sandbox == "bubblewrap" else bare_container(scene, tree, _PRINT)
    job = world.job_folder("", requirements=SMALL, command=_COMMAND) / "job.yaml"
    told: list[_Told] = []
    bares: list[Timed] = []
    world.alice.wait(world.alice.submit(job).id, timeout_s=60)  # brings code and packages to where they are used
    for number in range(scene.rounds(_ROUNDS) + 1):
        one, other = _submit(world, job), run_timed(bare)
        time.sleep(_UNTIL_CLEARED_S)
        if number >= 1:  # the first finds all warm for the first time
            told.append(one)
            bares.append(other)
    ours = milliseconds([one["seen"] - one["posted"] for one in told])
    to_its_end, to_its_byte = (
        milliseconds([getattr(one, name) for one in bares]) for name in ("end_s", "first_byte_s")
    )
    name = "bwrap" if sandbox == "bubblewrap" else f"{sandbox} run"
    figure = f"submit → first line, {sandbox}"
    yield Row(figure, "ms", ours, f"bare {name}", to_its_end, goal)
    yield Row(f"{figure}, stricter", "ms", ours, f"bare {name}, to its first byte", to_its_byte)
    for stage, begin, end in _STAGES:
        yield Row(f"· {stage}", "ms", milliseconds([one[end] - one[begin] for one in told]))


_Told = Mapping[str, float]
"""Name of a moment → when it was, seconds since 1970 by this machine's clock, which hub and site share here."""


def _submit(world: World, path: Path) -> _Told:
    signed = world.alice.sign(world.alice.prepare(path))
    moments = {"posted": time.time()}
    with world.alice.submit_signed_and_follow(signed) as (job, events):
        moments["answered"] = time.time()
        for event in events:
            if event.kind == "state" and event.text == "assigned":
                moments[event.text] = _at(event.data)
            elif event.kind == "log":
                moments["seen"] = time.time()
                break
        else:
            raise RuntimeError(f"{job.id} printed nothing: {world.alice.job(job.id)}\n{world.logs()}")
    world.alice.wait(job.id, timeout_s=60)
    time.sleep(_UNTIL_REFILL_S)
    assert world.agent is not None
    wait_until_family_quiet(world.agent.pid)  # on a busy machine they take longer to get ready
    return moments


def _at(data: Mapping[str, str]) -> float:
    return datetime.fromisoformat(data["at"]).timestamp()
