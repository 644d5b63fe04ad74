"""A model that would run something where it is judged, built into an image, or served."""

import json
import pickle
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from insitu.domain.outputs import OutputType, Verdict
from insitu.gate.checks import types
from tests.unit.gate.gate_world import judge_one, mlmodel, model_folder, pickled_folder, skops_bytes, training


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.fixture(scope="module")
def honest() -> bytes:
    features, labels = training()
    return skops_bytes(LogisticRegression().fit(StandardScaler().fit_transform(features), labels))


def test_a_pickle_is_judged_without_running(tmp_path):
    marker = tmp_path / "ran"
    decision = judge_one(pickled_folder(tmp_path / "m", Payload(marker)), None, tmp_path / "out")
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "pickles")
    assert not marker.exists()
    pickle.loads(pickle.dumps(Payload(marker))).close()  # the defence taken away: loading it runs it
    assert marker.exists()


def test_a_pickle_that_claims_to_be_skops_is_judged_without_running(tmp_path):
    marker = tmp_path / "ran"
    folder = model_folder(tmp_path / "m", pickle.dumps(Payload(marker)))
    decision = judge_one(folder, None, tmp_path / "out")
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "pickles")
    assert not marker.exists()


def skops_schema(data: bytes, change) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            part = source.read(name)
            if name == "schema.json":
                schema = json.loads(part)
                change(schema)
                part = json.dumps(schema).encode()
            target.writestr(name, part)
    return out.getvalue()


def call_system(schema) -> None:
    schema["content"]["content"]["C"] = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}


def build_a_class(schema) -> None:
    schema["content"]["content"]["C"] = {"__class__": "Popen", "__module__": "subprocess", "__loader__": "ObjectNode"}


def hide_a_type(schema) -> None:
    schema["content"]["content"]["C"] = {"__class__": "system", "__module__": "posix", "__loader__": "TypeNode"}


@pytest.mark.parametrize("change", [call_system, build_a_class, hide_a_type])
def test_a_skops_file_that_would_build_something_else_is_held(tmp_path, honest, monkeypatch, change):
    data = skops_schema(honest, change)
    decision = judge_one(model_folder(tmp_path / "m", data), None, tmp_path / "out")
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "types")
    monkeypatch.setattr(types, "check", lambda *_: None)
    monkeypatch.setitem(__import__("insitu.gate.checks", fromlist=["CHECKS"]).CHECKS, "types", lambda *_: None)
    without = judge_one(model_folder(tmp_path / "n", data), None, tmp_path / "out")
    assert (without.verdict is Verdict.RELEASED) == (change is not call_system)


def test_a_loader_of_its_own_and_code_paths_never_pass(tmp_path, honest):
    for number, change in enumerate(({"loader_module": "evil"}, {"code": "code"})):
        document = mlmodel()
        document["flavors"]["python_function"].update(change)
        folder = model_folder(tmp_path / f"m{number}", honest, document=document)
        (folder / "code").mkdir()
        (folder / "code" / "evil.py").write_text("raise SystemExit")
        decision = judge_one(folder, None, tmp_path / "out")
        assert (decision.verdict, decision.rule) == (Verdict.HELD, "model-code")


def test_an_index_address_and_an_install_script_do_not_survive(tmp_path, honest):
    folder = model_folder(
        tmp_path / "m", honest, setup__py=b"raise SystemExit", conda__yaml=b"dependencies: [{pip: [evil]}]"
    )
    assert b"--index-url" in (folder / "requirements.txt").read_bytes()
    assert judge_one(folder, None, tmp_path / "out").verdict is Verdict.RELEASED
    sent = {path.name: path.read_bytes() for path in (tmp_path / "out" / "model").iterdir()}
    assert "setup.py" not in sent
    assert b"evil" not in b"".join(sent.values())
    assert b"index-url" not in b"".join(sent.values())


def test_yaml_that_would_build_objects_is_not_built(tmp_path, honest):
    folder = model_folder(tmp_path / "m", honest)
    (folder / "MLmodel").write_text("flavors: !!python/object/apply:os.system ['true']\n")
    assert judge_one(folder, None, tmp_path / "out").verdict is Verdict.HELD
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load((folder / "MLmodel").read_text())


def test_a_path_out_of_the_folder_is_not_read(tmp_path, honest):
    (tmp_path / "secret.skops").write_bytes(honest)
    document = mlmodel()
    folder = model_folder(tmp_path / "m", honest)
    document["flavors"]["sklearn"]["pickled_model"] = "../secret.skops"
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    decision = judge_one(folder, None, tmp_path / "out")
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "kind")


def test_an_output_of_another_type_than_declared_stays(tmp_path, honest):
    folder = model_folder(tmp_path / "m", honest)
    assert judge_one(folder, None, tmp_path / "out", type=OutputType.URI_FOLDER).verdict is Verdict.HELD
