from pathlib import Path

import pytest

from insitu.gate.known.data import KnownData
from tests.unit.gate.gate_world import index_of, wdbc


@pytest.fixture(scope="session")
def wdbc_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return index_of(wdbc(), tmp_path_factory.mktemp("wdbc") / "index")


@pytest.fixture(scope="session")
def wdbc_known(wdbc_index: Path) -> KnownData:
    return KnownData.open(wdbc_index)
