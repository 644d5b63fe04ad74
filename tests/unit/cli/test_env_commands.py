"""`insitu env`: packed where there is an index, taken in at a hub's folder, at a running hub, and at a site."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from insitu.agent.environments import lock_in, wheels_in
from insitu.agent.folder import SiteFolder
from insitu.agent.settings import AgentSettings, save_settings
from insitu.cli import main
from insitu.domain.digests import Digest, digest_of, digest_of_file
from insitu.images.wheel_store import WheelStore
from insitu.wire.people import Role
from tests.package_index import PackageIndex, a_lock
from tests.unit.hub.hub_world import a_hub

PLACES = ("--for", "3.11/x86_64-linux", "--for", "3.11/aarch64-linux")


@pytest.fixture(autouse=True)
def nobody_s_machine(monkeypatch, tmp_path):
    for name in ("INSITU_SITE_DIR", "INSITU_HUB_DATA", "INSITU_HUB_URL", "INSITU_TOKEN", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("INSITU_CONFIG", str(tmp_path / "config"))


@pytest.fixture
def index(tmp_path, monkeypatch):
    with PackageIndex(tmp_path / "index") as running:
        monkeypatch.setenv("INSITU_INDEX_URL", running.simple_url)
        for machine in ("x86_64", "aarch64"):
            running.add("one", tag=f"cp311-cp311-manylinux_2_28_{machine}")
        running.add("two")
        yield running


def insitu(capsys, *arguments: str | Path):
    code = main.run([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def job(tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "requirements.txt").write_text("one==1.0\ntwo\n")
    (folder / "job.yaml").write_text("command: python x.py\nenvironment: {requirements: requirements.txt}\n")
    return folder / "job.yaml"


@pytest.fixture
def bundle(capsys, index, job, tmp_path):
    code, found = insitu(capsys, "env", "export", job, "-o", tmp_path / "bundle.tar", *PLACES)
    assert code == 0, found
    return Path(found["file"])


@pytest.fixture
def site(tmp_path):
    folder = SiteFolder(tmp_path / "site")
    folder.make(gate_gid=None)
    save_settings(folder, AgentSettings(site="leeds", hub="http://127.0.0.1:1"))
    return folder


def test_a_job_is_packed_with_the_wheels_of_every_platform_and_packed_again_it_is_the_same(
    capsys, index, job, bundle, tmp_path
):
    code, again = insitu(capsys, "env", "export", job, "-o", tmp_path / "again.tar", *PLACES)
    assert code == 0
    assert again["digest"] == digest_of_file(bundle)
    assert again["wheels"] == [
        "one-1.0-cp311-cp311-manylinux_2_28_aarch64.whl",
        "one-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "two-1.0-py3-none-any.whl",
    ]
    assert [(lock["python"], lock["platform"]) for lock in again["locks"]] == [
        ("3.11", "x86_64-linux"),
        ("3.11", "aarch64-linux"),
    ]


def test_a_lock_is_packed_for_all_that_it_has_wheels_for_or_for_one_place(capsys, index, tmp_path):
    lock = tmp_path / "pylock.toml"
    lock.write_bytes(a_lock(*(index.locked(path) for path in sorted(index.folder.glob("two*.whl")))))
    code, found = insitu(capsys, "env", "export", lock, "-o", tmp_path / "bundle.tar")
    assert (code, found["wheels"]) == (0, ["two-1.0-py3-none-any.whl"])
    assert found["locks"][0]["digest"] == digest_of(lock.read_bytes())
    code, refused = insitu(capsys, "env", "export", lock, "-o", tmp_path / "b.tar", "--for", "3.11/sparc-linux")
    assert (code, refused["error"]["code"]) == (2, "place")
    assert not (tmp_path / "b.tar").exists()


def test_a_site_takes_a_bundle_with_its_locks_and_each_wheel_once(capsys, bundle, site):
    code, found = insitu(capsys, "env", "import", bundle, "--dir", site.root)
    assert (code, len(found["new"]), found["known"], len(found["locks"])) == (0, 3, [], 2)
    assert len(list(wheels_in(site.cache).root.glob("??/*/*.whl"))) == 3
    for digest in found["locks"]:
        assert digest_of(lock_in(site.cache, Digest(digest)).read_bytes()) == digest
    assert insitu(capsys, "env", "import", bundle, "--dir", site.root)[1]["new"] == []


def test_a_hub_that_stands_still_takes_it_into_its_folder(capsys, bundle, tmp_path):
    code, refused = insitu(capsys, "env", "import", bundle, "--data", tmp_path)
    assert (code, refused["error"]["code"]) == (5, "no-hub-folder")
    with a_hub(tmp_path / "hub"):
        pass
    code, found = insitu(capsys, "env", "import", bundle, "--data", tmp_path / "hub")
    assert (code, len(found["new"])) == (0, 3)
    assert len(list(WheelStore(tmp_path / "hub" / "wheels").root.glob("??/*/*.whl"))) == 3


def test_a_hub_that_runs_takes_it_from_an_admin_and_from_nobody_else(capsys, bundle, tmp_path, monkeypatch):
    with a_hub(tmp_path / "hub") as world:
        monkeypatch.setenv("INSITU_HUB_URL", str(world.client.base_url))
        monkeypatch.setenv("INSITU_TOKEN", world.person("jo", Role.STEWARD).token)
        code, refused = insitu(capsys, "env", "import", bundle)
        assert (code, refused["error"]["code"]) == (3, "role"), refused
        monkeypatch.setenv("INSITU_TOKEN", world.admin_token)
        code, found = insitu(capsys, "env", "import", bundle)
        assert (code, len(found["new"]), found["known"]) == (0, 3, [])
        assert len(insitu(capsys, "env", "import", bundle)[1]["known"]) == 3


def test_a_damaged_bundle_is_refused_by_the_wheel_that_is_damaged(capsys, bundle, site):
    content = bundle.read_bytes()
    at = content.index(b"def main()") - 10
    bundle.write_bytes(content[:at] + b"!" + content[at + 1 :])
    code, refused = insitu(capsys, "env", "import", bundle, "--dir", site.root)
    assert (code, refused["error"]["code"], refused["error"]["rule"]) == (1, "wheel-hash", "hashed-wheels")


@pytest.mark.parametrize("missing", ["bundle.tar", "nothing/bundle.tar"])
def test_a_bundle_that_is_not_there_is_said(capsys, site, tmp_path, missing):
    code, refused = insitu(capsys, "env", "import", tmp_path / missing, "--dir", site.root)
    assert (code, refused["error"]["code"]) == (5, "no-bundle")


def test_hub_and_site_at_once_are_asked_about(capsys, bundle, site, tmp_path):
    assert insitu(capsys, "env", "import", bundle, "--dir", site.root, "--data", tmp_path)[0] == 2
