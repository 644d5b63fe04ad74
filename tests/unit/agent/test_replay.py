"""What a new policy would have said to the jobs that a site has had: judged again where the copy is kept."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from insitu.agent.console import ask
from insitu.domain.errors import InvalidInputError
from insitu.domain.jobs import JobState
from insitu.domain.outputs import Decision, Finding, Verdict
from insitu.testing.builders import a_policy_text
from insitu.wire.keys import SigningKey
from tests.unit.agent.past_world import ROWS, PastWorld, past_world

TABLE = {"accuracy": 0.9, "folds": [1, 2, 3]}
RELEASE = (
    "{metrics: {digits: 4, max_count: %d}, params: {max_bytes: 8kB}, logs: {mode: %s, max_bytes: 256kB}, files: %s}"
)
FILES = "{formats: [csv, json], max_bytes: 1MB, otherwise: held}"


@pytest.fixture
def world(tmp_path: Path) -> PastWorld:
    return past_world(tmp_path)


def under(world: PastWorld, *, last: int = 20, since: str = "", **changes: str) -> Any:
    text = a_policy_text(world.alice, reviewer=world.jo, **({"version": "8"} | changes))
    return ask(world.steward, "policy_test", {"text": text, "last": last, "since": since})


def release(*, count: int = 5000, logs: str = "scanned", files: str = FILES) -> str:
    return RELEASE % (count, logs, files)


def test_under_the_same_policy_nothing_would_have_been_otherwise(world: PastWorld) -> None:
    world.sent(TABLE, metrics=10, lines=5)
    world.sent({"rows": ROWS})
    found = under(world)
    assert (found["asked"], found["differ"], found["uncertain"]) == (2, 0, 0)
    clean, rows = found["jobs"]
    assert (clean["then"], clean["now"]) == ("runs", "runs")
    assert (clean["outputs"][0]["then"], clean["outputs"][0]["now"]) == ("released", "released")
    assert (rows["outputs"][0]["then"], rows["outputs"][0]["now"]) == ("held", "held")
    assert {one["how"] for job in found["jobs"] for one in job["outputs"]} == {"judged again"}


def test_each_output_is_judged_again_by_the_real_judge(world: PastWorld) -> None:
    world.sent(TABLE)
    found = under(world, release=release(files="{formats: [csv], max_bytes: 1MB, otherwise: refused}"))
    (output,) = found["jobs"][0]["outputs"]
    assert (output["then"], output["now"], output["now_rule"]) == ("released", "refused", "kind")
    assert found["differ"] == 1


def test_a_job_that_it_would_not_let_run_says_by_which_rule(world: PastWorld) -> None:
    world.sent(TABLE)
    nobody = "{wdbc: {who: [], purpose: screening, until: 2027-06-30, runs: 50}}"
    (job,) = under(world, datasets=nobody)["jobs"]
    assert (job["then"], job["now"], job["outputs"]) == ("runs", "refused", ())
    assert job["why"].startswith("datasets.wdbc.who: alice")


def test_of_a_signer_who_is_struck_off_every_job_is_refused(world: PastWorld) -> None:
    world.sent(TABLE)
    other = SigningKey.generate().fingerprint
    (job,) = under(world, signers=f'{{alice: "{other}"}}')["jobs"]
    assert (job["now"], job["why"].split(":")[0]) == ("refused", "signers")


def test_runs_are_counted_along_in_the_order_in_which_jobs_came(world: PastWorld) -> None:
    for _ in range(3):
        world.sent(TABLE)
    found = under(world, datasets="{wdbc: {who: [alice], purpose: screening, until: 2027-06-30, runs: 2}}")
    assert [job["now"] for job in found["jobs"]] == ["runs", "runs", "refused"]
    last = under(world, last=1, datasets="{wdbc: {who: [alice], purpose: screening, until: 2027-06-30, runs: 2}}")
    assert [job["now"] for job in last["jobs"]] == ["refused"]  # those before it ran, and count


def test_a_job_that_was_refused_and_would_run_is_told_too(world: PastWorld) -> None:
    attempt = world.attempt(dataset_digest=world.dataset_digest)
    del attempt.row.details["target"]
    world.store.save_state(attempt.row, JobState.REFUSED)
    (job,) = under(world)["jobs"]
    assert (job["then"], job["now"], job["differs"]) == ("refused", "runs", True)


def test_counts_and_closed_channels_are_read_from_the_ledger(world: PastWorld) -> None:
    world.sent(TABLE, metrics=12, lines=5)
    (job,) = under(world, release=release(count=10, logs="held"))["jobs"]
    assert job["stays"] == ("2 of 12 metric values (release.metrics.max_count)", "5 log lines (release.logs)")


def test_what_is_stricter_for_free_code_is_asked_of_jobs_that_no_run_envelope_covers(world: PastWorld) -> None:
    world.sent(TABLE, metrics=12)
    covered = world.sent(TABLE, metrics=12)
    world.store.save_state(covered.row, JobState.SUCCEEDED, run_envelope="sha256:" + "e" * 64)
    stricter = release().replace("files:", "free: {metric_count: 10}, files:")
    free, approved = under(world, release=stricter)["jobs"]
    assert free["stays"] == ("2 of 12 metric values (release.metrics.max_count)",)
    assert approved["stays"] == ()


def test_budgets_are_gone_through_entry_by_entry(world: PastWorld) -> None:
    world.sent(TABLE, metrics=10)
    world.sent(TABLE, metrics=10)
    budget = "{per_job: 5MB, per_dataset_per_month: 1100B, per_submitter_per_month: 50MB}"
    first, second = under(world, budget=budget)["jobs"]
    assert first["stays"] == ()
    assert second["stays"] == ("1 batches of events over budget.per_dataset_per_month (1.1 kB)",)


def test_what_a_refused_job_spent_is_not_spent(world: PastWorld) -> None:
    world.sent(TABLE, metrics=10, tags={"purpose": "screening"})
    world.sent(TABLE, metrics=10, resources={"memory": "1MB"})
    budget = "{per_job: 5MB, per_dataset_per_month: 1100B, per_submitter_per_month: 50MB}"
    sandbox = "{memory: 1MB, cpus: 2, gpus: 0, timeout: 6h, processes: 256}"
    first, second = under(world, budget=budget, sandbox=sandbox)["jobs"]
    assert (first["now"], second["now"], second["stays"]) == ("refused", "runs", ())


# -- where the site has kept too little --------------------------------------------------------------------------------


def gone(world: PastWorld, attempt: Any) -> None:
    shutil.rmtree(world.item(attempt).details["folder"])


def test_where_the_copy_is_gone_it_says_that_it_can_t_tell(world: PastWorld) -> None:
    gone(world, world.sent(TABLE))
    found = under(world)
    (output,) = found["jobs"][0]["outputs"]
    assert (output["now"], output["how"]) == ("can't tell", "the copy is gone")
    assert (found["differ"], found["uncertain"]) == (0, 1)


def test_a_copy_that_is_not_what_it_was_is_no_copy(world: PastWorld) -> None:
    attempt = world.sent(TABLE)
    (Path(world.item(attempt).details["folder"]) / "table.json").write_text("{}")
    assert under(world)["jobs"][0]["outputs"][0]["now"] == "can't tell"


def test_where_the_data_is_gone_nothing_is_judged_without_it(world: PastWorld) -> None:
    world.sent(TABLE)
    (world.folder.datasets / "wdbc" / "1" / "version.json").unlink()
    (job,) = under(world)["jobs"]
    assert job["now"] == "runs"  # it was here when the job came: that is no matter of the policy
    assert (job["outputs"][0]["now"], job["outputs"][0]["how"]) == ("can't tell", "dataset wdbc@1 is gone")


def test_the_record_alone_settles_what_is_too_large(world: PastWorld) -> None:
    gone(world, world.sent(TABLE))
    small = release(files="{formats: [csv, json], max_bytes: 3B, otherwise: held}")
    (output,) = under(world, release=small)["jobs"][0]["outputs"]
    assert (output["now"], output["now_rule"], output["how"]) == ("refused", "size", "from the record")


@pytest.mark.parametrize(("otherwise", "now"), [("held", "held"), ("refused", "refused")])
def test_what_only_the_original_showed_is_taken_over_from_the_record(
    world: PastWorld, otherwise: str, now: str
) -> None:
    attempt = world.sent(TABLE)
    pickle = Finding("pickles", "1 pickle", "none", "save it otherwise", "table.json")
    record = world.item(attempt).decision | {"verdict": "held", "rule": "pickles", "findings": [vars(pickle)]}
    with sqlite3.connect(world.folder.database) as db:
        db.execute("update items set decision = ? where job_id = ?", (json.dumps(record), attempt.row.job_id))
    found = under(world, release=release(files=f"{{formats: [csv, json], max_bytes: 1MB, otherwise: {otherwise}}}"))
    (output,) = found["jobs"][0]["outputs"]
    assert (output["then"], output["now"], output["now_rule"]) == ("held", now, "pickles")


def test_what_nobody_declared_stays_under_every_policy(world: PastWorld) -> None:
    attempt = world.attempt(dataset_digest=world.dataset_digest, outputs={"model": {"type": "mlflow_model"}})
    world.judged(attempt, Decision("model", Verdict.KEPT, "not-written"))
    (output,) = under(world)["jobs"][0]["outputs"]
    assert (output["then"], output["now"], output["how"]) == ("kept", "kept", "from the record")


# -- which jobs --------------------------------------------------------------------------------------------------------


def test_only_the_last_jobs_or_those_since_a_day_are_asked_about(world: PastWorld) -> None:
    for _ in range(3):
        world.attempt(dataset_digest=world.dataset_digest)
    assert [job["job"] for job in under(world, last=2)["jobs"]] == ["j-2", "j-3"]
    assert under(world, since="2027-01-01T00:00:00+00:00")["jobs"] == []
    assert len(under(world, since="2026-11-01T00:00:00+00:00")["jobs"]) == 3


def test_what_is_no_policy_is_an_error_and_nothing_is_asked(world: PastWorld) -> None:
    with pytest.raises(InvalidInputError):
        ask(world.steward, "policy_test", {"text": "version: x"})


def test_it_changes_nothing_at_the_site_and_leaves_nothing_behind(world: PastWorld) -> None:
    attempt = world.sent(TABLE, metrics=3)
    before = (world.ledger.head, world.item(attempt), world.store.runs_of("wdbc"))
    jobs = sorted(world.folder.jobs.iterdir())
    under(world, release=release(files="{formats: [], max_bytes: 1MB, otherwise: refused}"))
    assert (world.ledger.head, world.item(attempt), world.store.runs_of("wdbc")) == before
    assert sorted(world.folder.jobs.iterdir()) == jobs
    assert len(world.hub.releases) == 1
