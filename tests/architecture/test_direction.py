"""Which package may import which, and which of them alone may hold a heavy or dangerous import.

Every import counts: those inside functions and under TYPE_CHECKING too, since a reviewer of one package has to read
what it names. A package that is not in the table fails, so that a new one is placed on purpose.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "insitu"

MAY_IMPORT = {
    "domain": set(),
    "wire": {"domain"},
    "gate": {"domain"},
    "sandbox": {"domain"},
    "images": {"domain"},
    "deploy": {"sandbox", "images", "domain"},
    "serving": set(),
    "intake": {"gate", "wire", "domain"},
    "agent": {"intake", "sandbox", "gate", "deploy", "images", "wire", "domain"},
    "hub": {"images", "deploy", "wire", "domain"},
    # The client resolves packages (`images.locks`), because whoever resolves picks what runs.
    "sdk": {"images", "wire", "domain"},
    # Beside starting the processes: `policy check` offline, and what `agent doctor` probes.
    "cli": {"sdk", "hub", "agent", "images", "gate", "sandbox", "wire", "domain"},
    # Fakes that pass the contract suites: they speak the contracts, nothing of ours imports them.
    "testing": {"agent", "sandbox", "gate", "images", "deploy", "wire", "domain"},
    # What stands beside the packages: the public names, and `python -m insitu`.
    "__init__": {"sdk", "domain"},
    "__main__": {"cli"},
}

# Inside the hub a lower layer does not know the higher ones; what is not named here serves all of them.
HUB_LAYERS = {"store": 0, "actions": 1, "api": 2, "web": 2, "loops": 2, "app": 3, "main": 4}

# Who alone may import what: (where it is forbidden, what, where it may be all the same).
HTTP_CLIENTS = ("httpx", "requests", "urllib3", "urllib.request", "http.client", "aiohttp", "websockets")
ONLY_HERE = [
    # MLflow's store writes one value at a time; `mlflow_metrics` writes many into MLflow's own tables.
    ("", ("sqlalchemy", "alembic", "psycopg"), ("hub/store/", "hub/mlflow_metrics.py")),
    ("", ("mlflow",), ("hub/tracking.py", "hub/mlflow_")),
    ("", ("fastapi", "starlette"), ("hub/",)),
    # What leaves goes to the hub, and is written down first; from stores the agent reads, by requests without a body.
    ("agent/", HTTP_CLIENTS, ("agent/hub_link.py", "agent/hub_connections.py", "agent/stores/own_connections.py")),
    ("gate/", (*HTTP_CLIENTS, "socket", "socketserver", "http.server", "ssl"), ()),
    # Loading a pickle runs it. The gate reads opcodes with pickletools, which loads nothing.
    ("", ("pickle", "joblib", "cloudpickle", "dill", "shelve"), ("serving/",)),
    ("", ("marshal",), ("images/compile_in_base.py",)),  # writes bytecode, reads none
]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(SOURCE.rglob("*.py")):
        yield file.relative_to(SOURCE).as_posix(), ast.parse(file.read_bytes(), filename=str(file))


def imports_of(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each dotted name that is imported, with its line; `from a import b` counts as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides its direction"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def package_of(place: str) -> str:
    return place.partition("/")[0].removesuffix(".py")


def is_under(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def wrong_direction(place: str, tree: ast.Module) -> Iterator[str]:
    package = package_of(place)
    if package not in MAY_IMPORT:
        yield f"{place}: package {package!r} is not in the table; place it there on purpose"
        return
    for name, line in imports_of(tree):
        root, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if root == "insitu" and target in MAY_IMPORT and target not in {package, *MAY_IMPORT[package]}:
            yield f"{place}:{line}: {package} may not import {target} ({name})"
        if package == "domain" and root != "insitu" and root not in sys.stdlib_module_names:
            yield f"{place}:{line}: domain is standard library alone, and {name} is not"


def wrong_layer(place: str, tree: ast.Module) -> Iterator[str]:
    layer = HUB_LAYERS.get(package_of(place.removeprefix("hub/")))
    if not place.startswith("hub/") or layer is None:
        return
    for name, line in imports_of(tree):
        parts = name.split(".")
        if parts[:2] == ["insitu", "hub"] and len(parts) > 2 and HUB_LAYERS.get(parts[2], layer) > layer:
            yield f"{place}:{line}: inside the hub, this is below {parts[2]} and may not import it"


def wrong_owner(place: str, tree: ast.Module) -> Iterator[str]:
    for forbidden_in, names, allowed in ONLY_HERE:
        if place.startswith(forbidden_in) and not place.startswith(allowed):
            for name, line in imports_of(tree):
                if is_under(name, names):
                    yield f"{place}:{line}: {name} may be imported in {' and '.join(allowed) or 'no module'} of these only"


@pytest.mark.parametrize("rule", [wrong_direction, wrong_layer, wrong_owner])
def test_every_import_goes_in_the_direction_of_the_table(rule):
    found = [fault for place, tree in modules() for fault in rule(place, tree)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "place", "source"),
    [
        (wrong_direction, "gate/x.py", "def f():\n    from insitu.agent import main"),
        (wrong_direction, "hub/x.py", "from insitu import agent"),
        (wrong_direction, "wire/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import insitu.sdk"),
        (wrong_direction, "serving/x.py", "import insitu.domain.errors"),
        (wrong_direction, "domain/x.py", "import pydantic"),
        (wrong_direction, "newcomer/x.py", ""),
        (wrong_layer, "hub/store/x.py", "from insitu.hub.actions import jobs"),
        (wrong_owner, "hub/actions/x.py", "from sqlalchemy.orm import Session"),
        (wrong_owner, "agent/x.py", "import urllib.request"),
        (wrong_owner, "agent/x.py", "from urllib import request"),
        (wrong_owner, "gate/x.py", "import pickle"),
    ],
)
def test_the_rules_see_what_they_forbid(rule, place, source):
    assert list(rule(place, ast.parse(source)))


# Settings are objects built where a process starts and handed on. Each exception says why it can't be.
MAY_READ_ENVIRONMENT = {
    "cli/main.py": "where every command starts",
    "agent/main.py": "where the agent starts",
    "hub/main.py": "where the hub starts",
    "hub/mlflow_environment.py": "MLflow takes some settings from the environment alone, before its import",
    "serving/main.py": "where the serving process starts",
    "serving/__main__.py": "where the serving process starts",
    "sdk/client.py": "Client.from_env, the one door for scripts and notebooks",
}
MAY_READ_ENVIRONMENT_BELOW = ("cli/",)  # all of it is the entry point: each command is a process that somebody started


def environment_reads(tree: ast.Module) -> Iterator[int]:
    names = {"environ", "environb", "getenv", "getenvb"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in names and getattr(node.value, "id", "") == "os":
            yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "os" and names & {alias.name for alias in node.names}:
            yield node.lineno


def test_only_entry_points_read_the_environment():
    found = [
        f"{place}:{line}"
        for place, tree in modules()
        if place not in MAY_READ_ENVIRONMENT and not place.startswith(MAY_READ_ENVIRONMENT_BELOW)
        for line in environment_reads(tree)
    ]
    assert not found, f"build settings at the entry point and hand them on: {', '.join(found)}"


@pytest.mark.parametrize(
    "source", ["import os\nos.environ['A']", "import os\nos.getenv('A')", "from os import environ"]
)
def test_reading_the_environment_is_seen(source):
    assert list(environment_reads(ast.parse(source)))
