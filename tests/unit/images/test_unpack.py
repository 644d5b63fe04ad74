import gzip
import io
import os
import tarfile

import pytest

from insitu.domain.digests import digest_of
from insitu.domain.errors import DeniedError, IntegrityError, InvalidInputError
from insitu.images.layout import LAYER_GZIP, LAYER_TAR, OciLayout
from insitu.images.unpack import resolve_inside, unpack_layer


@pytest.fixture
def root(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "rootfs").mkdir()
    return tmp_path / "rootfs"


@pytest.fixture
def layout(tmp_path):
    return OciLayout(tmp_path / "layout")


def entry(name, content=None, *, kind=tarfile.REGTYPE, link="", mode=0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.uid, info.gid = os.getuid(), os.getgid()
    info.size = len(content or b"")
    return info, content


def folder(name):
    return entry(name, kind=tarfile.DIRTYPE, mode=0o755)


def link(name, target):
    return entry(name, kind=tarfile.SYMTYPE, link=target)


def tar_of(*entries):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content) if content is not None else None)
    return made.getvalue()


def unpack(layout, root, *entries, max_bytes=1 << 20):
    raw = tar_of(*entries)
    return unpack_layer(layout, layout.put_blob(raw, LAYER_TAR), root, diff_id=digest_of(raw), max_bytes=max_bytes)


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or not path.is_dir())


def test_files_folders_and_links_appear_as_they_are(layout, root):
    unpack(
        layout, root, folder("a/"), entry("a/b", b"text", mode=0o755), link("c", "a/b"),
        entry("d", kind=tarfile.LNKTYPE, link="a/b"),
    )  # fmt: skip
    assert files(root) == ["a/b", "c", "d"]
    assert (root / "c").read_text() == "text"
    assert (root / "a/b").stat().st_mode & 0o777 == 0o755
    assert (root / "d").samefile(root / "a/b")


@pytest.mark.parametrize("name", ["../outside/f", "a/../../outside/f", "/../outside/f", "..", "a/.."])
def test_a_name_that_climbs_is_refused(layout, root, name):
    with pytest.raises(DeniedError) as refused:
        unpack(layout, root, entry(name, b"x"))
    assert refused.value.rule == "path-traversal"
    assert list((root.parent / "outside").iterdir()) == []


def test_an_absolute_name_lies_inside(layout, root):
    unpack(layout, root, entry("/etc/motd", b"x"))
    assert files(root) == ["etc/motd"]


@pytest.mark.parametrize("target", ["../outside", "/outside", "../../../../outside", "{outside}"])
def test_a_link_in_an_earlier_entry_leads_nowhere_outside(layout, root, target):
    outside = root.parent / "outside"
    (root / "outside").mkdir()
    unpack(layout, root, link("door", target.format(outside=outside)), entry("door/f", b"x"))
    assert list(outside.iterdir()) == []
    assert any(name.endswith("/f") for name in files(root))


def test_a_file_does_not_go_through_a_link_of_its_own_name(layout, root):
    (root.parent / "outside" / "f").write_text("mine")
    unpack(layout, root, link("f", str(root.parent / "outside" / "f")), entry("f", b"theirs"))
    assert (root.parent / "outside" / "f").read_text() == "mine"
    assert (root / "f").read_text() == "theirs"


@pytest.mark.parametrize("target", ["../outside/f", "outside-by-link/f", "missing"])
def test_a_hard_link_reaches_only_files_of_the_image(layout, root, target):
    (root.parent / "outside" / "f").write_text("secret")
    (root / "outside-by-link").symlink_to(root.parent / "outside")
    with pytest.raises((DeniedError, InvalidInputError)):
        unpack(layout, root, entry("f", kind=tarfile.LNKTYPE, link=target))
    assert not (root / "f").exists()


def test_links_that_go_in_circles_are_refused(root):
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(DeniedError):
        resolve_inside(root, "a/f")


def test_a_link_of_a_lower_layer_is_followed_inside(layout, root):
    unpack(layout, root, folder("usr/"), folder("usr/lib/"), link("lib", "usr/lib"))
    unpack(layout, root, entry("lib/libc.so", b"x"))
    assert files(root) == ["lib", "usr/lib/libc.so"]


def test_a_whiteout_removes_what_a_lower_layer_brought(layout, root):
    unpack(layout, root, entry("a/keep", b"1"), entry("a/drop", b"2"), entry("b/c/d", b"3"))
    unpack(layout, root, entry("a/.wh.drop", b""), entry(".wh.b", b""))
    assert files(root) == ["a/keep"]


def test_an_opaque_whiteout_keeps_what_its_own_layer_brings(layout, root):
    unpack(layout, root, entry("a/old", b"1"), entry("a/sub/old", b"1"), entry("b", b"1"))
    unpack(layout, root, entry("a/new", b"2"), entry("a/.wh..wh..opq", b""), entry("a/sub/new", b"2"))
    assert files(root) == ["a/new", "a/sub/new", "b"]


@pytest.mark.parametrize("name", [".wh...", ".wh..", ".wh."])
def test_a_whiteout_of_the_folder_above_is_refused(layout, root, name):
    with pytest.raises(DeniedError):
        unpack(layout, root, entry(f"a/{name}", b""))
    assert root.is_dir()


def test_set_user_id_bits_and_devices_do_not_arrive(layout, root):
    unpack(
        layout,
        root,
        entry("su", b"x", mode=0o6755),
        entry("null", kind=tarfile.CHRTYPE),
        entry("p", kind=tarfile.FIFOTYPE),
    )
    assert files(root) == ["su"]
    assert (root / "su").stat().st_mode & 0o7777 == 0o755


def test_a_damaged_layer_is_noticed_before_it_is_unpacked(layout, root):
    stored = layout.put_blob(tar_of(entry("f", b"good")), LAYER_TAR)
    layout.blob_path(stored.digest).write_bytes(tar_of(entry("f", b"evil")))
    with pytest.raises(IntegrityError):
        unpack_layer(layout, stored, root, diff_id=None, max_bytes=1 << 20)
    assert files(root) == []


def test_a_layer_that_unpacks_to_something_else_is_refused(layout, root):
    stored = layout.put_blob(gzip.compress(tar_of(entry("f", b"x"))), LAYER_GZIP)
    with pytest.raises(IntegrityError):
        unpack_layer(layout, stored, root, diff_id=digest_of(b"another tar"), max_bytes=1 << 20)


def test_a_layer_larger_than_allowed_is_refused(layout, root):
    with pytest.raises(InvalidInputError) as refused:
        unpack(layout, root, entry("a", bytes(600)), entry("b", bytes(600)), max_bytes=1000)
    assert refused.value.limit == "1000 bytes"


@pytest.mark.parametrize("kind", [LAYER_TAR, LAYER_GZIP])
def test_bytes_that_are_no_tar_are_said_to_be_none(layout, root, kind):
    stored = layout.put_blob(b"not a tar at all" * 100, kind)
    with pytest.raises(InvalidInputError, match="not a tar"):
        unpack_layer(layout, stored, root, diff_id=None, max_bytes=1 << 20)
