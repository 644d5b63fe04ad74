"""A steward whose machine has the wrong time is told so, and by how much, and not that the key is wrong.

Azurite looks at the times in a shared access signature, and not at the date of a request that was signed with the key.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from insitu.agent.datastores import add_datastore
from insitu.agent.folder import SiteFolder
from insitu.agent.settings import AgentSettings, save_settings
from tests.services import AZURITE_ACCOUNT, AZURITE_KEY, Azurite, program

# A signature that begins now and ends in an hour, by the clock of whoever makes it.
SIGN = f"""
from datetime import UTC, datetime, timedelta
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas
now = datetime.now(UTC)
print(generate_account_sas({AZURITE_ACCOUNT!r}, {AZURITE_KEY!r}, ResourceTypes(service=True, container=True, object=True),
      AccountSasPermissions.from_string("rl"), now + timedelta(hours=1), start=now))
"""


def at(shift: str, *arguments: str | Path) -> str:
    """What a program says whose clock is so far from ours."""
    command = [program("faketime", "faketime"), "-f", shift, sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


@pytest.fixture(scope="module")
def container(azurite: Azurite) -> str:
    azurite.container("clocks").upload_blob("a.csv", b"a,b\n1,2\n")
    return azurite.endpoint


def checked(tmp_path: Path, endpoint: str, shift: str, api_version: str) -> dict[str, Any]:
    site = SiteFolder(tmp_path / "site")
    site.make()
    save_settings(site, AgentSettings(hub="http://127.0.0.1:1"))
    token = at(shift, "-c", SIGN).strip()
    secret = f'sas_token: "{token}"'
    add_datastore(
        site, "private", "az://clocks", endpoint=endpoint, api_version=api_version, source="file", secret=secret
    )
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from insitu.agent.datastores import find_datastore\n"
        "from insitu.agent.folder import SiteFolder\n"
        "from insitu.agent.stores.check import check_store\n"
        "store = find_datastore(SiteFolder(Path(sys.argv[1])), 'private')\n"
        "steps = check_store(store.address, lambda: store.open({}, patient=False))\n"
        "print(json.dumps({step.step: step.as_dict() for step in steps}))\n"
    )
    return json.loads(at(shift, "-c", code, site.root))


@pytest.mark.parametrize("api_version", ["", "2019-02-02"])  # obstore, and Azure's own library
@pytest.mark.parametrize(("shift", "says"), [("+2h", "120 minutes ahead of"), ("-2h", "120 minutes behind")])
def test_a_clock_that_is_wrong_is_named_with_how_far(
    tmp_path: Path, container: str, shift: str, says: str, api_version: str
) -> None:
    login = checked(tmp_path, container, shift, api_version)["login"]
    assert (login["state"], login["code"]) == ("failed", "store-clock-skew"), login
    assert says in login["what"]
    assert "timedatectl" in login["hint"]


def test_a_clock_that_is_right_is_no_matter(tmp_path: Path, container: str) -> None:
    steps = checked(tmp_path, container, "+0", "")
    assert {step["state"] for step in steps.values()} == {"ok"}, steps
