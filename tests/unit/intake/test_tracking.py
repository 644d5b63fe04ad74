"""MLflow's calls about runs, answered for one job: what the script sees, and what may leave."""

import json

import pytest

from tests.unit.intake.intake_parts import NOW, OWN


def metric(key, value, *, step=0, timestamp=5, **more):
    return {"run_id": OWN, "key": key, "value": value, "timestamp": timestamp, "step": step, **more}


def test_any_experiment_that_a_script_asks_for_is_this_jobs_and_its_wish_becomes_a_tag(job):
    found = job.call("GET", "experiments/get-by-name?experiment_name=other%20one")["experiment"]
    assert (found["experiment_id"], found["name"]) == ("1", "breast-cancer")
    assert job.call("POST", "experiments/create", {"name": "other one"}) == {"experiment_id": "1"}
    assert job.call("GET", "experiments/get?experiment_id=0")["experiment"]["experiment_id"] == "1"
    assert [(tag.key, tag.value) for tag in job.of_kind("tag")] == [("insitu.wished_experiment", "other one")]


def test_asking_for_the_jobs_own_experiment_is_no_wish(job):
    job.call("GET", "experiments/get-by-name?experiment_name=breast-cancer")
    assert job.events() == []


def test_a_metric_is_rounded_by_the_rules_and_the_script_still_reads_its_own_value(job):
    job.call("POST", "runs/log-metric", metric("auc", 0.98765, step=3))
    (event,) = job.of_kind("metric")
    assert (event.run, event.key, event.value, event.step) == ("", "auc", 0.99, 3)
    seen = job.call("GET", f"runs/get?run_id={OWN}")["run"]["data"]["metrics"]
    assert seen == [{"key": "auc", "value": 0.98765, "timestamp": 5, "step": 3}]


def test_the_time_of_a_metric_that_leaves_is_ours_not_the_scripts(job):
    job.call("POST", "runs/log-metric", metric("auc", 1.0, timestamp=0x5EC4E7))
    (event,) = job.of_kind("metric")
    assert event.timestamp_ms == int(NOW.timestamp() * 1000)
    assert event.at == NOW


def test_what_the_rules_keep_is_no_error_and_only_the_steward_sees_it(job):
    job.call("POST", "runs/log-metric", metric("secret_row", 4.25))
    job.call("POST", "runs/log-parameter", {"run_id": OWN, "key": "p", "value": "secret"})
    job.call("POST", "runs/set-tag", {"run_id": OWN, "key": "t", "value": "secret"})
    assert job.events() == []
    kept = [json.loads(line) for line in (job.folder / "kept.jsonl").read_text().splitlines()]
    assert [(each["kind"], each["value"], each["rule"]) for each in kept] == [
        ("metric", "4.25", "not-declared"),
        ("param", "secret", "known-data"),
        ("tag", "secret", "known-data"),
    ]


def test_special_numbers_are_read_and_written_as_protocol_buffers_spell_them(job):
    for text in ("NaN", "Infinity", "-Infinity"):
        job.call("POST", "runs/log-metric", metric(f"secret_{text}", text))
    data = job.call("GET", f"runs/get?run_id={OWN}")["run"]["data"]["metrics"]
    assert [each["value"] for each in data] == ["NaN", "Infinity", "-Infinity"]


def test_log_model_sending_a_runs_history_again_makes_no_second_event(job):
    job.call("POST", "runs/log-metric", metric("auc", 0.5))
    job.call("POST", "runs/log-batch", {"run_id": OWN, "metrics": [metric("auc", 0.5, model_id="m-1")]})
    assert len(job.of_kind("metric")) == 1
    job.call("POST", "runs/log-metric", metric("auc", 0.5, step=1))
    assert len(job.of_kind("metric")) == 2


def test_a_batch_becomes_events_in_one_write(job):
    metrics = [metric(f"m{number}", float(number)) for number in range(100)]
    params = [{"key": "C", "value": "1"}]
    tags = [{"key": "purpose", "value": "screening"}, {"key": "mlflow.user", "value": "alice"}]
    job.call("POST", "runs/log-batch", {"run_id": OWN, "metrics": metrics, "params": params, "tags": tags})
    assert len(job.of_kind("metric")) == 100
    assert [event.key for event in job.of_kind("param") + job.of_kind("tag")] == ["C", "purpose"]
    assert job.grown == [102]


def test_a_batch_with_a_fault_leaves_nothing(job):
    body = {"run_id": OWN, "metrics": [metric("auc", 1.0), metric("bad", "much")]}
    assert job.call("POST", "runs/log-batch", body, status=400)["error_code"] == "INVALID_PARAMETER_VALUE"
    assert job.events() == []


def test_names_of_user_host_and_file_never_leave(job):
    job.call("POST", "runs/create", {"tags": [{"key": "mlflow.source.name", "value": "/home/alice/x.py"}]})
    assert "alice" not in (job.folder / "events.jsonl").read_text()


def test_a_parameter_that_changes_is_refused_as_mlflow_does_and_repeated_is_one_event(job):
    for _ in range(2):
        job.call("POST", "runs/log-parameter", {"run_id": OWN, "key": "C", "value": "1"})
    error = job.call("POST", "runs/log-parameter", {"run_id": OWN, "key": "C", "value": "2"}, status=400)
    assert "not allowed" in error["message"]
    assert len(job.of_kind("param")) == 1


def test_a_second_run_is_a_child_with_a_local_name(job):
    parent = job.call("POST", "runs/create", {"run_name": "outer"})["run"]["info"]["run_id"]
    tags = [{"key": "mlflow.parentRunId", "value": parent}]
    child = job.call("POST", "runs/create", {"run_name": "inner", "tags": tags})["run"]["info"]["run_id"]
    job.call("POST", "runs/log-metric", {**metric("auc", 0.5), "run_id": child})
    assert [(run.run, run.parent, run.name) for run in job.of_kind("run")] == [
        ("r1", "", "outer"),
        ("r2", "r1", "inner"),
    ]
    assert [event.run for event in job.of_kind("metric")] == ["r2"]
    assert job.call("GET", f"runs/get?run_id={child}")["run"]["info"]["run_name"] == "inner"


def test_a_run_whose_name_may_not_leave_is_announced_without_it(job):
    job.call("POST", "runs/create", {"run_name": "secret patient"})
    assert [run.name for run in job.of_kind("run")] == [""]


def test_a_run_beyond_those_that_are_announced_keeps_all_it_logs(job):
    runs = [job.call("POST", "runs/create", {})["run"]["info"]["run_id"] for _ in range(101)]
    job.call("POST", "runs/log-metric", {**metric("auc", 0.5), "run_id": runs[-1]})
    assert len(job.of_kind("run")) == 100
    assert job.of_kind("metric") == []


def test_a_script_ends_its_own_runs_but_never_the_jobs(job):
    child = job.call("POST", "runs/create", {"run_name": "kid"})["run"]["info"]["run_id"]
    before = len(job.events())
    for run_id in (child, OWN):
        info = job.call("POST", "runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": 9})["run_info"]
        assert info["status"] == "FINISHED"
    assert len(job.events()) == before


@pytest.fixture
def folds(job):
    for number, auc in enumerate([0.5, 0.75, 0.625]):
        run = job.call("POST", "runs/create", {"run_name": f"fold {number}"})["run"]["info"]["run_id"]
        job.call("POST", "runs/log-metric", {**metric("auc", auc), "run_id": run})
        job.call("POST", "runs/log-parameter", {"run_id": run, "key": "fold", "value": str(number)})
        job.call("POST", "runs/set-tag", {"run_id": run, "key": "a b", "value": f"x{number}y"})
    return job


def names(job, condition="", order=()):
    found = job.call("POST", "runs/search", {"filter": condition, "order_by": list(order)})
    return [run["info"]["run_name"] for run in found["runs"]]


def test_runs_are_listed_newest_first(folds):
    assert names(folds) == ["fold 2", "fold 1", "fold 0", "job"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("metrics.auc > 0.6", ["fold 2", "fold 1"]),
        ("metrics.`auc` >= 0.625 and params.fold != '1'", ["fold 2"]),
        ("tags.`a b` LIKE 'x%y' AND params.fold IN ('0', '2')", ["fold 2", "fold 0"]),
        ("tags.`a b` ILIKE 'X_Y' AND metrics.auc<0.6", ["fold 0"]),
        ("attributes.run_id IN ('none')", []),
        ("run_name = 'job'", ["job"]),
        ("params.absent = '1'", []),
    ],
)
def test_a_filter_selects_runs(folds, condition, expected):
    assert names(folds, condition) == expected


@pytest.mark.parametrize(
    "condition",
    ["metrics.auc", "metrics.auc > 0.5 OR 1", "metrics.auc > 'x'", "params.fold > '1'", "x.y.z = '1'", "a = 'b' AND "],
)
def test_a_filter_that_is_not_understood_is_refused_rather_than_ignored(folds, condition):
    assert folds.call("POST", "runs/search", {"filter": condition}, status=400)


def test_runs_are_ordered_and_those_without_the_value_come_last(folds):
    assert names(folds, order=["metrics.auc DESC"]) == ["fold 1", "fold 2", "fold 0", "job"]
    assert names(folds, order=["metrics.auc"]) == ["fold 0", "fold 2", "fold 1", "job"]
    assert folds.call("POST", "runs/search", {"order_by": ["rand()"]}, status=400)


def test_a_neighbours_run_is_unknown(job):
    for path, body in [("runs/log-metric", metric("a", 1.0)), ("runs/set-tag", {"key": "a", "value": "b"})]:
        error = job.call("POST", path, {**body, "run_id": "b" * 32}, status=404)
        assert error["error_code"] == "RESOURCE_DOES_NOT_EXIST"


def test_a_job_can_not_delete_its_run(job):
    assert job.call("POST", "runs/delete", {"run_id": OWN}, status=403)["error_code"] == "PERMISSION_DENIED"


def test_history_is_given_in_pages(job):
    for step in range(5):
        job.call("POST", "runs/log-metric", metric("loss", float(step), step=step))
    first = job.call("GET", f"metrics/get-history?run_id={OWN}&metric_key=loss&max_results=3")
    rest = job.call("GET", f"metrics/get-history?run_id={OWN}&metric_key=loss&page_token={first['next_page_token']}")
    assert [each["step"] for each in first["metrics"] + rest["metrics"]] == [0, 1, 2, 3, 4]


def test_a_call_that_is_not_about_this_run_says_what_is_served(job):
    error = job.call("POST", "/api/3.0/mlflow/traces", {}, status=404)
    assert error["error_code"] == "ENDPOINT_NOT_FOUND"
    assert "only calls about this job's own runs" in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"run_id": "%s", "key": "a", "value": true}' % OWN.encode(),
        b'{"run_id": "%s", "key": "a", "value": 1%s}' % (OWN.encode(), b"0" * 400),
        b'{"run_id": "%s", "key": 3, "value": 1}' % OWN.encode(),
        b'{"run_id": "%s", "key": "", "value": 1}' % OWN.encode(),
        b'{"run_id": "%s", "key": "%s", "value": 1}' % (OWN.encode(), b"k" * 251),
        b'{"run_id": "%s", "key": "a", "value": 1, "step": 1e300}' % OWN.encode(),
        b'{"run_id": "%s", "key": "a", "value": 1, "step": "%s"}' % (OWN.encode(), b"9" * 30),
    ],
)
def test_a_malformed_call_gets_mlflows_error_and_leaves_nothing(job, body):
    response = job.intake.api.handle("POST", "/api/2.0/mlflow/runs/log-metric", body)
    job.intake.api.settle()
    assert response.status == 400
    assert json.loads(response.body)["error_code"] == "INVALID_PARAMETER_VALUE"
    assert job.events() == []


def test_when_there_is_no_room_for_events_all_is_kept_and_nothing_is_an_error(a_job, tmp_path):
    job = a_job(limits={"events_total": 2})
    for step in range(5):
        job.call("POST", "runs/log-metric", metric("auc", 0.5, step=step))
    assert len(job.of_kind("metric")) == 2
    job.finish()
    assert [(kept.what, kept.count) for kept in job.of_kind("kept")] == [("metric", 1)]
    # The rules are not asked about what there is no room for: they would count it as sent.
    assert len(job.rules.asked) == 2


def test_details_of_what_was_kept_end_at_a_bound_and_counts_go_on(a_job, tmp_path):
    job = a_job(limits={"kept_bytes": 500})
    for step in range(1000):
        job.call("POST", "runs/log-metric", metric("secret", 0.5, step=step))
    assert (tmp_path / "kept.jsonl").stat().st_size <= 500
    _, summary = job.finish()
    assert summary["kept"] == {"metric": 1000}
