"""What an image has to be to become the root of a job's sandboxes, and what unpacking it leaves out or refuses."""

import io
import tarfile
from pathlib import Path

import pytest

from insitu.domain.errors import DeniedError, InsituError, InvalidInputError
from insitu.images import unpack
from insitu.images.job_image import JobImage, find_image, find_python, unpack_image
from insitu.images.layout import OciLayout
from tests.image_maker import link, make_image, tar_of

PYTHON = {"usr/bin/python3.11": b"#!", "etc/hostname": b"x"}


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "layout")


def take(layout: OciLayout, *tars: bytes, max_bytes: int = 1 << 20, **config: object) -> JobImage:
    digest = make_image(layout, *tars, **config)  # type: ignore[arg-type]
    return unpack_image(layout, digest, layout.path.parent / "images", platform="x86_64-linux", max_bytes=max_bytes)


def test_an_image_is_unpacked_once_and_found_by_its_digest(layout: OciLayout):
    image = take(layout, tar_of(PYTHON, link("usr/bin/python3", "python3.11")), env=["PATH=/usr/bin", "A=b=c", "odd"])
    assert (image.interpreter, image.env) == ("/usr/bin/python3", {"PATH": "/usr/bin", "A": "b=c"})
    assert find_image(image.digest, layout.path.parent / "images") == image
    for blob in (layout.path / "blobs/sha256").iterdir():
        blob.unlink()
    assert unpack_image(layout, image.digest, layout.path.parent / "images", platform="x86_64-linux") == image


def test_a_layer_removes_what_layers_below_it_brought(layout: OciLayout):
    below = tar_of({**PYTHON, "usr/bin/python3": b"#!", "srv/a": b"1", "srv/b": b"2", "data/old": b"3"})
    image = take(layout, below, tar_of({"srv/.wh.a": b"", "data/.wh..wh..opq": b"", "data/new": b"4"}))
    names = sorted(str(path.relative_to(image.rootfs)) for path in image.rootfs.rglob("*") if path.is_file())
    assert [name for name in names if name.startswith(("srv", "data"))] == ["data/new", "srv/b"]


@pytest.mark.parametrize(
    ("path", "interpreter"),
    [
        ("/opt/venv/bin:/usr/bin", "/opt/venv/bin/python3"),
        ("/nowhere:relative:/loop/bin:/usr/bin", "/usr/bin/python3"),
        ("/opt/climbs/bin:/usr/bin", "/opt/climbs/bin/python3"),  # `..` of a link stops at the image's own root
    ],
)
def test_the_interpreter_is_the_first_python3_on_the_image_s_own_path(tmp_path: Path, path: str, interpreter: str):
    for folder in ("usr/bin", "opt/venv/bin", "opt/climbs/bin", "loop/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "usr/bin/python3.11").touch(0o755)
    (tmp_path / "usr/bin/python3").symlink_to("python3.11")
    (tmp_path / "opt/venv/bin/python3").symlink_to("/usr/bin/python3")
    (tmp_path / "opt/climbs/bin/python3").symlink_to("../../../../../../usr/bin/python3")
    (tmp_path / "loop/bin/python3").symlink_to("python3")
    assert find_python(tmp_path, path) == interpreter


@pytest.mark.parametrize("target", ["/usr/bin/python3", "python3.9", "/etc"])
def test_a_python_that_is_not_in_the_image_is_none(tmp_path: Path, target: str):
    (tmp_path / "bin").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "bin/python3").symlink_to(target)
    with pytest.raises(InvalidInputError) as refused:
        find_python(tmp_path, "/bin")
    assert (refused.value.code, refused.value.rule) == ("image-python", "image-python")
    assert "PATH=/bin" in refused.value.measure


@pytest.mark.parametrize(
    "entry",
    [
        tar_of({"job/code/train.py": b"x"}),
        tar_of({"opt/env/bin/python": b"x"}),
        tar_of({"job": b"a file"}),
        tar_of({}, link("job", "/etc")),
        tar_of({}, link("opt", "/usr")),
        tar_of({"etc/ld.so.preload": b"/x.so"}),
        tar_of({"conf/ld.so.preload": b"/x.so"}, link("etc", "conf")),
        tar_of({}, link("etc/ld.so.preload", "/elsewhere")),
    ],
)
def test_an_image_that_stands_where_a_sandbox_mounts_or_preloads_is_refused(layout: OciLayout, entry: bytes):
    python = tar_of({"usr/bin/python3": b"#!"})
    with pytest.raises(DeniedError) as refused:
        take(layout, entry, python)
    assert (refused.value.code, refused.value.rule) == ("image-refused", "image-root")
    assert not list((layout.path.parent / "images").iterdir())


def test_an_image_for_another_platform_is_refused(layout: OciLayout):
    with pytest.raises(InvalidInputError) as refused:
        take(layout, tar_of({"usr/bin/python3": b"#!"}), architecture="arm64")
    assert (refused.value.code, refused.value.measure) == ("image-platform", "aarch64-linux")


def test_devices_are_left_out_and_nobody_gains_a_uid(layout: OciLayout):
    device, pipe, rooted = tarfile.TarInfo("dev/mem"), tarfile.TarInfo("srv/pipe"), tarfile.TarInfo("usr/bin/su")
    device.type, pipe.type, rooted.mode = tarfile.CHRTYPE, tarfile.FIFOTYPE, 0o6755
    image = take(layout, tar_of({"usr/bin/python3": b"#!"}, device, pipe, rooted))
    assert not (image.rootfs / "dev/mem").exists()
    assert not (image.rootfs / "srv/pipe").exists()
    assert (image.rootfs / "usr/bin/su").stat().st_mode & 0o7777 == 0o755


# -- what a small layer may become -------------------------------------------------------------------------------------


def refused_as_too_large(layout: OciLayout, tar: bytes) -> InsituError:
    with pytest.raises(InvalidInputError) as refused:
        take(layout, tar)
    assert refused.value.code == "image-too-large"
    assert not list((layout.path.parent / "images").iterdir())
    return refused.value


def test_an_image_that_unpacks_to_more_than_there_is_room_for_is_refused(layout: OciLayout):
    assert "1048576" in refused_as_too_large(layout, tar_of({"big": bytes(2 << 20)})).limit


def test_layers_count_together(layout: OciLayout):
    half = bytes(600_000)
    with pytest.raises(InvalidInputError) as refused:
        take(layout, tar_of({"a": half}), tar_of({"b": half}))
    assert refused.value.code == "image-too-large"


def test_a_sparse_file_counts_as_what_it_says_that_it_is(layout: OciLayout):
    entry = tarfile.TarInfo("sparse")
    entry.size = 0
    entry.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.size": str(1 << 40), "GNU.sparse.numblocks": "0"}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(entry)
    refused_as_too_large(layout, made.getvalue())


def test_files_of_no_bytes_are_counted_too(layout: OciLayout, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpack, "_MAX_ENTRIES", 100)
    refused_as_too_large(layout, tar_of({f"f{number}": b"" for number in range(101)}))


def test_what_a_tar_says_of_an_entry_is_bounded_before_it_is_read(layout: OciLayout):
    entry = tarfile.TarInfo("x")
    entry.pax_headers = {"comment": "c" * (2 << 20)}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(entry)
    assert "to say of one entry" in refused_as_too_large(layout, made.getvalue()).measure


def test_what_follows_a_tar_s_end_is_not_read_for_ever(layout: OciLayout, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpack, "_MAX_ENTRIES", 10)
    refused_as_too_large(layout, tar_of({"usr/bin/python3": b"#!"}) + bytes(4 << 20))
