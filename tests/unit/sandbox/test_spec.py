"""Specs and results travel as JSON and come back the same; what is malformed is refused."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from insitu.domain.errors import InvalidInputError
from insitu.sandbox.contract import SandboxSettings
from insitu.sandbox.keeper import KeeperRequest
from insitu.sandbox.spec import Limits, Mount, Reason, SandboxResult, SandboxSpec

LIMITS = Limits(memory_bytes=1 << 30, cpus=1.5, processes=64, wall_s=60, scratch_bytes=1 << 20, file_bytes=1 << 20)
SPEC = SandboxSpec(
    name="j-1.1",
    rootfs=Path("/bases/a/rootfs"),
    argv=("/usr/bin/python3", "train.py"),
    env={"A": "1"},
    workdir="/job/code",
    mounts=(Mount(Path("/data"), "/job/inputs/data"), Mount(Path("/out"), "/job/outputs", writable=True)),
    limits=LIMITS,
    uid=1000,
    gid=1000,
    selftest=("/job/inputs/data",),
)


def test_a_spec_comes_back_the_same():
    assert SandboxSpec.from_json(SPEC.to_json()) == SPEC
    bare = dataclasses.replace(SPEC, mounts=())
    assert SandboxSpec.from_json(bare.to_json()) == bare


def test_a_result_comes_back_the_same():
    now = datetime.now(UTC)
    for result in (SandboxResult(Reason.LOST), SandboxResult(Reason.EXITED, 3, None, "x", now, now)):
        assert SandboxResult.from_json(result.to_json()) == result


def test_a_request_comes_back_the_same_in_one_line():
    settings = SandboxSettings(Path("/state"), podman="/opt/podman")
    request = KeeperRequest(SPEC, "podman", Path("/jobs/1"), settings, Path("/jobs/1/control.sock"))
    assert KeeperRequest.from_json(request.to_json()) == request
    assert "\n" not in request.to_json()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../x"},
        {"name": "UPPER"},
        {"name": ""},
        {"argv": ()},
        {"uid": 0},
        {"gid": 0},
        {"uid": -1},
        {"workdir": "job"},
        {"env": {"A=B": "1"}},
        {"env": {"": "1"}},
    ],
)
def test_a_spec_that_would_weaken_a_guard_is_refused(changes):
    with pytest.raises(InvalidInputError):
        dataclasses.replace(SPEC, **changes)


@pytest.mark.parametrize("target", ["relative", "/a/../b", "/a//b", "/a/", ""])
def test_a_mount_goes_to_a_plain_place(target: str):
    with pytest.raises(InvalidInputError):
        Mount(Path("/data"), target)


def test_a_mount_comes_from_an_absolute_path():
    with pytest.raises(InvalidInputError):
        Mount(Path("data"), "/data")


@pytest.mark.parametrize("name", ["memory_bytes", "cpus", "processes", "wall_s", "scratch_bytes", "open_files"])
def test_no_limit_is_nothing(name: str):
    with pytest.raises(InvalidInputError):
        dataclasses.replace(LIMITS, **{name: 0})


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "nonsense", json.dumps({"name": "a"})])
def test_what_is_no_spec_or_result_is_refused(text: str):
    for kind in (SandboxSpec, SandboxResult, KeeperRequest):
        with pytest.raises(InvalidInputError):
            kind.from_json(text)


def test_an_unknown_field_is_refused():
    with pytest.raises(InvalidInputError):
        SandboxSpec.from_json(json.dumps({**SPEC.as_dict(), "network": True}))
