"""Files that a script logs: inside their folder, within bounds, whole or not at all."""

import pytest

from insitu.intake.calls import CallRefused
from tests.unit.intake.intake_parts import OWN

FOLDER = f"1/{OWN}/artifacts"


def test_what_is_put_is_listed_and_read(job):
    job.put("sub/a b.txt", b"hello")
    job.put("top.bin", b"")
    listed = job.call("GET", f"/api/2.0/mlflow-artifacts/artifacts?path=1%2F{OWN}%2Fartifacts")
    assert listed["files"] == [
        {"path": "sub", "is_dir": True},
        {"path": "top.bin", "is_dir": False, "file_size": 0},
    ]
    file, size = job.intake.artifacts.open(f"{FOLDER}/sub/a%20b.txt")
    with file:
        assert (file.read(), size) == (b"hello", 5)


def test_a_folder_that_an_earlier_try_could_make_is_in_nobodys_way(job):
    """The disk had room for one of two; now it has for both."""
    job.intake.artifacts.root.mkdir()
    job.put("late.txt", b"hello")
    assert [path for path, _ in job.intake.artifacts.walk()] == [f"runs/{OWN}/late.txt"]


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "..%2f..%2fx",
        "a/../../x",
        "a/./x",
        "a//x",
        "%2e%2e/x",
        "a%00b",
        "a\\..\\x",
        "x/" * 40 + "x",
        "n" * 256,
        "",
    ],
)
def test_a_path_that_is_not_made_of_plain_names_is_refused(job, path):
    with pytest.raises(CallRefused):
        job.put(path, b"x")
    assert list(job.intake.artifacts.walk()) == []


@pytest.mark.parametrize(
    "address", ["", "1", "x/y", f"1/{OWN}/x", f"../{OWN}/artifacts/x", "1/traces/tr-1/artifacts/x"]
)
def test_an_address_of_neither_run_nor_model_is_refused(job, address):
    with pytest.raises(CallRefused):
        job.intake.artifacts.upload(address)


def test_a_neighbours_folder_can_not_be_written_listed_or_read(job):
    neighbour = "b" * 32
    with pytest.raises(CallRefused):
        job.put("x", b"x", owner=neighbour)
    assert job.intake.artifacts.list(f"1/{neighbour}/artifacts") == {}
    with pytest.raises(CallRefused):
        job.intake.artifacts.open(f"1/{neighbour}/artifacts/x")


def test_a_link_is_not_followed_when_it_is_read(job):
    job.put("x", b"x")
    (job.intake.artifacts.root / "runs" / OWN / "link").symlink_to("/etc/passwd")
    with pytest.raises(CallRefused):
        job.intake.artifacts.open(f"{FOLDER}/link")


def test_bytes_in_all_are_bounded_and_what_did_not_fit_leaves_no_file(a_job, tmp_path):
    job = a_job(limits={"artifact_bytes_total": 10})
    job.put("a", b"123456")
    with pytest.raises(CallRefused, match="exceed"):
        job.put("b", b"12345")
    job.put("c", b"1234")
    assert [path for path, _ in job.intake.artifacts.walk()] == [f"runs/{OWN}/a", f"runs/{OWN}/c"]
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_file_that_replaces_another_takes_its_room(a_job, tmp_path):
    job = a_job(limits={"artifact_bytes_total": 10})
    for _ in range(5):
        job.put("a", b"12345")
    assert job.intake.artifacts.size_bytes == 5
    assert job.intake.artifacts.files == 1


def test_files_in_all_are_bounded(a_job, tmp_path):
    job = a_job(limits={"artifact_files": 2})
    job.put("a", b"")
    job.put("b", b"")
    with pytest.raises(CallRefused):
        job.put("c", b"")


def test_a_broken_upload_leaves_nothing_under_a_real_name(job):
    job.put("model", b"whole")
    upload = job.intake.artifacts.upload(f"{FOLDER}/model")
    upload.write(b"ha")
    upload.abort()
    file, _ = job.intake.artifacts.open(f"{FOLDER}/model")
    with file:
        assert file.read() == b"whole"
    assert job.intake.artifacts.size_bytes == 5


def test_a_file_in_the_way_of_a_folder_is_refused_in_words(job):
    job.put("a", b"x")
    with pytest.raises(CallRefused, match="same name"):
        job.put("a/b", b"x")
    job.put("f/b", b"x")
    with pytest.raises(CallRefused, match="same name"):
        job.put("f", b"x")
    assert job.intake.artifacts.size_bytes == 2
