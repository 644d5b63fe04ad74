import gzip
import io
import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.domain.errors import InvalidInputError
from insitu.images.gzip_stream import gzip_chunks
from insitu.images.layers import Entry, LayerCache, entries_of, parents_of, tar_chunks, write_layer
from insitu.images.layout import OciLayout

LONG = "n" * 90


def make_tree(folder, *, mode=0o644, time=1_000_000_000):
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / "b" / "deep" / "file").write_bytes(b"x" * 1000)
    (folder / "b.txt").write_bytes(b"")
    (folder / "run").write_bytes(b"#!/bin/sh\n")
    (folder / "run").chmod(mode | 0o100)
    (folder / "link").symlink_to("b/deep/file")
    (folder / "b.txt").chmod(mode)
    os.utime(folder / "b.txt", (time, time))
    return folder


def tar(entries):
    return b"".join(tar_chunks(entries))


def content_of(archive, name):
    stream = archive.extractfile(name)
    assert stream is not None
    return stream.read()


def test_times_modes_and_order_on_disk_do_not_change_a_byte(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = make_tree(tmp_path / "one", mode=0o644, time=1_000_000_000)
    two = make_tree(tmp_path / "two", mode=0o600, time=1_700_000_000)
    assert tar(entries_of(one, "opt/x")) == tar(reversed(entries_of(two, "opt/x")))


def test_what_is_packed_is_what_was_there(tmp_path):
    raw = tar([*parents_of("opt/x"), *entries_of(make_tree(tmp_path), "opt/x")])
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        members = archive.getmembers()
        assert content_of(archive, "opt/x/b/deep/file") == b"x" * 1000
    found = {member.name: (member.type, member.mode) for member in members}
    assert found == {
        "opt": (tarfile.DIRTYPE, 0o755),
        "opt/x": (tarfile.DIRTYPE, 0o755),
        "opt/x/b": (tarfile.DIRTYPE, 0o755),
        "opt/x/b.txt": (tarfile.REGTYPE, 0o644),
        "opt/x/b/deep": (tarfile.DIRTYPE, 0o755),
        "opt/x/b/deep/file": (tarfile.REGTYPE, 0o644),
        "opt/x/link": (tarfile.SYMTYPE, 0o777),
        "opt/x/run": (tarfile.REGTYPE, 0o755),
    }
    assert {(member.uid, member.gid, member.mtime, member.uname) for member in members} == {(0, 0, 0, "")}


@pytest.mark.parametrize(
    "name",
    ["short", f"{LONG}/{LONG}", f"{LONG}/{LONG}/{LONG}", "x" * 101, f"{'d' * 156}/f", "ü" * 60, f"a/{'y' * 300}"],
)
def test_names_of_any_length_come_back(name):
    raw = tar([Entry(name, b"content"), Entry("zlink", target=name)])
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert set(archive.getnames()) == {name, "zlink"}
        assert archive.getmember("zlink").linkname == name
        assert content_of(archive, name) == b"content"


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInputError, match="pipe"):
        entries_of(tmp_path, "opt/x")


def test_a_layer_known_by_key_is_not_packed_again(tmp_path):
    layout = OciLayout(tmp_path / "layout")
    first = LayerCache(layout).layer("key", lambda: [Entry("f", b"x")], compress=True)
    second = LayerCache(layout).layer("key", lambda: pytest.fail("packed again"), compress=True)
    assert (second.descriptor, second.diff_id, second.reused) == (first.descriptor, first.diff_id, True)


def test_a_layer_whose_blob_was_lost_is_packed_again(tmp_path):
    layout = OciLayout(tmp_path / "layout")
    first = LayerCache(layout).layer("key", lambda: [Entry("f", b"x")], compress=True)
    layout.blob_path(first.descriptor.digest).unlink()
    assert LayerCache(layout).layer("key", lambda: [Entry("f", b"x")], compress=True) == first
    assert layout.has(first.descriptor.digest)


def test_compressed_or_not_a_layer_has_the_same_diff_id(tmp_path):
    layout = OciLayout(tmp_path / "layout")
    plain, packed = (write_layer(layout, [Entry("f", b"x" * 5000)], compress=choice) for choice in (False, True))
    assert plain.diff_id == packed.diff_id == plain.descriptor.digest
    assert packed.descriptor.size_bytes < plain.descriptor.size_bytes


@given(st.lists(st.binary(max_size=2000), max_size=20), st.sampled_from([1, 6]))
def test_gzip_gives_back_what_went_in(chunks, level):
    assert gzip.decompress(b"".join(gzip_chunks(chunks, level=level))) == b"".join(chunks)


def test_gzip_bytes_do_not_depend_on_how_the_input_was_cut_or_on_cores(monkeypatch):
    data = os.urandom(1000) * 3000
    whole = b"".join(gzip_chunks([data], level=1))
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    cut = b"".join(gzip_chunks((data[at : at + 777] for at in range(0, len(data), 777)), level=1))
    assert cut == whole
    assert gzip.decompress(whole) == data
