"""The judge as a process: one request in, one reply out, and no way out by crashing."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from insitu.domain.errors import InvalidInputError
from insitu.domain.outputs import OutputContract, OutputType, ReleaseContract, Verdict
from insitu.gate import examine as examine_module
from insitu.gate import judge as judge_module
from insitu.gate.decide import manifest_digest
from insitu.gate.effort import Effort, OutOfEffortError
from insitu.gate.files import read_written
from insitu.gate.judgement import (
    Candidate,
    JudgeLimits,
    JudgeReply,
    JudgeRequest,
    judge_reply_json,
    judge_request_json,
    parse_judge_reply,
    parse_judge_request,
    read_judge_reply,
)
from insitu.gate.policy.loading import DEFAULT_POLICY_TEXT
from tests.unit.gate.gate_world import PACKAGES, judge_one, model_folder, pickled_folder, skops_bytes, training, wdbc

FILE, FOLDER, MODEL = OutputType.URI_FILE, OutputType.URI_FOLDER, OutputType.MLFLOW_MODEL


def fitted(estimator):
    features, labels = training()
    return make_pipeline(StandardScaler(), estimator).fit(features, labels)


@pytest.fixture(scope="module")
def honest() -> bytes:
    return skops_bytes(fitted(LogisticRegression(max_iter=1000)))


@pytest.fixture(scope="module")
def neighbours() -> bytes:
    return skops_bytes(fitted(KNeighborsClassifier()))


def test_an_honest_model_is_released_as_a_canonical_copy(tmp_path, wdbc_index, honest):
    folder = model_folder(tmp_path / "m", honest, input_example__json=wdbc().head(3).to_json().encode())
    decision = judge_one(folder, wdbc_index, tmp_path / "out")
    assert (decision.verdict, decision.rule, decision.not_checked) == (Verdict.RELEASED, "clean", ())
    written = {path.name: path.read_bytes() for path in (tmp_path / "out" / "model").iterdir()}
    assert tuple(sorted(written)) == decision.files
    assert manifest_digest(written) == decision.digest
    assert sum(map(len, written.values())) == decision.size_bytes


def test_neighbours_are_held_by_the_rows_that_they_hold(tmp_path, wdbc_index, neighbours):
    decision = judge_one(model_folder(tmp_path / "m", neighbours), wdbc_index, tmp_path / "out")
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "rows-in-model")
    assert (decision.measure, decision.limit) == ("426 of the dataset's 569 rows", "0 rows")
    assert decision.hint
    assert (tmp_path / "out" / "model" / "model.skops").exists()  # what a reviewer may let out


def test_pickled_neighbours_are_held_by_their_rows_first_and_as_a_pickle_too(tmp_path, wdbc_index):
    folder = pickled_folder(tmp_path / "m", fitted(KNeighborsClassifier()))
    decision = judge_one(folder, wdbc_index, tmp_path / "out")
    assert (decision.verdict, decision.rule, decision.measure) == (
        Verdict.HELD, "rows-in-model", "426 of the dataset's 569 rows",
    )  # fmt: skip
    assert "pickles" in [finding.rule for finding in decision.findings]
    assert not (tmp_path / "out" / "model").exists()


def test_the_process_answers_one_request_with_one_line(tmp_path, wdbc_index, neighbours):
    (tmp_path / "out").mkdir()
    (tmp_path / "scores.json").write_text('{"auc": 0.98}')
    request = JudgeRequest(
        DEFAULT_POLICY_TEXT,
        ReleaseContract(("auc",), (OutputContract("m", MODEL, register="x"), OutputContract("s", FILE, max_bytes=100))),
        (
            Candidate("m", MODEL, model_folder(tmp_path / "m", neighbours)),
            Candidate("s", FILE, tmp_path / "scores.json"),
        ),
        (wdbc_index,),
        PACKAGES,
        tmp_path / "out",
        in_envelope=True,
    )
    assert parse_judge_request(judge_request_json(request)) == request
    done = subprocess.run(
        [sys.executable, "-m", "insitu.gate.judge"],
        input=judge_request_json(request),
        capture_output=True,
        text=True,
        check=True,
    )
    decisions = parse_judge_reply(done.stdout)
    assert [(d.name, d.verdict, d.rule) for d in decisions] == [
        ("m", Verdict.HELD, "rows-in-model"), ("s", Verdict.RELEASED, "clean"),
    ]  # fmt: skip
    assert (tmp_path / "out" / "s" / "scores.json").read_text() == '{"auc":0.98}'
    reply = read_judge_reply(done.stdout)
    assert read_judge_reply(judge_reply_json(reply)) == reply


def test_the_process_loads_none_of_the_libraries_whose_files_it_reads():
    program = "import sys, insitu.gate.judge; print([m for m in sys.modules if m in %r])"
    names = ("sklearn", "scipy", "pandas", "mlflow", "skops", "joblib", "pickle_", "socket")
    done = subprocess.run([sys.executable, "-c", program % (names,)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in (
        "[]",
        "['socket']",
    )  # numpy or the standard library may bring socket; nothing uses it


def test_main_reads_standard_input_and_writes_standard_output(tmp_path, monkeypatch, capsys):
    request = JudgeRequest(DEFAULT_POLICY_TEXT, ReleaseContract(), (), (), (), tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(judge_request_json(request)))
    assert judge_module.main() == 0
    assert read_judge_reply(capsys.readouterr().out) == JudgeReply((), {})


def test_a_request_that_is_none_gets_no_reply():
    done = subprocess.run(
        [sys.executable, "-m", "insitu.gate.judge"], input="{}", capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert done.stdout == ""


def test_a_broken_policy_decides_nothing(tmp_path, wdbc_index, honest):
    with pytest.raises(InvalidInputError):
        judge_one(model_folder(tmp_path / "m", honest), wdbc_index, tmp_path / "out", policy="version: 1\nrelese: {}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"decisions": 5, "kept": {}}',
        '{"decisions": [{}], "kept": {}}',
        '{"decisions": [], "kept": []}',
    ],
)
def test_a_reply_that_is_none_is_an_error(text):
    with pytest.raises(ValueError, match=r".*"):
        parse_judge_reply(text)


def test_what_was_not_searched_is_in_the_reply_and_no_longer_than_a_person_reads(tmp_path, monkeypatch, wdbc_index):
    monkeypatch.setattr(Effort, "may_search", lambda _, __: False)
    folder = tmp_path / "m"
    folder.mkdir()
    for number in range(80):
        (folder / f"part{number}.bin").write_bytes(bytes([255, number, 1]) * 1000)
    decision = judge_one(folder, wdbc_index, tmp_path / "out")
    assert len(decision.passed_over) == 51
    assert decision.passed_over[-1].startswith("and ")
    (again,) = parse_judge_reply(judge_reply_json(JudgeReply((decision,))))
    assert again.passed_over == decision.passed_over


def test_an_empty_reply_has_no_decisions():
    assert read_judge_reply('{"decisions": [], "kept": {"code": 1}}') == JudgeReply((), {"code": 1})


def test_an_index_that_cannot_be_read_holds_everything(tmp_path, honest):
    decision = judge_one(model_folder(tmp_path / "m", honest), tmp_path / "nowhere", tmp_path / "out")
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "not-checked")
    assert decision.not_checked == ("rows-in-model", "rows-in-text", "known-content")


def test_a_job_without_data_has_no_rows_to_keep(tmp_path, honest):
    assert judge_one(model_folder(tmp_path / "m", honest), None, tmp_path / "out").verdict is Verdict.RELEASED


@pytest.mark.parametrize(
    "limits", [JudgeLimits(time_s=0.0), JudgeLimits(expansion_bytes=10_000), JudgeLimits(members=3)]
)
def test_beyond_a_bound_everything_is_held(tmp_path, wdbc_index, honest, limits):
    decision = judge_one(model_folder(tmp_path / "m", honest), wdbc_index, tmp_path / "out", limits=limits)
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "not-readable") or decision.verdict is Verdict.HELD
    assert decision.not_checked
    assert not (tmp_path / "out" / "model").exists()


def test_a_scan_that_runs_out_of_time_is_held(tmp_path, wdbc_index, honest, monkeypatch):
    def out_of_time(*_):
        raise OutOfEffortError("no time")

    monkeypatch.setattr(examine_module.RowScan, "find", out_of_time)
    decision = judge_one(model_folder(tmp_path / "m", honest), wdbc_index, tmp_path / "out")
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "not-checked")


@pytest.mark.parametrize("error", [ValueError("17.99"), MemoryError(), RecursionError(), ZeroDivisionError("17.99")])
def test_a_reader_that_crashes_is_held_and_its_message_stays(tmp_path, wdbc_index, honest, monkeypatch, error):
    def crash(*_):
        raise error

    monkeypatch.setattr(examine_module, "read_any", crash)
    decision = judge_one(model_folder(tmp_path / "m", honest), wdbc_index, tmp_path / "out")
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "not-readable")
    assert "17.99" not in repr(decision)


def test_a_judge_that_crashes_is_held(tmp_path, wdbc_index, honest, monkeypatch):
    def crash(*_):
        raise RuntimeError("17.99")

    monkeypatch.setattr(judge_module, "decide", crash)
    decision = judge_one(model_folder(tmp_path / "m", honest), wdbc_index, tmp_path / "out")
    assert (decision.verdict, decision.rule, decision.not_checked) == (Verdict.HELD, "not-readable", ("all",))
    assert "17.99" not in repr(decision)


def test_a_loop_that_forgets_the_clock_is_ended(tmp_path, wdbc_index, honest, monkeypatch):
    def for_ever(*_):
        while True:
            pass

    monkeypatch.setattr(judge_module, "examine", for_ever)
    limits = JudgeLimits(time_s=0.05)
    decision = judge_one(model_folder(tmp_path / "m", honest), wdbc_index, tmp_path / "out", limits=limits)
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "not-readable")


def test_tables_leave_in_one_spelling_and_rows_in_them_do_not(tmp_path, wdbc_index):
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "scores.csv").write_text('"fold","auc"\r\n1,0.98\r\n2,0.97\r\n')
    (folder / "summary.json").write_text('{ "rows" : 426 }')
    assert judge_one(folder, wdbc_index, tmp_path / "out", type=FOLDER).verdict is Verdict.RELEASED
    assert (tmp_path / "out" / "model" / "scores.csv").read_bytes() == b"fold,auc\n1,0.98\n2,0.97\n"
    (folder / "sample.csv").write_text(wdbc().sample(5, random_state=1).to_csv(index=False))
    decision = judge_one(folder, wdbc_index, tmp_path / "out2", type=FOLDER)
    assert (decision.verdict, decision.rule, decision.measure) == (
        Verdict.HELD, "rows-in-model", "5 of the dataset's 569 rows",
    )  # fmt: skip


def test_names_of_files_are_looked_at(tmp_path, wdbc_index):
    folder = tmp_path / "tables"
    (folder / ("4f" * 20)).mkdir(parents=True)
    (folder / ("4f" * 20) / "a.json").write_text("[1]")
    assert judge_one(folder, wdbc_index, tmp_path / "out", type=FOLDER).rule == "names"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b'{"model": "' + b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo0NTY3ODk4NzY1NDMyMWFiY2RlZmc3" + b'"}', "encoded-text"),
        (b"\x80\x04]\x94.", "pickles"),
        (b"\xff\xfe\x00", "kind"),
        (b"", "kind"),
    ],
)
def test_other_files_are_held(tmp_path, wdbc_index, content, rule):
    (tmp_path / "f.json").write_bytes(content)
    decision = judge_one(tmp_path / "f.json", wdbc_index, tmp_path / "out", type=FILE)
    assert (decision.verdict, decision.rule) == (Verdict.HELD, rule)


def test_an_empty_folder_is_held(tmp_path, wdbc_index):
    (tmp_path / "empty").mkdir()
    decision = judge_one(tmp_path / "empty", wdbc_index, tmp_path / "out", type=FOLDER)
    assert (decision.verdict, decision.measure) == (Verdict.HELD, "nothing was written")


def entry(folder: Path, kind: str) -> None:
    secret = folder.parent / "secret.json"
    secret.write_text('{"a": 1}')
    if kind == "symlink":
        (folder / "a.json").symlink_to(secret)
    elif kind == "folder link":
        (folder / "a").symlink_to(folder.parent)
    elif kind == "hard link":
        os.link(secret, folder / "a.json")
    elif kind == "pipe":
        os.mkfifo(folder / "a.json")


@pytest.mark.parametrize("kind", ["symlink", "folder link", "hard link", "pipe"])
def test_what_is_no_plain_file_is_not_followed_or_opened(tmp_path, wdbc_index, kind):
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "b.json").write_text("[1]")
    entry(folder, kind)
    written = read_written(folder, Effort())
    assert (written.not_plain, list(written.files)) == (1, ["b.json"])
    decision = judge_one(folder, wdbc_index, tmp_path / "out", type=FOLDER)
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "kind")
    assert not (tmp_path / "out" / "model").exists()


def test_an_output_that_is_a_link_or_missing_is_held(tmp_path, wdbc_index):
    (tmp_path / "real.json").write_text("[1]")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    for path in (tmp_path / "link.json", tmp_path / "nowhere"):
        assert judge_one(path, wdbc_index, tmp_path / "out", type=FILE).verdict is Verdict.HELD


def test_an_undeclared_output_is_kept_and_nothing_is_written(tmp_path, wdbc_index, honest):
    folder = model_folder(tmp_path / "m", honest)
    decision = judge_one(folder, wdbc_index, tmp_path / "out", contract=ReleaseContract())
    assert decision.verdict is Verdict.KEPT
    assert not (tmp_path / "out" / "model").exists()


def test_a_skops_file_that_cannot_be_rewritten_still_tells_its_types(tmp_path, wdbc_index):
    from sklearn.tree import DecisionTreeClassifier

    decision = judge_one(
        model_folder(tmp_path / "m", skops_bytes(fitted(DecisionTreeClassifier()))), wdbc_index, tmp_path / "out"
    )
    assert decision.verdict is Verdict.HELD
    assert "types" in [finding.rule for finding in decision.findings]
    broken = model_folder(tmp_path / "n", b"PK\x03\x04broken")
    assert judge_one(broken, wdbc_index, tmp_path / "out").verdict is Verdict.HELD


def test_no_decision_holds_a_value_of_the_data(tmp_path, wdbc_index, neighbours):
    values = {f"{value}" for value in np.unique(wdbc().to_numpy()) if len(f"{value}") > 5}
    for folder in (
        model_folder(tmp_path / "a", neighbours),
        pickled_folder(tmp_path / "b", fitted(KNeighborsClassifier())),
    ):
        text = json.dumps(judge_reply_json(JudgeReply((judge_one(folder, wdbc_index, tmp_path / "out"),))))
        assert not [value for value in values if value in text]
