"""Logged models and intents to register, and which artifacts become declared outputs."""

import pytest

from tests.unit.intake.intake_parts import OWN


def register(job, name, model, *, status=200):
    body = {"name": name, "source": f"models:/{model}", "model_id": model}
    return job.call("POST", "model-versions/create", body, status=status)


def test_a_logged_model_is_found_by_id_and_by_name(job):
    model = job.log_model("model")
    info = job.call("GET", f"logged-models/{model}")["model"]["info"]
    assert (info["name"], info["status"], info["source_run_id"]) == ("model", "LOGGED_MODEL_READY", OWN)
    assert info["artifact_uri"] == f"mlflow-artifacts:/1/models/{model}/artifacts"
    found = job.call("POST", "logged-models/search", {"experiment_ids": ["1"], "filter": "name = 'model'"})["models"]
    assert [each["info"]["model_id"] for each in found] == [model]
    assert job.call("POST", "logged-models/search", {"experiment_ids": ["1"], "filter": "name = 'no'"}) == {}


def test_parameters_and_tags_of_a_model_stay(job):
    model = job.log_model("model")
    job.call("POST", f"logged-models/{model}/params", {"params": [{"key": "C", "value": "1"}]})
    job.call("PATCH", f"logged-models/{model}/tags", {"tags": [{"key": "t", "value": "v"}]})
    job.call("DELETE", f"logged-models/{model}/tags/t")
    assert job.call("GET", f"logged-models/{model}")["model"]["data"]["params"] == [{"key": "C", "value": "1"}]
    assert job.events() == []


def test_registering_under_the_contracts_name_is_answered_as_the_client_expects(job):
    model = job.log_model("classifier")
    assert job.call("POST", "registered-models/create", {"name": "wdbc"})["registered_model"]["name"] == "wdbc"
    version = register(job, "wdbc", model)["model_version"]
    assert (version["version"], version["status"], version["run_id"]) == ("0", "READY", OWN)
    assert job.call("GET", "model-versions/get-download-uri?name=wdbc&version=0")["artifact_uri"] == f"models:/{model}"


@pytest.mark.parametrize("path", ["registered-models/create", "model-versions/create"])
def test_another_name_is_refused_and_named_once_in_the_jobs_log(job, path):
    body = {"name": "other", "source": "runs:/x"}
    for _ in range(3):
        error = job.call("POST", path, body, status=403)
        assert error["error_code"] == "PERMISSION_DENIED"
        assert "outputs.<name>.register" in error["message"]
    (line,) = job.of_kind("log")
    assert line.stream == "site"
    assert "'other'" in line.text
    assert job.finish()[1]["refused_names"] == ["other"]


def test_a_refused_name_that_may_not_leave_is_not_in_the_line(job):
    job.call("POST", "registered-models/create", {"name": "secret"}, status=403)
    assert "secret" not in (job.folder / "events.jsonl").read_text()
    assert len(job.of_kind("log")) == 1


def test_lines_of_ours_that_a_script_provokes_are_few(job):
    for number in range(200):
        job.call("POST", "registered-models/create", {"name": f"n{number}"}, status=403)
    assert len(job.of_kind("log")) == 20


def test_a_neighbours_model_can_not_be_read_or_registered(job):
    stranger = "m-" + "0" * 32
    job.call("GET", f"logged-models/{stranger}", status=404)
    register(job, "wdbc", stranger, status=404)


def test_aliases_and_deletion_are_refused(job):
    model = job.log_model("model")
    job.call("POST", "registered-models/alias", {"name": "wdbc", "alias": "champion", "version": "0"}, status=403)
    job.call("DELETE", f"logged-models/{model}", status=403)


def test_an_output_is_the_model_that_was_registered_for_it_whatever_it_is_called(job):
    job.log_model("model")
    chosen = job.log_model("classifier")
    register(job, "wdbc", chosen)
    job.log_model("model")
    document, summary = job.finish()
    entry = document["outputs"]["model"]
    assert entry == {"path": f"artifacts/models/{chosen}", "by": "registered", "model_id": chosen}
    assert len(document["also"]["model"]) == 2
    assert summary["registered"] == {"wdbc": chosen}


def test_of_two_models_with_an_outputs_name_the_last_one_counts(job):
    job.log_model("model")
    last = job.log_model("model")
    assert job.finish()[0]["outputs"]["model"]["model_id"] == last


def test_a_model_whose_upload_failed_is_no_output(job):
    job.log_model("model", status="LOGGED_MODEL_UPLOAD_FAILED")
    assert job.finish()[0]["outputs"] == {}


def test_files_and_folders_become_outputs_by_their_path(job):
    job.put("table.csv", b"a,b\n")
    job.put("report/page.json", b"{}")
    job.put("report/deep/page.json", b"{}")
    job.put("estimator.html", b"<html>")
    document, _ = job.finish()
    assert {name: (entry["path"], entry["by"]) for name, entry in document["outputs"].items()} == {
        "table": (f"artifacts/runs/{OWN}/table.csv", "path"),
        "report": (f"artifacts/runs/{OWN}/report", "path"),
    }
    assert [each["path"] for each in document["undeclared"]] == [f"artifacts/runs/{OWN}/estimator.html"]


def test_undeclared_files_are_counted_by_a_class_that_their_names_do_not_choose(job):
    for name in ("a.html", "b.html", "row.17-secret", "plain"):
        job.put(name, b"x")
    job.finish()
    assert [(kept.what, kept.count) for kept in job.of_kind("kept")] == [("artifact", 1)]


def test_of_counts_only_a_power_of_ten_leaves(job):
    for step in range(1234):
        body = {"run_id": OWN, "key": "secret", "value": 1, "timestamp": 1, "step": step}
        job.call("POST", "runs/log-metric", body)
    job.finish()
    assert [(kept.what, kept.count) for kept in job.of_kind("kept")] == [("metric", 1000)]
