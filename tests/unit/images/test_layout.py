import json
import multiprocessing

import pytest

from insitu.domain.digests import digest_of
from insitu.domain.errors import IntegrityError, InvalidInputError, NotFoundError
from insitu.images.layout import LAYER_TAR, REF_NAME, OciLayout

ABSENT = digest_of(b"never stored")


@pytest.fixture
def layout(tmp_path):
    return OciLayout(tmp_path / "layout")


def blobs(layout):
    return sorted(path.name for path in (layout.path / "blobs" / "sha256").iterdir())


def test_bytes_come_back_under_their_digest(layout):
    stored = layout.put_blob([b"one", b"", b"two"], LAYER_TAR)
    assert (stored.digest, stored.size_bytes) == (digest_of(b"onetwo"), 6)
    assert layout.read(stored.digest) == b"onetwo"
    assert b"".join(layout.chunks(stored.digest)) == b"onetwo"


def test_a_damaged_blob_is_noticed_by_every_way_to_read_it(layout):
    stored = layout.put_blob(b"as it was", LAYER_TAR)
    layout.blob_path(stored.digest).write_bytes(b"as it is!")
    for read in (layout.read, layout.check, lambda digest: list(layout.chunks(digest))):
        with pytest.raises(IntegrityError):
            read(stored.digest)


def test_storing_again_mends_a_damaged_blob(layout):
    stored = layout.put_blob(b"as it was", LAYER_TAR)
    layout.blob_path(stored.digest).write_bytes(b"as it is!")
    layout.put_blob(b"as it was", LAYER_TAR)
    assert layout.read(stored.digest) == b"as it was"


def test_bytes_with_another_digest_than_expected_are_not_kept(layout):
    with pytest.raises(IntegrityError):
        layout.put_blob([b"something else"], LAYER_TAR, expected=ABSENT)
    assert blobs(layout) == []


def test_a_writer_that_fails_half_way_leaves_nothing(layout):
    def breaks():
        yield b"some"
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        layout.put_blob(breaks(), LAYER_TAR)
    assert blobs(layout) == []


def test_a_tag_names_one_manifest_and_moves(layout):
    first = layout.put_manifest({"schemaVersion": 2, "layers": [1]}, tag="model:1")
    second = layout.put_manifest({"schemaVersion": 2, "layers": [2]}, tag="model:1")
    assert layout.resolve("model:1").digest == second.digest
    assert [entry.annotations[REF_NAME] for entry in layout.list()] == ["model:1"]
    assert layout.resolve(first.digest).digest == first.digest  # still there by digest
    assert layout.resolve(f"model:1@{first.digest}").digest == first.digest


@pytest.mark.parametrize("reference", ["model:2", ABSENT])
def test_what_is_not_there_is_not_found(layout, reference):
    with pytest.raises(NotFoundError):
        layout.resolve(reference)


@pytest.mark.parametrize("tag", ["../up", "a b", "model:", "model:one/two", ""])
def test_a_tag_that_other_tools_would_not_read_is_refused(layout, tag):
    with pytest.raises(InvalidInputError):
        layout.put_manifest({"schemaVersion": 2}, tag=tag)


def put_many(path, start):
    layout = OciLayout(path)
    for number in range(start, start + 10):
        layout.put_manifest({"schemaVersion": 2, "number": number}, tag=f"model:{number}")


def test_processes_that_tag_at_once_lose_nothing(layout):
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=put_many, args=(layout.path, start)) for start in (0, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert {entry.annotations[REF_NAME] for entry in layout.list()} == {f"model:{number}" for number in range(20)}


def test_a_folder_that_is_no_layout_is_not_taken_for_one(tmp_path):
    with pytest.raises(NotFoundError):
        OciLayout(tmp_path, create=False)
    (tmp_path / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "9"}))
    with pytest.raises(InvalidInputError):
        OciLayout(tmp_path)
