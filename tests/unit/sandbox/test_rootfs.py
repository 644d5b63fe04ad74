"""The base becomes a root without being written to, whatever it holds."""

from pathlib import Path

import pytest

from insitu.domain.errors import InvalidInputError
from insitu.sandbox.rootfs import find_python, plan_root


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for folder in ("usr/bin", "usr/lib", "etc", "opt/conda/bin", "home", "proc", "sys", "dev", "tmp", "run/lock"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "etc/passwd").touch()
    (tmp_path / "usr/bin/python3").symlink_to("python3.11")
    (tmp_path / "opt/conda/bin/python").touch()
    (tmp_path / "tmp/left").touch()
    return tmp_path


def test_what_the_base_has_is_bound_and_links_stay_links(base: Path):
    plan = plan_root(base, [])
    assert {target for _, target in plan.binds} == {"/usr", "/etc", "/opt"}
    assert plan.links == (("/bin", "usr/bin"),)
    assert plan.folders == ("/home",)


def test_a_mount_beside_what_the_base_has_hides_none_of_it(base: Path):
    plan = plan_root(base, ["/opt/env", "/job/code"])
    assert (base / "opt/conda", "/opt/conda") in plan.binds
    assert {"/opt", "/job"} <= set(plan.folders)
    assert "/opt" not in {target for _, target in plan.binds}
    assert "/opt/env" not in plan.folders  # made by whoever mounts there


def test_parents_come_before_their_children(base: Path):
    folders = plan_root(base, ["/job/inputs/deep/er/data", "/usr/new/place"]).folders
    for folder in folders:
        parent = str(Path(folder).parent)
        assert parent == "/" or folders.index(parent) < folders.index(folder)


def test_own_places_never_come_from_the_base(base: Path):
    plan = plan_root(base, ["/run/insitu/gate.sock"])
    named = {*plan.folders, *(target for _, target in plan.binds), *(path for path, _ in plan.links)}
    assert not {name for name in named if name.split("/")[1] in ("proc", "sys", "dev", "tmp", "run")}


def test_a_link_that_points_out_of_the_base_is_not_followed(base: Path):
    (base / "srv").symlink_to("/etc")
    plan = plan_root(base, [])
    assert ("/srv", "/etc") in plan.links
    assert "/srv" not in {target for _, target in plan.binds}


@pytest.mark.parametrize("target", ["/bin/tool", "/etc/passwd/x"])
def test_a_mount_below_a_link_or_a_file_is_refused(base: Path, target: str):
    with pytest.raises(InvalidInputError):
        plan_root(base, [target])


def test_a_base_that_is_not_there_or_has_no_python_is_refused(base: Path, tmp_path: Path):
    with pytest.raises(InvalidInputError):
        plan_root(tmp_path / "nothing", [])
    assert find_python(base) == "/usr/bin/python3"
    (base / "usr/bin/python3").unlink()
    with pytest.raises(InvalidInputError):
        find_python(base)
