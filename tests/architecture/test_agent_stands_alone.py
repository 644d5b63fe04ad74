"""What a site installs, and what a data scientist installs, works without the hub's packages.

Each is installed for real, from the lock, into an environment of its own. So a site's reviewer reads the list of the
`agent` extra and no more, and a command line does not bring a web server and a database.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]
HUB_ONLY = ["sqlalchemy", "alembic", "psycopg", "fastapi", "mlflow"]
# Modules that are imported on use and need an extra of their own; what says so when it is missing is tested elsewhere.
ON_USE = ["insitu.agent.stores.through_azure_sdk"]
AT_A_SITE = ["agent", "intake", "sandbox", "gate", "deploy", "images", "wire", "domain"]
AT_A_DESK = ["sdk", "wire", "domain"]

IMPORT_ALL = f"""
import importlib, pkgutil, sys
on_use = {ON_USE!r}
for package in sys.argv[1:]:
    root = importlib.import_module("insitu." + package)
    for module in pkgutil.walk_packages(root.__path__, root.__name__ + "."):
        if not module.name.endswith("__main__") and module.name not in on_use:  # importing that would start it
            importlib.import_module(module.name)
"""


def installed(folder: Path, *extras: str) -> Path:
    """The `bin` folder of an environment that holds the project with these extras, as the lock has them."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
        "UV_PROJECT_ENVIRONMENT": str(folder / "venv"),
        "UV_PYTHON_DOWNLOADS": "never",
    }
    # A copy, so that building the wheel writes nothing into the sources, and the sources can't be imported by chance.
    sources = folder / "sources"
    sources.mkdir(parents=True)
    for name in ("pyproject.toml", "uv.lock", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    shutil.copytree(ROOT / "src", sources / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "examples", sources / "examples")
    options = [option for extra in extras for option in ("--extra", extra)]
    command = [find_uv_bin(), "sync", "--quiet", "--locked", "--no-dev", "--no-editable", *options]
    run(command, cwd=sources, env=environment)
    return folder / "venv" / "bin"


def run(command: list[str], **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)
    assert done.returncode == 0, f"{command[:3]} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("site"), "agent")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("desk"))


@pytest.mark.parametrize("who", ["site", "desk"])
def test_the_hubs_packages_are_not_installed(who, request):
    python = request.getfixturevalue(who) / "python"
    script = f"from importlib.util import find_spec; print([name for name in {HUB_ONLY} if find_spec(name)])"
    assert run([str(python), "-c", script]).strip() == "[]"


@pytest.mark.parametrize(("who", "packages"), [("site", AT_A_SITE), ("desk", AT_A_DESK)])
def test_every_module_of_that_place_imports(who, packages, request):
    python = request.getfixturevalue(who) / "python"
    run([str(python), "-c", IMPORT_ALL, *packages])


def test_the_agents_entry_point_imports(site):
    run([str(site / "python"), "-c", "import insitu.agent.main"])


def test_the_agents_commands_are_offered_at_a_site(site):
    assert "start" in run([str(site / "insitu"), "agent", "--help"])


def test_the_command_line_works_at_a_desk(desk):
    assert "run" in run([str(desk / "insitu"), "--help"])
