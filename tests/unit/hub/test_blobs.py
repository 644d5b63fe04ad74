"""Content-addressed files: whole, right and on disk, or not there."""

import os

import pytest

from insitu.domain.digests import digest_of
from insitu.domain.errors import ConflictError, IntegrityError, InvalidInputError
from insitu.hub.blobs import Blobs, OffsetError
from insitu.wire.releases import ReleasedFile

DATA = b"0123456789"
DIGEST = digest_of(DATA)


@pytest.fixture
def blobs(tmp_path):
    return Blobs(tmp_path / "blobs", tmp_path / "uploads", max_bytes=1000)


def put(blobs, data, digest=None):
    with blobs.incoming(digest or digest_of(data)) as incoming:
        incoming.write(data)
        incoming.finish()


def send(blobs, data, offset, length=len(DATA), site="leeds", digest=DIGEST):
    with blobs.piece(site, digest, offset=offset, length=length) as piece:
        piece.write(data)
    return piece


def everything_under(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_blob_is_read_as_it_was_written(blobs):
    put(blobs, DATA)
    assert blobs.path(DIGEST).read_bytes() == DATA
    assert blobs.size(DIGEST) == 10


def test_bytes_that_are_not_their_digest_are_not_kept(blobs, tmp_path):
    with pytest.raises(IntegrityError) as refused:
        put(blobs, b"other", DIGEST)
    assert refused.value.code == "digest-mismatch"
    assert everything_under(tmp_path) == []


def test_an_upload_that_breaks_off_is_not_kept(blobs, tmp_path):
    with blobs.incoming(DIGEST) as incoming:
        incoming.write(DATA[:5])
    assert everything_under(tmp_path) == []


def test_what_comes_goes_to_the_disk_once_and_in_order_while_more_is_coming(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _file, at, length, _advice: sent.append((at, length)))
    blobs, mib = Blobs(tmp_path / "blobs", tmp_path / "uploads", max_bytes=64 << 20), 1 << 20
    data = bytes(19 * mib)
    with blobs.piece("leeds", digest_of(data), offset=0, length=len(data)) as piece:
        for at in range(0, len(data), 3 * mib):
            piece.write(data[at : at + 3 * mib])
        piece.finish()
    assert sent == [(0, 9 * mib), (9 * mib, 9 * mib)]
    sent.clear()
    put(blobs, bytes(17 * mib))
    assert sent == [(0, 17 * mib)]


def test_a_blob_that_is_too_large_is_refused_before_it_is_whole(blobs):
    with pytest.raises(InvalidInputError) as refused, blobs.incoming(DIGEST) as incoming:
        incoming.write(b"x" * 1001)
    assert refused.value.code == "blob-too-large"
    with pytest.raises(InvalidInputError):
        send(blobs, b"x", 0, length=1001)


def test_pieces_become_a_blob(blobs):
    assert not send(blobs, DATA[:4], 0).is_last
    assert blobs.offset("leeds", DIGEST) == 4
    assert send(blobs, DATA[4:], 4).is_last
    assert blobs.complete("leeds", DIGEST) == 10
    assert blobs.path(DIGEST).read_bytes() == DATA


@pytest.mark.parametrize("offset", [0, 3, 5, 10, 400])
def test_a_piece_for_another_place_changes_nothing(blobs, offset):
    send(blobs, DATA[:4], 0)
    with pytest.raises(OffsetError) as refused:
        send(blobs, b"zz", offset)
    assert refused.value.offset == 4
    assert blobs.offset("leeds", DIGEST) == 4


def test_pieces_that_are_not_their_digest_are_dropped_whole(blobs):
    send(blobs, b"abcdefghij", 0)
    with pytest.raises(IntegrityError):
        blobs.complete("leeds", DIGEST)
    assert blobs.offset("leeds", DIGEST) == 0
    assert blobs.size(DIGEST) is None


def test_more_bytes_than_were_announced_are_refused(blobs):
    with pytest.raises(InvalidInputError) as refused:
        send(blobs, DATA + b"!", 0)
    assert refused.value.code == "upload-length"


def test_two_requests_can_not_write_one_upload(blobs):
    with blobs.piece("leeds", DIGEST, offset=0, length=10) as piece:
        piece.write(DATA[:2])
        with pytest.raises(ConflictError) as refused:
            send(blobs, DATA, 0)
    assert refused.value.code == "upload-busy"
    assert blobs.offset("leeds", DIGEST) == 2


def test_sites_do_not_see_each_others_uploads(blobs):
    send(blobs, DATA[:4], 0)
    assert blobs.offset("turin", DIGEST) == 0


def test_an_upload_whose_end_was_not_noted_is_found_to_be_whole(blobs):
    send(blobs, DATA, 0)
    assert blobs.is_whole("leeds", DIGEST)
    assert not blobs.is_whole("turin", DIGEST)


def test_a_folder_of_released_files_lasts_as_long_as_its_block(blobs):
    put(blobs, DATA)
    files = [ReleasedFile(path=path, digest=DIGEST, size_bytes=10) for path in ("MLmodel", "data/model.skops")]
    with blobs.folder_of(files) as folder:
        assert sorted(str(path.relative_to(folder)) for path in everything_under(folder)) == [
            "MLmodel",
            "data/model.skops",
        ]
        assert (folder / "data/model.skops").read_bytes() == DATA
    assert not folder.exists()
    assert blobs.path(DIGEST).read_bytes() == DATA
