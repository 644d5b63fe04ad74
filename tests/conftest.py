"""What all tests share: the real parts of tests/services.py, and which of them run one after the other."""

import pytest

pytest_plugins = ["tests.services", "tests.sandbox_rig"]

_FOLDERS = frozenset({"attacks", "interrupted", "journey"})
_FIXTURES = frozenset({"rig", "bubblewrap_rig", "docker_socket"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup`: one process has all tests that share ports, engines and control groups, others the rest."""
    for item in items:
        if _FOLDERS & set(item.path.parts) or _FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("machine"))
