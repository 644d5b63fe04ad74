"""Exit codes of `run -f` and `job wait`: success, failure and denial are told apart, and nothing more."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from insitu.cli.job_text import describe, exit_code
from insitu.wire.people import JobView, OutputView, Reason


def a_job(**changes) -> JobView:
    return JobView(**({"id": "j-1", "name": "job", "state": "succeeded", "created_at": datetime.now(UTC)} | changes))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"state": "succeeded"}, 0),
        ({"state": "failed", "failure": "script"}, 1),
        ({"state": "failed", "failure": "limits"}, 1),
        ({"state": "failed", "failure": "lost"}, 1),
        ({"state": "failed", "failure": "policy"}, 3),
        ({"state": "refused"}, 3),
        ({"state": "held"}, 3),
        ({"state": "cancelled"}, 1),
    ],
)
def test_how_a_job_ended_is_how_the_command_ends(changes, code):
    assert exit_code(a_job(**changes)) == code


def shown(job: JobView) -> str:
    console = Console(file=io.StringIO(), width=200)
    for part in describe(job):
        console.print(part)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_held_job_shows_rule_measure_and_hint():
    output = OutputView(
        name="model",
        verdict="held",
        rule="rows-in-model",
        measure="426 of 569 rows",
        limit="0 rows",
        hint="train another",
    )
    text = shown(a_job(state="held", reason=Reason(what="output 'model' is held"), outputs=[output]))
    for part in ("held", "rows-in-model", "426 of 569 rows", "limit: 0 rows", "hint: train another"):
        assert part in text


def test_a_job_whose_site_is_away_says_that_it_goes_on():
    assert "away (it goes on there)" in shown(a_job(state="running", link="away", site="leeds"))
