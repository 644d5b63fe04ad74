"""A hub for each test, on SQLite, with a data scientist and a site."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.hub.hub_world import Agent, HubWorld, Scientist, a_hub


@pytest.fixture
def world(tmp_path: Path) -> Iterator[HubWorld]:
    with a_hub(tmp_path / "hub") as found:
        yield found


@pytest.fixture
def alice(world: HubWorld) -> Scientist:
    return world.person("alice")


@pytest.fixture
def leeds(world: HubWorld) -> Agent:
    return world.site("leeds")
