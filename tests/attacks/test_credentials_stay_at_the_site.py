"""A store's key is at the site alone: in one file of mode 0600, and nowhere that anybody else looks.

A token is made for this test alone, so that it can be looked for: in the hub's folder and log, the agent's log,
database, journals and ledger, what commands print, arguments and environments of everything that runs, and what a job
can find.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Process, World, running_world
from tests.services import Azurite

LOOKS_FOR_IT = """
import os, pathlib
found = [os.environ]
for place in ("/proc", "/job", "/run", "/tmp", "/etc"):
    for name in ("environ", "cmdline", "*.yaml", "*.json"):
        for path in pathlib.Path(place).glob(f"*/{name}"):
            try:
                found.append(path.read_bytes().decode("utf-8", "replace"))
            except OSError:
                pass
print("SIGNATURE" in str(found) or "sig=" in str(found))
"""


def signature(token: str) -> str:
    """The part of it that is the secret, as it stands in the token."""
    return token.rpartition("sig=")[2].partition("&")[0]


def insitu(world: World, *words: str) -> str:
    command = [sys.executable, "-m", "insitu.cli", *words, "--dir", str(world.site.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def holding(folder: Path, secrets: list[str]) -> list[str]:
    forms = [form.encode() for secret in secrets for form in (secret, urllib.parse.unquote(secret))]
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and any(form in path.read_bytes() for form in forms)
    ]


def processes_showing(secret: str, *, but: int) -> list[str]:
    """Whose arguments or environment hold it, without the one process that was given it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        for part in ("cmdline", "environ"):
            try:
                shown = secret.encode() in process.joinpath(part).read_bytes()
            except OSError:
                continue
            if shown and (part == "cmdline" or int(process.name) not in (but, os.getpid())):
                found.append(f"{process.name} {part}")
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, base_layout: Path) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("credentials"), base_layout) as running:
        grant = "{who: [alice], purpose: screening, until: 2099-12-31, runs: 50}"
        running.write_policy(datasets=f"{{wdbc: {grant}, blobs: {grant}}}")
        yield running


def use_everything(world: World, said: list[str]) -> None:
    """Whatever touches a store: check, upload, add, stage for a job, show."""
    source = world.folder / "local.csv"
    source.write_text("a,b\n" + "".join(f"{at}.5,{at * 3 % 17}\n" for at in range(60)))
    said.append(insitu(world, "datastore", "list", "--json"))
    said.append(insitu(world, "datastore", "show", "store"))
    said.append(insitu(world, "datastore", "check", "store", "--json"))
    said.append(insitu(world, "data", "add", "blobs", "--datastore", "store", "--path", "up/*", "--json"))
    added = json.loads(said[-1])
    world.wait_until(lambda: ("blobs", added["version"]) in [(one.name, one.version) for one in world.alice.datasets()])
    folder = world.job_folder(LOOKS_FOR_IT)
    job = folder / "job.yaml"
    job.write_text(job.read_text().replace("wdbc@1", f"blobs@{added['version']}"))
    done = world.alice.wait(world.alice.submit(job).id, timeout_s=90)
    assert done.state == "succeeded", world.logs()
    assert world.log_text(done.id).split() == ["False"]


def test_a_key_from_a_file_lies_in_one_file_of_the_site(world: World, azurite: Azurite, tmp_path: Path) -> None:
    azurite.container("kept").upload_blob("up/x.csv", "a,b\n" + "1.5,2\n" * 60)
    token, expired = azurite.sas(), azurite.sas(hours=-3)
    secrets = [signature(token), signature(expired)]
    given = tmp_path / "credentials"
    given.write_text(f"sas_token: {expired}\n")
    store = ("datastore", "add", "store", "az://kept", "--endpoint", azurite.endpoint, "--credentials-file", str(given))
    said = [insitu(world, *store, "--json"), insitu(world, "datastore", "check", "store", "-v")]
    said.append(insitu(world, "data", "add", "blobs", "--datastore", "store", "--path", "up/*", "-v"))
    assert "store-token-expired" in said[-1]
    given.write_text(f"AZURE_STORAGE_SAS_TOKEN={token}\n")
    said.append(insitu(world, *store, "--replace"))
    use_everything(world, said)
    assert not [text for text in said for secret in secrets if secret in text]
    assert holding(world.folder, secrets) == ["site/datastores.yaml"]
    assert stat.S_IMODE(world.site.datastores.stat().st_mode) == 0o600
    assert processes_showing(secrets[0], but=0) == []


def test_a_key_in_the_agents_environment_goes_to_nothing_that_it_starts(world: World, azurite: Azurite) -> None:
    azurite.container("environment").upload_blob("up/x.csv", "a,b\n" + "1.5,2\n" * 60)
    token = azurite.sas()
    world.stop_agent()
    world.agent = Process(
        "insitu.agent.main",
        *("--dir", str(world.site.root)),
        log=world.folder / "agent.log",
        environment={"AZURE_STORAGE_SAS_TOKEN": token},
    )
    said = [insitu(world, "datastore", "add", "store", "az://environment", "--endpoint", azurite.endpoint, "--replace")]
    use_everything(world, said)
    assert not [text for text in said if signature(token) in text]
    assert holding(world.folder, [signature(token)]) == []
    assert processes_showing(signature(token), but=world.agent.pid) == []


def test_what_is_typed_into_an_address_is_refused_and_not_repeated(world: World, azurite: Azurite) -> None:
    token = azurite.sas()
    said = insitu(world, "datastore", "add", "typed", f"az://kept?{token}", "--endpoint", azurite.endpoint)
    assert "datastore-secret" in said
    assert signature(token) not in said
    assert holding(world.site.root, [signature(token)]) == []
