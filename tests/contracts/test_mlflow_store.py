"""The hub's record in MLflow: what `Tracking` promises, on SQLite and on PostgreSQL."""

import math
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from mlflow.entities import Metric
from sqlalchemy import text

from insitu.domain.errors import (
    DeniedError,
    InsituError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from insitu.hub.tracking import RegisteredRelease, Tracking, TrackingSettings

START_LIMIT_S = 120


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store_uri(request, tmp_path_factory):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.sqlite3"
    server = request.getfixturevalue("postgres_server")
    server.run("createdb", "mlflow_contract")
    # The hub's own migrations keep a table of the same name in the same database.
    server.run("psql", "-d", "mlflow_contract", "-c", "create table alembic_version (version_num text primary key)")
    server.run("psql", "-d", "mlflow_contract", "-c", "insert into alembic_version values ('0001_of_the_hub')")
    return server.url("mlflow_contract")


@pytest.fixture(scope="module")
def settings(store_uri, tmp_path_factory):
    return TrackingSettings(store_uri=store_uri, artifacts_dir=tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="module")
def tracking(settings):
    tracking = Tracking(settings)
    tracking.start()
    tracking.wait_ready(START_LIMIT_S)
    yield tracking
    tracking.close()


@pytest.fixture
def job(request):
    return f"j-{abs(hash(request.node.nodeid)) % 10**12:012}"


@pytest.fixture
def run(tracking, job):
    return tracking.ensure_run(job, "breast-cancer", "wdbc-logistic", {"mlflow.user": "alice"})


@pytest.fixture
def release(run, job, tmp_path):
    folder = tmp_path / "released"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "data" / "model.skops").write_bytes(b"\x00\x01" * 500)
    lineage = {"insitu.site": "leeds", "insitu.code": "sha256:" + "c" * 64, "insitu.policy_version": "7"}
    return RegisteredRelease(
        name=f"model-{job}",
        job_id=job,
        run_id=run,
        output="model",
        folder=folder,
        digest="sha256:" + "a" * 64,
        tags=lineage,
    )


def recorded(tracking, run_id):
    return tracking.stores.tracking.get_run(run_id)


def history(tracking, run_id, key):
    return tracking.stores.tracking.get_metric_history(run_id, key)


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_job_has_one_run_however_often_it_is_asked_for(tracking, run, job):
    assert tracking.ensure_run(job, "breast-cancer", "wdbc-logistic", {}) == run
    info = recorded(tracking, run)
    assert info.info.run_name == "wdbc-logistic"
    assert info.info.status == "RUNNING"
    assert info.data.tags["insitu.job"] == job
    assert info.data.tags["mlflow.user"] == "alice"


def test_two_jobs_have_two_runs(tracking, run):
    assert tracking.ensure_run("j-another", "breast-cancer", "wdbc-logistic", {}) != run


def test_a_run_that_many_threads_ask_for_is_made_once(tracking, job):
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: tracking.ensure_run(job, "crowded", "one", {}), range(16)))
    assert len(found) == 1


def test_more_metrics_than_one_batch_holds_are_all_there(tracking, run):
    points = [("loss", 1 / (step + 1), 1_700_000_000_000 + step, step) for step in range(2_500)]
    assert tracking.log(run, points, {"C": "1.0"}, {"purpose": "screening"}) == ()
    assert [(m.step, m.value) for m in history(tracking, run, "loss")] == [
        (step, value) for _, value, _, step in points
    ]
    assert recorded(tracking, run).data.params == {"C": "1.0"}
    assert recorded(tracking, run).data.tags["purpose"] == "screening"


def tables_of(tracking, run_id):
    """What MLflow's tables say of a run's metrics."""
    columns = "key, value, timestamp, step, is_nan"
    with tracking.stores.tracking.engine.connect() as connection:
        return [
            connection.execute(
                text(f"select {columns} from {table} where run_uuid = :run order by {columns}"), {"run": run_id}
            ).all()
            for table in ("metrics", "latest_metrics")
        ]


def test_points_are_in_mlflows_tables_as_mlflow_itself_would_have_put_them_there(tracking, run, job):
    other = tracking.ensure_run(f"{job}-by-mlflow", "breast-cancer", "wdbc-logistic", {})
    batches = [
        [
            ("loss", 0.5, 10, 3),
            ("loss", 0.25, 10, 3),
            ("auc", 0.9, 5, 0),
            ("loss", 0.5, 10, 3),
            ("nan", math.nan, 1, 1),
        ],
        [("loss", 0.1, 99, 2), ("auc", 0.9, 5, 0), ("auc", 0.8, 6, 0), ("inf", math.inf, 1, -1), ("nan", 7.0, 1, 1)],
        [("inf", -math.inf, 2, -1), ("loss", 0.75, 10, 3), ("nan", math.nan, 1, 2)],
    ]
    for batch in batches:
        assert tracking.log(run, batch) == ()
        tracking.stores.tracking.log_batch(other, [Metric(*point) for point in batch], [], [])
        assert tables_of(tracking, run) == tables_of(tracking, other)


def test_a_batch_that_comes_twice_changes_nothing(tracking, run):
    points = [("auc", 0.5, 1, 0), ("auc", 0.75, 2, 1)]
    for _ in range(2):
        tracking.log(run, points, {"C": "1.0"}, {"purpose": "screening"})
    assert [m.value for m in history(tracking, run, "auc")] == [0.5, 0.75]


def test_not_a_number_is_kept_as_such(tracking, run):
    assert tracking.log(run, [("loss", math.nan, 1, 0)]) == ()
    assert math.isnan(history(tracking, run, "loss")[0].value)


def test_a_parameter_keeps_its_first_value_and_the_second_is_reported(tracking, run):
    tracking.log(run, params={"C": "1.0"})
    refused = tracking.log(run, [("auc", 0.9, 1, 0)], {"C": "2.0", "penalty": "l2"})
    assert [(each.kind, each.key) for each in refused] == [("param", "C")]
    assert recorded(tracking, run).data.params == {"C": "1.0", "penalty": "l2"}
    assert len(history(tracking, run, "auc")) == 1


@pytest.mark.parametrize("point", [("bad\nname", 1.0, 1, 0), ("far", 1.0, 1, 10**30), ("early", 1.0, -1, 0)])
def test_what_mlflow_cannot_hold_is_reported_and_the_rest_is_written(tracking, run, point):
    refused = tracking.log(
        run, [("before", 1.0, 1, 0), point, ("after", 1.0, 1, 0)], {}, {"bad\nkey": "x", "good": "y"}
    )
    assert {(each.kind, each.key) for each in refused} == {("metric", point[0]), ("tag", "bad\nkey")}
    assert set(recorded(tracking, run).data.metrics) == {"before", "after"}
    assert recorded(tracking, run).data.tags["good"] == "y"


def test_writing_to_a_run_that_is_not_there_says_so(tracking):
    with pytest.raises(NotFoundError):
        tracking.log("0" * 32, [("auc", 0.9, 1, 0)])


def test_a_child_run_belongs_to_its_parent_and_is_made_once(tracking, run):
    child = tracking.child_run(run, "fold", local_id="c0ffee")
    assert tracking.child_run(run, "fold", local_id="c0ffee") == child
    assert tracking.child_run(run, "fold", local_id="decade") != child
    assert recorded(tracking, child).data.tags["mlflow.parentRunId"] == run
    assert recorded(tracking, child).data.tags["mlflow.user"] == "alice"


def test_an_id_that_would_change_the_search_is_refused(tracking, run):
    with pytest.raises(InvalidInputError):
        tracking.child_run(run, "fold", local_id="x' or tags.a = 'b")


def test_a_finished_run_keeps_the_time_of_its_end(tracking, run):
    tracking.finish(run, "FINISHED")
    ended = recorded(tracking, run).info
    tracking.finish(run, "FINISHED")
    assert (ended.status, recorded(tracking, run).info.end_time) == ("FINISHED", ended.end_time)


# -- models ------------------------------------------------------------------------------------------------------------


def test_a_release_becomes_version_1_with_its_lineage(tracking, release, run, job):
    assert tracking.register_model(release) == 1
    version = tracking.get_version(release.name, 1)
    assert (version.run_id, version.job_id, version.output, version.digest) == (run, job, "model", release.digest)
    assert release.tags.items() <= version.tags.items()
    assert version.size_bytes == 1_012


def test_the_files_of_a_version_are_those_that_were_released(tracking, release):
    tracking.register_model(release)
    folder = tracking.model_folder(release.name, 1)
    assert not folder.is_relative_to(release.folder)
    for file in ("MLmodel", "data/model.skops"):
        assert (folder / file).read_bytes() == (release.folder / file).read_bytes()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["artifacts"]  # nothing half copied beside it


def test_a_release_that_comes_twice_is_one_version(tracking, release, run):
    assert [tracking.register_model(release) for _ in range(2)] == [1, 1]
    assert [each.version for each in tracking.versions(release.name)] == [1]
    assert len(recorded(tracking, run).outputs.model_outputs) == 1


def test_the_same_bytes_from_another_job_are_another_version(tracking, release):
    tracking.register_model(release)
    other = tracking.ensure_run(f"{release.job_id}-b", "breast-cancer", "again", {})
    again = replace(release, job_id=f"{release.job_id}-b", run_id=other)
    assert tracking.register_model(again) == 2
    assert [each.version for each in tracking.versions(release.name)] == [2, 1]


def test_a_custom_model_is_registered_with_its_files_and_without_an_mlmodel(tracking, release):
    (release.folder / "MLmodel").unlink()
    with pytest.raises(InvalidInputError, match="MLmodel"):
        tracking.register_model(release)
    custom = replace(release, is_mlflow=False, name=f"custom-{release.job_id}")
    version = tracking.register_model(custom)
    assert tracking.register_model(custom) == version
    folder = tracking.model_folder(custom.name, version)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["model.skops"]
    shutil.rmtree(release.folder / "data")
    with pytest.raises(InvalidInputError, match="no files"):
        tracking.register_model(replace(custom, digest="sha256:" + "b" * 64))


@pytest.mark.parametrize(
    "step", ["create_logged_model", "finalize_logged_model", "log_outputs", "set_model_versions_tags"]
)
def test_registering_goes_on_where_it_was_interrupted(tracking, release, run, monkeypatch, step):
    def broken(*_args, **_kwargs):
        raise ConnectionError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(tracking.stores.tracking, step, broken)
        with pytest.raises(ConnectionError):
            tracking.register_model(release)
    assert tracking.register_model(release) == 1
    assert [each.version for each in tracking.versions(release.name)] == [1]
    assert len(recorded(tracking, run).outputs.model_outputs) == 1


def test_a_link_in_a_release_is_refused_before_anything_is_made(tracking, release):
    (release.folder / "data" / "link").symlink_to("/etc/passwd")
    with pytest.raises(IntegrityError):
        tracking.register_model(release)
    with pytest.raises(NotFoundError):
        tracking.versions(release.name)


def test_a_folder_without_a_model_is_refused(tracking, release):
    (release.folder / "MLmodel").unlink()
    with pytest.raises(InvalidInputError, match="MLmodel"):
        tracking.register_model(release)


def test_a_version_whose_files_are_gone_says_so(tracking, release):
    tracking.register_model(release)
    (tracking.model_folder(release.name, 1) / "MLmodel").unlink()
    with pytest.raises(IntegrityError):
        tracking.model_folder(release.name, 1)


def test_an_alias_moves_to_the_version_that_it_was_given_last(tracking, release):
    tracking.register_model(release)
    tracking.register_model(replace(release, digest="sha256:" + "b" * 64))
    tracking.set_alias(release.name, "champion", 1)
    tracking.set_alias(release.name, "champion", 2)
    assert tracking.get_version_by_alias(release.name, "champion").version == 2
    assert [each.aliases for each in tracking.versions(release.name)] == [("champion",), ()]
    model = next(each for each in tracking.list_models() if each.name == release.name)
    assert (model.latest_version, model.aliases) == (2, {"champion": 2})
    tracking.delete_alias(release.name, "champion")
    with pytest.raises(NotFoundError):
        tracking.get_version_by_alias(release.name, "champion")


def test_a_person_may_tag_a_version_but_not_change_where_it_came_from(tracking, release):
    tracking.register_model(release)
    tracking.set_tag(release.name, 1, "reviewed", "yes")
    assert tracking.get_version(release.name, 1).tags["reviewed"] == "yes"
    tracking.delete_tag(release.name, 1, "reviewed")
    assert "reviewed" not in tracking.get_version(release.name, 1).tags
    for key in ("insitu.site", "INSITU.site", " insitu.site", "mlflow.user"):
        with pytest.raises(DeniedError):
            tracking.set_tag(release.name, 1, key, "elsewhere")
    with pytest.raises(DeniedError):
        tracking.delete_tag(release.name, 1, "insitu.job")


@pytest.mark.parametrize(
    "ask",
    [
        lambda tracking, name: tracking.versions("nobody-made-this"),
        lambda tracking, name: tracking.get_version(name, 9),
        lambda tracking, name: tracking.set_alias(name, "champion", 9),
        lambda tracking, name: tracking.set_tag(name, 9, "reviewed", "yes"),
        lambda tracking, name: tracking.model_folder(name, 9),
        lambda tracking, name: tracking.get_version_by_alias(name, "nobody"),
    ],
)
def test_what_is_not_there_is_not_found(tracking, release, ask):
    tracking.register_model(release)
    with pytest.raises(NotFoundError):
        ask(tracking, release.name)


def test_a_released_file_lies_among_its_runs_artifacts(tracking, run, tmp_path):
    file = tmp_path / "report.csv"
    file.write_text("auc\n0.99\n")
    for _ in range(2):
        tracking.store_output(run, "report", file)
    stored = tracking.stores.place_of(f"{recorded(tracking, run).info.artifact_uri}/report/report.csv")
    assert stored.read_text() == "auc\n0.99\n"


# -- starting ----------------------------------------------------------------------------------------------------------


def test_hubs_that_start_at_once_on_a_new_database_both_become_ready(postgres_database, tmp_path):
    settings = TrackingSettings(store_uri=postgres_database, artifacts_dir=tmp_path)
    hubs = [Tracking(settings), Tracking(settings)]
    for hub in hubs:
        hub.start()
    for hub in hubs:
        hub.wait_ready(START_LIMIT_S)
        hub.close()


def test_a_hub_that_starts_again_finds_everything(settings, tracking, run, job):
    again = Tracking(settings)
    again.start()
    assert again.ensure_run(job, "breast-cancer", "", {}) == run  # waits until it is ready


def test_before_it_is_started_it_says_so_at_once(tmp_path):
    with pytest.raises(UnavailableError) as caught:
        Tracking(TrackingSettings(store_uri="sqlite://", artifacts_dir=tmp_path)).list_models()
    assert caught.value.code == "tracking-starting"


@pytest.mark.parametrize(
    "store_uri",
    ["postgresql://someone:pa55word@127.0.0.1:1/nowhere", "sqlite:////proc/nowhere/mlflow.sqlite3", "mysql://x"],
)
def test_a_store_that_cannot_be_opened_is_an_error_of_ours_without_the_password(store_uri, tmp_path):
    tracking = Tracking(TrackingSettings(store_uri=store_uri, artifacts_dir=tmp_path))
    tracking.start()
    with pytest.raises(InsituError) as caught:
        tracking.wait_ready(START_LIMIT_S)
    assert caught.value.hint
    assert "pa55word" not in f"{caught.value} {caught.value.as_dict()} {tracking._settings!r}"


def test_tables_of_a_newer_mlflow_are_left_alone(tmp_path):
    import sqlite3

    settings = TrackingSettings(store_uri=f"sqlite:///{tmp_path}/mlflow.sqlite3", artifacts_dir=tmp_path)
    first = Tracking(settings)
    first.start()
    first.wait_ready(START_LIMIT_S)
    first.close()
    with sqlite3.connect(tmp_path / "mlflow.sqlite3") as database:
        database.execute("update alembic_version set version_num = 'of-the-future'")
    second = Tracking(settings)
    second.start()
    with pytest.raises(UnavailableError, match="could not be opened"):
        second.wait_ready(START_LIMIT_S)


def test_after_closing_calls_are_refused_and_no_thread_is_left(tmp_path):
    tracking = Tracking(TrackingSettings(store_uri=f"sqlite:///{tmp_path}/mlflow.sqlite3", artifacts_dir=tmp_path))
    tracking.start()
    tracking.wait_ready(START_LIMIT_S)
    tracking.close()
    assert not tracking.ready
    with pytest.raises(UnavailableError):
        tracking.list_models()
    assert "mlflow-start" not in {thread.name for thread in threading.enumerate()}
