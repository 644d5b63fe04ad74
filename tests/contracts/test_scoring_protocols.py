"""The serving process, beside scikit-learn itself and beside MLflow's own scoring server.

Each request goes to a real process on a model that MLflow saved as skops. The same body
goes to MLflow's application in this process: statuses agree, and so do whole answers.
"""

from __future__ import annotations

import http.client
import json
import math
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

TABLE: Any = load_breast_cancer(as_frame=True)
NAMES = list(TABLE.data.columns)


@dataclass(frozen=True)
class Serving:
    """A serving process that is ready."""

    process: subprocess.Popen[bytes]
    port: int
    errors: Path

    def ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str | None = "application/json"
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Content-Type": content_type} if body is not None and content_type else {}
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read(), reply.headers
        finally:
            connection.close()

    def invoke(self, body: object, content_type: str = "application/json") -> tuple[int, Any]:
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        status, reply, _ = self.ask("POST", "/invocations", raw, content_type)
        return status, json.loads(reply) if status != 415 else reply

    def infer(self, body: object, path: str = "/v2/models/screening/infer") -> tuple[int, Any]:
        status, reply, _ = self.ask("POST", path, json.dumps(body).encode())
        return status, json.loads(reply)

    def get(self, path: str) -> tuple[int, Any]:
        status, reply, _ = self.ask("GET", path)
        return status, json.loads(reply)


def start(model: Path, folder: Path, *more: str, name: str = "screening") -> Serving:
    """Start a process and wait until it says that it serves."""
    errors = folder / "serving.err"
    with errors.open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "insitu.serving",
                "--model",
                str(model),
                "--name",
                name,
                "--version",
                "3",
                "--port",
                "0",
                *more,
            ],
            stderr=log,
            cwd=folder,
        )
    deadline = time.monotonic() + 60
    while not (said := errors.read_text()).endswith("}\n"):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"the serving process did not start: {said}")
        time.sleep(0.02)
    return Serving(process, int(json.loads(said)["at"].rpartition(":")[2]), errors)


def save(model: Any, inputs: Any, outputs: Any, folder: Path, **more: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.models import infer_signature
        from mlflow.sklearn import save_model

        options = {"serialization_format": "skops", "pip_requirements": []} | more
        save_model(model, folder, signature=infer_signature(inputs, outputs), **options)
    return folder


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(TABLE.data, TABLE.target)


@pytest.fixture(scope="module")
def model_folder(pipeline, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "wdbc"
    return save(pipeline, TABLE.data, pipeline.predict(TABLE.data), folder)


@pytest.fixture(scope="module")
def serving(model_folder, tmp_path_factory) -> Iterator[Serving]:
    started = start(model_folder, tmp_path_factory.mktemp("run"))
    yield started
    started.process.terminate()
    assert started.process.wait(30) == 0


@pytest.fixture(scope="module")
def mlflows_server(model_folder) -> Any:
    """MLflow's scoring application on the same model, in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
        from fastapi.testclient import TestClient
        from mlflow.pyfunc import scoring_server

        return TestClient(scoring_server.init(mlflow.pyfunc.load_model(str(model_folder))))


def split(rows: pd.DataFrame) -> dict[str, Any]:
    return {"dataframe_split": {"columns": list(rows.columns), "data": rows.to_numpy().tolist()}}


SOME = TABLE.data.iloc[[0, 19, 37, 500]]
SHUFFLED = SOME[NAMES[::-1]]
JSON = "application/json"

ACCEPTED = {
    "one row": (split(SOME[:1]), JSON),
    "some rows": (split(SOME), JSON),
    "the whole table": (split(TABLE.data), JSON),
    "columns in another order": (split(SHUFFLED), JSON),
    "an extra column": (split(SOME.assign(ward="B")), JSON),
    "an index": ({"dataframe_split": split(SOME)["dataframe_split"] | {"index": [7, 8, 9, 10]}}, JSON),
    "records": ({"dataframe_records": SOME.to_dict(orient="records")}, JSON),
    "records in another order": ({"dataframe_records": SHUFFLED.to_dict(orient="records")}, JSON),
    "inputs by column": ({"inputs": SOME.to_dict(orient="list")}, JSON),
    "instances by row": ({"instances": SOME.to_dict(orient="records")}, JSON),
    "params that the model has no schema for": (split(SOME) | {"params": {"a": 1}}, JSON),
    "numbers as text": (split(SOME.astype(str)), JSON),
    "whole numbers": (split(SOME.round().astype(int)), JSON),
    "a charset": (split(SOME), "application/json; charset=utf-8"),
    "csv": (SOME.to_csv(index=False), "text/csv"),
    "csv in another order": (SHUFFLED.to_csv(index=False), "text/csv; charset=UTF-8"),
    "csv with an extra column": (SOME.assign(ward="B").to_csv(index=False), "text/csv"),
}
REFUSED = {
    "not JSON": ("{", JSON),
    "a list": ("[1]", JSON),
    "no known field": ({"rows": [[1]]}, JSON),
    "two fields": (split(SOME) | {"inputs": [[1]]}, JSON),
    "a missing column": (split(SOME[NAMES[1:]]), JSON),
    "a record without a column": ({"dataframe_records": SOME[NAMES[1:]].to_dict(orient="records")}, JSON),
    "rows without names": ({"dataframe_split": {"data": SOME.to_numpy().tolist()}}, JSON),
    "instances without names": ({"instances": SOME.to_numpy().tolist()}, JSON),
    "text in a column of numbers": (split(SOME.assign(**{NAMES[0]: "far"})), JSON),
    "a row that is too short": ({"dataframe_split": {"columns": NAMES, "data": [[1.0]]}}, JSON),
    "split that is a list": ({"dataframe_split": [1]}, JSON),
    "an unknown key of split": ({"dataframe_split": {"columns": [], "data": [], "names": []}}, JSON),
    "records that are a dictionary": ({"dataframe_records": {"a": 1}}, JSON),
    "columns of two lengths": ({"inputs": {name: [1.0] * (1 + (name == NAMES[0])) for name in NAMES}}, JSON),
    "a null, which logistic regression refuses": (split(SOME.assign(**{NAMES[0]: None})), JSON),
    "csv without a column": (SOME[NAMES[1:]].to_csv(index=False), "text/csv"),
    "another content type": ("a", "application/xml"),
    "another charset": (split(SOME), "application/json; charset=latin-1"),
    "a content type's unknown parameter": (split(SOME), "application/json; format=pandas"),
}


class TestInvocations:
    @pytest.mark.parametrize(("body", "content_type"), ACCEPTED.values(), ids=ACCEPTED)
    def test_answers_what_mlflows_scoring_server_answers(self, serving, mlflows_server, body, content_type):
        raw = body if isinstance(body, str) else json.dumps(body)
        theirs = mlflows_server.post("/invocations", content=raw, headers={"content-type": content_type})
        assert theirs.status_code == 200, theirs.text
        assert serving.invoke(body, content_type) == (200, theirs.json())

    @pytest.mark.parametrize(("body", "content_type"), REFUSED.values(), ids=REFUSED)
    def test_refuses_what_mlflows_scoring_server_refuses_and_as_it_does(
        self, serving, mlflows_server, body, content_type
    ):
        raw = body if isinstance(body, str) else json.dumps(body)
        theirs = mlflows_server.post("/invocations", content=raw, headers={"content-type": content_type})
        status, document = serving.invoke(body, content_type)
        assert status == theirs.status_code
        if status != 415:
            assert set(document) == {"error_code", "message"} <= set(theirs.json())
            assert document["error_code"] == "BAD_REQUEST"

    def test_gives_the_predictions_of_the_model_itself(self, serving, pipeline):
        _, document = serving.invoke(split(TABLE.data))
        assert document == {"predictions": pipeline.predict(TABLE.data).tolist()}

    def test_names_the_columns_that_are_missing_and_those_too_many(self, serving):
        _, document = serving.invoke(split(SOME.rename(columns={"mean area": "area"})))
        assert "['mean area']" in document["message"]
        assert "['area']" in document["message"]

    def test_an_error_repeats_no_values(self, serving):
        for column in (NAMES[0], NAMES[-1]):
            status, document = serving.invoke(split(SOME.assign(**{column: "p-4711"})))
            assert status == 400
            assert "p-4711" not in json.dumps(document)

    @pytest.mark.parametrize("path", ["/ping", "/health", "/version"])
    def test_tells_its_health_as_mlflow_does(self, serving, mlflows_server, path):
        theirs = mlflows_server.get(path)
        status, body, headers = serving.ask("GET", path)
        assert (status, body) == (theirs.status_code, theirs.content)
        assert headers["content-type"] == theirs.headers["content-type"]

    def test_a_wrong_method_is_told_the_right_one(self, serving):
        status, _, headers = serving.ask("GET", "/invocations")
        assert (status, headers["allow"]) == (405, "POST")


def matrix(rows: pd.DataFrame, *, nested: bool = False, datatype: str = "FP64") -> dict[str, Any]:
    values = rows.to_numpy()
    data = values.tolist() if nested else values.ravel().tolist()
    return {"name": "table", "shape": list(values.shape), "datatype": datatype, "data": data}


def columns(rows: pd.DataFrame, *, flat: bool = True, datatype: str = "FP64") -> list[dict[str, Any]]:
    shape = [len(rows)] if flat else [len(rows), 1]
    return [
        {"name": str(name), "shape": shape, "datatype": datatype, "data": rows[name].tolist()} for name in rows.columns
    ]


MALFORMED = {
    "no inputs": {"inputs": []},
    "inputs that are no list": {"inputs": {"name": "table"}},
    "a body that is a list": [],
    "an id that is a number": {"id": 7, "inputs": [matrix(SOME)]},
    "an unknown datatype": {"inputs": [matrix(SOME, datatype="FP128")]},
    "a shape that the data doesn't fill": {"inputs": [matrix(SOME) | {"shape": [4, 29]}]},
    "a negative shape": {"inputs": [matrix(SOME) | {"shape": [-1, 30]}]},
    "too few columns": {"inputs": [matrix(SOME[NAMES[1:]])]},
    "a tensor of three dimensions": {"inputs": [matrix(SOME) | {"shape": [4, 30, 1]}]},
    "text as a number": {"inputs": [matrix(SOME.astype(str))]},
    "fractions as integers": {"inputs": [matrix(SOME, datatype="INT64")]},
    "a value over its type": {"inputs": [matrix(SOME.round().astype(int), datatype="UINT8")]},
    "a ragged tensor": {"inputs": [matrix(SOME, nested=True) | {"data": [[1.0], [1.0, 2.0]]}]},
    "one column of thirty": {"inputs": columns(SOME)[:1]},
    "an unknown column": {"inputs": [*columns(SOME), matrix(SOME)]},
    "a column twice": {"inputs": [*columns(SOME), columns(SOME)[0]]},
    "an unknown output": {"inputs": [matrix(SOME)], "outputs": [{"name": "fit"}]},
    "no rows": {"inputs": [{"name": "table", "shape": [0, 30], "datatype": "FP64", "data": []}]},
    "a null, which logistic regression refuses": {"inputs": [matrix(SOME) | {"data": [None] * 120}]},
}


class TestOpenInference:
    @pytest.mark.parametrize(
        "inputs",
        [
            pytest.param([matrix(TABLE.data)], id="a flat matrix"),
            pytest.param([matrix(TABLE.data, nested=True)], id="a nested matrix"),
            pytest.param([matrix(TABLE.data, datatype="FP32")], id="single precision"),
            pytest.param(columns(TABLE.data), id="a vector for each column"),
            pytest.param(columns(TABLE.data, flat=False)[::-1], id="a column vector for each, in another order"),
        ],
    )
    def test_gives_the_predictions_of_the_model_itself(self, serving, pipeline, inputs):
        status, document = serving.infer({"id": "42", "inputs": inputs})
        assert status == 200
        expected = pipeline.predict(TABLE.data).tolist()
        output = {"name": "predict", "shape": [len(expected)], "datatype": "INT64", "data": expected}
        assert document == {"model_name": "screening", "model_version": "3", "id": "42", "outputs": [output]}

    def test_integers_are_taken_for_columns_of_numbers(self, serving, pipeline):
        rows = SOME.round().astype(int)
        _, document = serving.infer({"inputs": [matrix(rows, datatype="INT64")]})
        assert document["outputs"][0]["data"] == pipeline.predict(rows).tolist()

    def test_probabilities_are_given_to_those_who_ask(self, serving, pipeline):
        outputs = [{"name": "predict"}, {"name": "predict_proba"}]
        _, document = serving.infer({"inputs": [matrix(SOME)], "outputs": outputs})
        labels, chances = document["outputs"]
        assert labels["data"] == pipeline.predict(SOME).tolist()
        assert (chances["name"], chances["datatype"], chances["shape"]) == ("predict_proba", "FP64", [4, 2])
        expected = pipeline.predict_proba(SOME).ravel()
        assert chances["data"] == pytest.approx(expected.tolist(), rel=1e-12)

    @pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
    def test_refuses_with_an_error_text(self, serving, body):
        status, document = serving.infer(body)
        assert status == 400
        assert list(document) == ["error"]

    @pytest.mark.parametrize("path", ["/v2/models/other/infer", "/v2/models/screening/versions/2/infer"])
    def test_another_model_or_version_is_not_found(self, serving, path):
        status, document = serving.infer({"inputs": [matrix(SOME)]}, path)
        assert status == 404
        assert "screening version 3" in document["error"]

    def test_the_version_may_be_named(self, serving):
        assert serving.infer({"inputs": [matrix(SOME)]}, "/v2/models/screening/versions/3/infer")[0] == 200
        assert serving.get("/v2/models/screening/versions/3/ready") == (200, {"name": "screening", "ready": True})

    def test_describes_itself_and_the_model(self, serving):
        assert serving.get("/v2/health/live") == (200, {"live": True})
        assert serving.get("/v2/health/ready") == (200, {"ready": True, "live": True})
        assert serving.get("/v2/models/screening/ready") == (200, {"name": "screening", "ready": True})
        status, server = serving.get("/v2")
        assert (status, set(server)) == (200, {"name", "version", "extensions"})
        _, model = serving.get("/v2/models/screening")
        assert [tensor["name"] for tensor in model["inputs"]] == NAMES
        assert {(tensor["datatype"], tuple(tensor["shape"])) for tensor in model["inputs"]} == {("FP64", (-1, 1))}
        assert model["outputs"] == [{"name": "predict", "datatype": "INT64", "shape": [-1]}]
        assert (model["versions"], model["platform"]) == (["3"], "sklearn_skops")

    def test_what_its_metadata_names_can_be_sent(self, serving):
        _, model = serving.get("/v2/models/screening")
        inputs = [tensor | {"shape": [1, 1], "data": [1.0]} for tensor in model["inputs"]]
        assert serving.infer({"inputs": inputs})[0] == 200

    def test_the_binary_extension_is_refused_rather_than_misread(self, serving):
        connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=60)
        connection.request("POST", "/v2/models/screening/infer", b"{}", {"Inference-Header-Content-Length": "2"})
        reply = connection.getresponse()
        assert reply.status == 400
        assert "binary" in json.loads(reply.read())["error"]
        connection.close()


class TestManyAtOnce:
    def test_each_of_many_callers_gets_the_answer_to_its_own_rows(self, serving, pipeline):
        expected = pipeline.predict(TABLE.data).tolist()
        assert len(set(expected)) == 2

        def one(at: int) -> bool:
            return serving.invoke(split(TABLE.data[at : at + 1])) == (200, {"predictions": expected[at : at + 1]})

        with ThreadPoolExecutor(16) as callers:
            assert all(callers.map(one, range(200)))
        rows = re.search(r'insitu_serving_rows_per_call_bucket\{le="1.0"\} (\d+)', self.metrics(serving))
        calls = re.search(r"insitu_serving_rows_per_call_count (\d+)", self.metrics(serving))
        assert rows
        assert calls
        assert int(rows[1]) < int(calls[1]), "nothing was merged, so this test has shown nothing"

    def test_one_callers_bad_row_spoils_no_other_answer(self, serving, pipeline):
        good, bad = split(SOME[:1]), split(SOME[:1].assign(**{NAMES[3]: None}))
        expected = {"predictions": pipeline.predict(SOME[:1]).tolist()}

        def one(at: int) -> tuple[int, Any]:
            return serving.invoke(bad if at % 4 == 0 else good)

        with ThreadPoolExecutor(16) as callers:
            replies = list(callers.map(one, range(120)))
        assert {status for status, _ in replies[::4]} == {400}
        assert all(reply == (200, expected) for at, reply in enumerate(replies) if at % 4)

    @staticmethod
    def metrics(serving: Serving) -> str:
        return serving.ask("GET", "/metrics")[1].decode()


class TestMetrics:
    def test_count_by_route_and_code_and_no_path_makes_a_series(self, serving):
        serving.ask("GET", "/no/such/path-1")
        serving.ask("GET", "/no/such/path-2")
        status, body, headers = serving.ask("GET", "/metrics")
        text = body.decode()
        assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert 'insitu_serving_model_info{model="screening",version="3"} 1' in text
        assert re.search(r'^http_requests_total\{route="other",code="404"\} [0-9]+$', text, re.MULTILINE)
        assert "such" not in text
        line = re.compile(r'(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"\n]*",?)+\})? [0-9.e+-]+|\w+(\{.*\})? \+Inf)')
        assert all(line.fullmatch(row) for row in text.splitlines())


@pytest.fixture(scope="module")
def wards() -> tuple[pd.DataFrame, Any]:
    table = pd.DataFrame({"ward": ["A", "B", "C", "B"] * 20, "age": range(20, 100), "dose": np.linspace(0, 1, 80)})
    encode = ColumnTransformer([("ward", OneHotEncoder(), ["ward"])], remainder="passthrough")
    target = np.where((table["ward"] == "B") & (table["age"] > 40), "yes", "no")
    return table, make_pipeline(encode, LogisticRegression(max_iter=2000)).fit(table, target)


@pytest.fixture(scope="module")
def served(wards, tmp_path_factory) -> Iterator[Serving]:
    table, model = wards
    folder = save(model, table, model.predict(table), tmp_path_factory.mktemp("models") / "wards")
    started = start(folder, tmp_path_factory.mktemp("run"))
    yield started
    started.process.terminate()
    assert started.process.wait(30) == 0


class TestOtherModels:
    """Models whose tables can't be one array of numbers."""

    def test_text_and_numbers_go_in_by_name_and_text_comes_out(self, served, wards):
        table, model = wards
        expected = model.predict(table).tolist()
        assert set(expected) == {"yes", "no"}
        body = {"dataframe_split": {"columns": list(table.columns), "data": table.to_numpy().tolist()}}
        assert served.invoke(body) == (200, {"predictions": expected})
        assert served.invoke(table.to_csv(index=False), "text/csv") == (200, {"predictions": expected})
        tensors = [
            {"name": "age", "shape": [80], "datatype": "INT64", "data": table["age"].tolist()},
            {"name": "ward", "shape": [80], "datatype": "BYTES", "data": table["ward"].tolist()},
            {"name": "dose", "shape": [80, 1], "datatype": "FP64", "data": table["dose"].tolist()},
        ]
        status, document = served.infer({"inputs": tensors})
        assert status == 200
        assert document["outputs"] == [{"name": "predict", "shape": [80], "datatype": "BYTES", "data": expected}]

    @pytest.mark.parametrize("row", [["A", 20.5, 0.0], [3, 20, 0.0], ["A", None, 0.0], ["A", "old", 0.0]])
    def test_a_value_of_another_type_is_refused_and_its_column_named(self, served, row):
        status, document = served.invoke({"dataframe_split": {"columns": ["ward", "age", "dose"], "data": [row]}})
        assert status == 400
        assert re.search(r"column (ward|age) ", document["message"])

    def test_a_matrix_signature_takes_rows_without_names(self, tmp_path):
        values = TABLE.data.to_numpy()
        model = LogisticRegression(max_iter=5000).fit(values, TABLE.target)
        served = start(save(model, values, model.predict(values), tmp_path / "m"), tmp_path)
        try:
            expected = {"predictions": model.predict(values[:9]).tolist()}
            assert served.invoke({"inputs": values[:9].tolist()}) == (200, expected)
            assert served.invoke({"instances": values[:9].tolist()}) == (200, expected)
            assert served.invoke({"inputs": values[:9, :-1].tolist()})[0] == 400
            _, document = served.infer({"inputs": [matrix(TABLE.data[:9])]})
            assert document["outputs"][0]["data"] == expected["predictions"]
        finally:
            served.process.terminate()
            assert served.process.wait(30) == 0


def refusal(model: Path, *more: str) -> dict[str, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "insitu.serving", "--model", str(model), "--name", "x", "--port", "0", *more],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.decode().splitlines()
    return json.loads(line)["error"]


class TestStarting:
    def test_a_pickle_is_refused_and_what_it_holds_does_not_run(self, tmp_path):
        folder = save(Trap(tmp_path / "ran"), SOME, [0] * 4, tmp_path / "m", serialization_format="cloudpickle")
        assert refusal(folder)["code"] == "pickle-refused"
        assert not (tmp_path / "ran").exists()

    def test_a_pickle_that_calls_itself_skops_is_refused_too(self, tmp_path):
        folder = save(Trap(tmp_path / "ran"), SOME, [0] * 4, tmp_path / "m", serialization_format="cloudpickle")
        (folder / "model.pkl").rename(folder / "model.skops")
        text = (folder / "MLmodel").read_text()
        (folder / "MLmodel").write_text(text.replace("model.pkl", "model.skops").replace("cloudpickle", "skops"))
        assert refusal(folder)["code"] == "bad-model"
        assert not (tmp_path / "ran").exists()

    def test_types_are_trusted_by_the_caller_and_never_by_the_model(self, tmp_path):
        from sklearn.neighbors import KNeighborsClassifier

        values = TABLE.data.to_numpy()[:, :4]
        model = KNeighborsClassifier(algorithm="kd_tree").fit(values, TABLE.target)
        kind = "sklearn.neighbors._kd_tree.KDTree"
        more = ["sklearn.metrics._dist_metrics.EuclideanDistance64", "sklearn.neighbors._kd_tree.newObj"]
        folder = save(model, values, model.predict(values), tmp_path / "m", skops_trusted_types=[kind, *more])
        assert kind in (folder / "MLmodel").read_text()
        error = refusal(folder)
        assert error["code"] == "untrusted-types"
        needed = error["why"].split(", ")
        assert kind in needed
        served = start(folder, tmp_path, *(word for name in needed for word in ("--trusted-type", name)))
        try:
            assert served.invoke({"inputs": values[:5].tolist()})[1] == {
                "predictions": model.predict(values[:5]).tolist()
            }
        finally:
            served.process.terminate()
            assert served.process.wait(30) == 0

    def test_a_port_in_use_is_said_before_the_model_is_loaded(self, model_folder):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            error = refusal(model_folder, "--port", str(taken.getsockname()[1]))
        assert error["code"] == "address-in-use"
        assert error["hint"]

    def test_a_folder_without_a_model_is_refused(self, tmp_path):
        assert refusal(tmp_path)["code"] == "no-model"


class TestStopping:
    def test_sigterm_answers_what_was_asked_and_removes_the_socket(self, model_folder, tmp_path):
        served = start(model_folder, tmp_path)
        body = json.dumps(split(TABLE.data)).encode()
        replies: list[int] = []
        asked = threading.Event()

        def ask_slowly() -> None:
            with socket.create_connection(("127.0.0.1", served.port)) as caller:
                head = "POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                caller.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:1000])
                asked.set()
                served.process.send_signal(signal.SIGTERM)
                caller.sendall(body[1000:])
                reply = http.client.HTTPResponse(caller)
                reply.begin()
                replies.append(len(json.loads(reply.read())["predictions"]))

        caller = threading.Thread(target=ask_slowly)
        caller.start()
        assert served.process.wait(30) == 0
        caller.join(30)
        assert replies == [len(TABLE.data)]

    def test_neither_bodies_nor_predictions_are_logged_or_written(self, model_folder, tmp_path):
        served = start(model_folder, tmp_path)
        try:
            served.invoke(split(SOME.assign(**{NAMES[0]: 4711.4711})))
            served.invoke(split(SOME.assign(**{NAMES[0]: "p-4711"})))
            served.invoke("4711", "text/xml")
        finally:
            served.process.terminate()
            assert served.process.wait(30) == 0
        assert "4711" not in served.errors.read_text()
        assert [path.name for path in tmp_path.iterdir()] == ["serving.err"]


class Trap:
    """Would leave a mark if it were ever unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)

    def predict(self, rows: Any) -> Any:
        return [math.nan] * len(rows)
