"""An ordinary script with the real MLflow client, through a forwarder and the job's socket, as in a sandbox."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest

from insitu.gate.channels.evidence import LiveEvidence
from insitu.gate.channels.installed_code import texts_of_files
from insitu.gate.channels.installed_texts import INSTALLED_TEXTS, InstalledTextsFile, write_texts
from insitu.gate.channels.line_code import LineCode
from insitu.gate.channels.logs import LogBudget, LogGate
from insitu.gate.policy.loading import load_policy
from insitu.wire.events import LOCAL_RUN
from tests.unit.intake.served_job import POLICY, RUN, WAIT_S, ServedJob, a_pool, a_request, run_script

SCRIPT = """
import json, os, pathlib, sys, tempfile
import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

seen = {}

def error_of(call):
    try:
        call()
    except MlflowException as error:
        return error.error_code, str(error)
    return None

table, labels = load_breast_cancer(return_X_y=True, as_frame=True)
client = MlflowClient()
mlflow.set_experiment("an experiment of my own")
mlflow.sklearn.autolog(log_datasets=True)

with mlflow.start_run() as run:
    seen["run_id"] = run.info.run_id
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(table, labels)
    mlflow.log_metric("auc", 0.98765432, step=3)
    mlflow.log_metrics({"loss": 0.5, "undeclared": 1.0}, step=1)
    mlflow.log_metric("auc", float("nan"), step=4)
    mlflow.log_params({"depth": 3})
    mlflow.set_tags({"purpose": "screening"})
    mlflow.set_tag("gone", "1")
    mlflow.delete_tag("gone")
    mlflow.log_dict({"a": 1}, "notes/a b.json")
    mlflow.log_text("text", "notes/text.txt")
    mlflow.log_table({"a": [1]}, "table.json")
    mlflow.log_table({"a": [2]}, "table.json")
    mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="picture", step=1)
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "deep").mkdir()
    (folder / "deep" / "large.bin").write_bytes(b"x" * 3_000_000)
    (folder / "empty").write_bytes(b"")
    mlflow.log_artifacts(str(folder), "folder")

    info = mlflow.sklearn.log_model(
        pipeline, name="model", serialization_format="skops", registered_model_name="wdbc", input_example=table[:2],
    )
    seen["model_id"] = info.model_id
    seen["registered_version"] = info.registered_model_version
    seen["other_name"] = error_of(lambda: mlflow.register_model(info.model_uri, "other"))
    seen["alias"] = error_of(lambda: client.set_registered_model_alias("wdbc", "champion", "0"))

    with mlflow.start_run(nested=True, run_name="fold 1") as child:
        mlflow.log_metric("auc", 0.75)
        mlflow.log_param("fold", 1)
    seen["child"] = child.info.run_id

    back = client.get_run(run.info.run_id)
    seen["auc"] = [point.value for point in client.get_metric_history(run.info.run_id, "auc")]
    seen["params"] = dict(back.data.params)
    seen["tags"] = {key: value for key, value in back.data.tags.items() if not key.startswith("mlflow.")}
    seen["model_outputs"] = [out.model_id for out in back.outputs.model_outputs]
    seen["artifacts"] = sorted(item.path for item in client.list_artifacts(run.info.run_id))
    seen["deep"] = [(item.path, item.file_size) for item in client.list_artifacts(run.info.run_id, "folder/deep")]
    with open(client.download_artifacts(run.info.run_id, "notes/a b.json", str(folder))) as file:
        seen["downloaded"] = json.load(file)
    seen["table"] = mlflow.load_table("table.json", run_ids=[run.info.run_id])["a"].tolist()
    loaded = mlflow.sklearn.load_model(info.model_uri)
    seen["same_predictions"] = bool((loaded.predict(table) == pipeline.predict(table)).all())
    seen["runs"] = len(mlflow.search_runs(output_format="list"))
    seen["neighbour"] = error_of(lambda: client.get_run("0" * 32))
    seen["unserved"] = error_of(lambda: client.search_experiments() and client.delete_experiment("1"))

with mlflow.start_run() as second:
    seen["second"] = second.info.run_id
    mlflow.log_metric("auc", 0.25)

pathlib.Path(sys.argv[0]).with_name("seen.json").write_text(json.dumps(seen))
print("all done")
"""


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """One run of the script; what it saw, and what its intake wrote."""
    folder, home = tmp_path_factory.mktemp("intake"), tmp_path_factory.mktemp("script")
    (home / "train.py").write_text(SCRIPT)
    packages = Path(mlflow.__file__).parents[1]
    files = [
        file
        for name in ("mlflow", "sklearn", "tqdm")
        for file in sorted((packages / name).rglob("*.py"))
        if "tests" not in file.parts
    ]
    write_texts(texts_of_files(packages, files), folder / INSTALLED_TEXTS)
    pool = a_pool()
    handle = pool.start(a_request(folder))
    try:
        job = ServedJob(folder, handle)
        status = run_script(job, home / "train.py")
        handle.finish(timeout_s=WAIT_S)
        assert status == 0, (folder / "logs" / "stderr.log").read_text()[-3000:]
        yield json.loads((home / "seen.json").read_text()), job
    finally:
        handle.kill()
        pool.close()


def test_start_run_takes_up_the_jobs_own_run_and_a_second_one_is_its_child(story):
    seen, job = story
    assert seen["run_id"] == RUN
    assert len({seen["run_id"], seen["child"], seen["second"]}) == 3
    named = job.document("summary.json")["runs"]
    assert named == {LOCAL_RUN: RUN, "r1": seen["child"], "r2": seen["second"]}
    assert [(run.run, run.parent) for run in job.of_kind("run")] == [("r1", LOCAL_RUN), ("r2", LOCAL_RUN)]


def test_the_script_reads_back_what_it_logged(story):
    seen, _ = story
    assert seen["auc"][0] == 0.98765432
    assert len(seen["auc"]) == 2
    assert seen["params"]["depth"] == "3"
    assert seen["tags"] == {"purpose": "screening", "estimator_name": "Pipeline"} | {
        key: value for key, value in seen["tags"].items() if key in {"estimator_class", "insitu.wished_experiment"}
    }
    assert seen["downloaded"] == {"a": 1}
    assert seen["table"] == [1, 2]
    assert seen["deep"] == [["folder/deep/large.bin", 3_000_000]]
    assert {"estimator.html", "folder", "notes", "table.json", "images"} <= set(seen["artifacts"])
    assert seen["runs"] == 2


def test_only_declared_metrics_leave_rounded_and_each_once(story):
    _, job = story
    sent = [(event.run, event.key, event.step, event.value) for event in job.of_kind("metric")]
    assert len(sent) == len(set(sent))
    assert {key for _, key, _, _ in sent if not key.startswith("training_")} == {"auc", "loss"}
    assert {key for _, key, _, _ in sent if key.startswith("training_")} >= {
        "training_accuracy_score",
        "training_log_loss",
    }
    assert ("", "auc", 3, 0.9877) in sent
    assert ("r1", "auc", 0, 0.75) in sent
    assert ("r2", "auc", 0, 0.25) in sent
    assert all(value == float(f"{value:.4g}") for _, _, _, value in sent)


def test_a_logged_model_loads_again_and_is_the_declared_output(story):
    seen, job = story
    assert seen["same_predictions"]
    assert seen["model_id"] in seen["model_outputs"]
    entry = job.document("artifacts.json")["outputs"]["model"]
    assert (entry["model_id"], entry["by"]) == (seen["model_id"], "registered")
    assert {"MLmodel", "model.skops"} <= {path.name for path in (job.folder / entry["path"]).iterdir()}


def test_to_register_is_an_intent_under_the_contracts_name_alone(story):
    seen, job = story
    assert int(seen["registered_version"]) == 0
    assert job.document("summary.json")["registered"] == {"wdbc": seen["model_id"]}
    code, text = seen["other_name"]
    assert code == "PERMISSION_DENIED"
    assert "outputs.<name>.register" in text
    assert seen["alias"][0] == "PERMISSION_DENIED"
    assert job.document("summary.json")["refused_names"] == ["other"]


def test_what_nobody_declared_is_kept_and_counted_and_no_name_of_a_file_leaves(story):
    _, job = story
    kept = {event.what: event.count for event in job.of_kind("kept")}
    assert kept["artifact"] == 10, "a power of ten, and no names of files"
    assert kept["metric"] >= 1
    assert kept["dataset description"] >= 1
    sent = (job.folder / "events.jsonl").read_text()
    assert "estimator.html" not in sent
    assert "large.bin" not in sent


def test_a_call_that_is_not_served_is_an_error_that_says_what_is(story):
    seen, _ = story
    assert seen["neighbour"][0] == "RESOURCE_DOES_NOT_EXIST"
    assert seen["unserved"][0] == "ENDPOINT_NOT_FOUND"
    assert "only calls about this job's own runs" in seen["unserved"][1]


def test_lines_that_the_script_printed_are_events(story):
    _, job = story
    assert "all done" in [event.text for event in job.of_kind("log") if event.stream == "stdout"]


def test_what_libraries_print_uses_up_little_of_the_account_of_lines(story):
    """As often as the bars of a slow machine would have it, and with the script's own words to come."""
    _, job = story
    rules = load_policy(POLICY).release
    texts = InstalledTextsFile(job.folder / INSTALLED_TEXTS)
    account = LineCode(rules.logs.ceiling_bytes, installed=lambda: texts.found)
    log = LogGate(rules, LiveEvidence([]), LogBudget(1 << 20), stream="stderr", telling=account)
    now = datetime.now(UTC)
    written = (job.folder / "logs" / "stderr.log").read_text().replace("\r", "\n")
    lines = re.sub(r"\d{4}/\d\d/\d\d [\d:]{8}", f"{now:%Y/%m/%d %H:%M:%S}", written).splitlines()
    bars = [line for line in lines if "%|" in line]
    assert bars
    slow = [re.sub(r"[0-9.]+it/s", f"{at + 1}.{at:02d}s/it", bar) for at in range(3) for bar in bars]
    outcomes = log.lines([*lines, *slow], now)
    assert {one.held_by for one in outcomes} <= {None, "bar-on-its-way"}
    assert account.told_bytes < 0.4 * rules.logs.ceiling_bytes


# The flavour needs torch, which is too large to be installed for a test. These are the calls that
# mlflow.pytorch.log_model makes (mlflow 3.17, `Model.log`): the flavour differs in its files alone.
PYTORCH_FILES = {
    "MLmodel": b"flavors:\n  pytorch:\n    model_data: data\n",
    "data/model.pth": b"PK\x03\x04 weights",
    "data/pickle_module_info.txt": b"mlflow.pytorch.pickle_module",
    "requirements.txt": b"torch==2.13.0\n",
    "conda.yaml": b"name: mlflow-env\n",
    "python_env.yaml": b"python: 3.11\n",
}


def test_the_calls_of_the_pytorch_flavour_are_served(tmp_path):
    pool = a_pool()
    job = ServedJob(tmp_path, pool.start(a_request(tmp_path)))
    try:
        created = {"experiment_id": "1", "name": "model", "source_run_id": RUN, "params": [], "tags": []}
        status, body = job.post("logged-models", created)
        assert status == 200
        model_id = body["model"]["info"]["model_id"]
        assert job.post("runs/outputs", {"run_id": RUN, "models": [{"model_id": model_id, "step": 0}]})[0] == 200
        connection = job.http()
        for name, data in PYTORCH_FILES.items():
            path = f"/api/2.0/mlflow-artifacts/artifacts/1/models/{model_id}/artifacts/{name}"
            connection.request("PUT", path, data, headers={"Content-Type": "application/octet-stream"})
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"{}")
        connection.request(
            "PATCH",
            f"/api/2.0/mlflow/logged-models/{model_id}",
            json.dumps({"model_id": model_id, "status": "LOGGED_MODEL_READY"}),
        )
        assert json.loads(connection.getresponse().read())["model"]["info"]["status"] == "LOGGED_MODEL_READY"
        connection.close()
        epochs = [
            {"key": "training_loss", "value": 1 / (step + 1), "timestamp": step, "step": step} for step in range(300)
        ]
        assert job.post("runs/log-batch", {"run_id": RUN, "metrics": epochs})[0] == 200
        job.handle.finish(timeout_s=WAIT_S)
        assert job.document("artifacts.json")["outputs"]["model"]["model_id"] == model_id
        assert len(job.of_kind("metric")) == 300
    finally:
        job.handle.kill()
        pool.close()
