"""Links that the MLflow client prints."""

import pytest

from insitu.intake.links import in_words
from insitu.intake.runs import Runs, own_run

OWN = "ab" * 16


@pytest.fixture
def runs():
    found = Runs(own_run(OWN, name="job", tags={}, start_ms=0), "7")
    found.start(parent=OWN, name="fold 1", user_id="insitu", start_ms=0)
    return found


def test_a_link_to_the_jobs_own_run_or_experiment_is_said_in_words(runs):
    assert (
        in_words(f"View run job at: http://127.0.0.1:5000/#/experiments/7/runs/{OWN}", runs)
        == "View run job at: this run"
    )
    assert (
        in_words("View experiment at: http://127.0.0.1:5000/#/experiments/7", runs)
        == "View experiment at: this experiment"
    )


def test_a_run_that_the_script_started_is_named_as_the_hub_knows_it(runs):
    child = next(run.run_id for run in runs if run.run_id != OWN)
    assert (
        in_words(f"View run fold 1 at: http://127.0.0.1:5000/#/experiments/7/runs/{child}", runs)
        == "View run fold 1 at: run r1"
    )


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/experiments/8",
        "http://127.0.0.1:5000/#/experiments/7/runs/" + "0" * 32,
        f"http://127.0.0.1:5000/#/experiments/7/runs/{OWN}?secret=1",
        f"http://127.0.0.1:5000/#/experiments/7/runs/{OWN}0",
        "http://10.0.0.1:5000/#/experiments/7",
        "no link",
    ],
)
def test_whatever_else_looks_like_one_stays_as_it_was_written_and_is_judged_as_such(runs, text):
    assert in_words(text, runs) == text
