"""What all tests share: the real parts of tests/services.py, and which of them run one after the other."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

pytest_plugins = ["tests.services", "tests.sandbox_rig"]

_OF_THE_MACHINE = (
    "tests/attacks/",
    "tests/interrupted/",
    "tests/journey/",
    "tests/architecture/test_readme.py",
    "tests/contracts/test_sandbox",
    "tests/contracts/test_intake_starting.py",
)
_OF_THE_GATE_ALONE = (
    "tests/attacks/test_log_prints_rows.py",
    "tests/attacks/test_model_",
    "tests/attacks/test_published_data_",
    "tests/attacks/test_weights_",
)


class TwoLines(LoadScopeScheduling):
    """All tests that share ports, engines and control groups in one process, and the others file by file beside them."""

    def _split_scope(self, nodeid: str) -> str:
        shares = nodeid.startswith(_OF_THE_MACHINE) and not nodeid.startswith(_OF_THE_GATE_ALONE)
        return "machine" if shares else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """With `--dist loadgroup` as above. (Its own marks have no effect with pytest 9.2 and xdist 3.8.)"""
    return TwoLines(config, log) if config.getvalue("dist") == "loadgroup" else None
