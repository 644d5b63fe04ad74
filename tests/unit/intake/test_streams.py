"""What a script prints and what it logs come by different ways; it is decided in the order in which it was said."""

import os
from contextlib import closing
from io import FileIO

import pytest

from insitu.domain.outputs import ReleaseContract
from insitu.gate.policy.loading import load_policy
from insitu.intake.gated import GateRules
from tests.unit.intake.intake_parts import OWN

POLICY = """
version: 1
signers: {}
release:
  metrics: {digits: 4, max_count: 10000}
  logs: {mode: scanned, max_bytes: 256kB, ceiling: 512B}
budget: {per_job: 5MB, per_dataset_per_month: 100MB, per_submitter_per_month: 50MB}
"""


@pytest.fixture
def prints(job):
    """Writes to the job's standard output, or to its error, which nobody reads unless something makes the intake."""
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    job.intake.streams.begin((out_read, err_read))
    with closing(FileIO(out_write, "w")) as out, closing(FileIO(err_write, "w")) as err:
        yield lambda text, to="out", end="\n": {"out": out, "err": err}[to].write(f"{text}{end}".encode())


def logs(job, step: int, **values: float) -> None:
    metrics = [{"key": key, "value": value, "timestamp": 1, "step": step} for key, value in values.items()]
    job.call("POST", "runs/log-batch", {"run_id": OWN, "metrics": metrics})


def hear(job) -> None:
    """As the event loop does when something can be read."""
    job.intake.streams.hear()
    job.intake.decided.flush()


def said(job) -> list:
    """What left, in its order."""
    return [(event.key, event.value) if event.kind == "metric" else event.text for event in job.events()]


def test_what_was_printed_before_a_call_is_decided_before_it_and_what_after_it_later(job, prints):
    prints("first")
    logs(job, 0, loss=0.5)
    prints("second")
    prints("warned", to="err")
    logs(job, 1, loss=0.25)
    assert said(job) == ["first", ("loss", 0.5), "second", "warned", ("loss", 0.25)]


def test_half_a_line_is_decided_when_its_end_is_written(job, prints):
    prints("whole\nhalf", end="")
    logs(job, 0, loss=0.5)
    prints(" a line")
    logs(job, 1, loss=0.25)
    assert said(job) == ["whole", ("loss", 0.5), "half a line", ("loss", 0.25)]


def test_a_full_pipe_is_read_to_its_end(job, prints):
    lines = [f"{number:015}" for number in range(4096)]  # 64 KiB, as much as a pipe takes
    for line in lines:
        prints(line)
    logs(job, 0, loss=0.5)
    assert said(job) == [*lines, ("loss", 0.5)]


@pytest.mark.parametrize("every", [1, 3, 1000])
def test_what_leaves_of_a_loop_does_not_depend_on_when_its_lines_are_read(job, prints, every):
    """Each line before the next call, as where the intake keeps up; or some, or all, after that call has come."""
    job.intake.decided.rules = GateRules(load_policy(POLICY), ReleaseContract(("loss", "accuracy")), [])
    script: list[str | tuple[str, float]] = []
    for epoch in range(200):
        loss, accuracy = 0.7 - epoch * 0.0013 + epoch % 7 * 0.01, 0.5 + epoch * 0.002 - epoch % 3 * 0.01
        line = f"epoch {epoch + 1}/200: loss {loss:.4f}, accuracy {accuracy:.3f}"
        logs(job, epoch, loss=loss, accuracy=accuracy)
        prints(line)
        script += [("loss", float(f"{loss:.4g}")), ("accuracy", float(f"{accuracy:.4g}")), line]
        if epoch % every == 0:
            hear(job)
    hear(job)
    assert said(job) == script
