"""One world for the whole journey: its steps build on each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import World, running_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, base_layout: Path) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("world"), base_layout) as running:
        yield running
