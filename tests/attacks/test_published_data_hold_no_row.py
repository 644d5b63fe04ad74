"""A steward publishes as much as there is to publish. No row's value may lie beyond the site for it.

Every file of the hub is read (database, log, disk), and all that it answers about the dataset, for values that fewer
than ten rows have: the ends of each column, rare categories, names, and the path that somebody wrote into a header.
"""

from __future__ import annotations

import csv
import json
import random
import struct
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from insitu.cli import main
from tests.rig import World, running_world

ROWS = 400
COLUMNS = ["name", "/mnt/canary-ward/export.csv", "level", "dose", "ward"]
NUMBERS = (COLUMNS[1], "level", "dose")


def table() -> list[list[object]]:
    draw = random.Random(7)
    rows: list[list[object]] = [
        [
            f"Zuqua{at:04d} Vexjor",
            # The few at both ends can be told from all others: with them a range would name somebody.
            730_000_019 + at if at < 3 else draw.randrange(1000, 2000),
            f"{draw.uniform(3, 5):.9f}" if at % 7 else f"{88_171.0 + at + draw.random():.7f}" if at < 21 else "",
            f"{draw.gauss(0, 1):.9f}",
            "canary-isolation" if at < 9 else draw.choice(["north", "south"]),
        ]
        for at in range(ROWS)
    ]
    draw.shuffle(rows)
    return rows


def canaries() -> list[str]:
    """Values that no chance puts anywhere."""
    rows = table()
    by_column = [[str(row[at]) for row in rows] for at in range(len(COLUMNS))]
    found = {*by_column[0], "canary-isolation", "canary-ward", "people.csv"}
    found |= {value for value in by_column[1] if len(value) > 6}
    found |= {value for column in by_column[2:4] for value in column if value}
    return sorted(found)


def files_below(folder: Path) -> Iterator[bytes]:
    yield from (path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def found_in(data: bytes) -> list[str]:
    lowered = data.lower()
    plain = [one for one in canaries() if one.encode().lower() in lowered]
    packed = [one for one in canaries() if one.replace(".", "").isdigit() and struct.pack("<d", float(one)) in data]
    return plain + packed


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, base_layout: Path) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("published"), base_layout) as running:
        with (running.folder / "data" / "people.csv").open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *table()])
        running.console(
            "data_add", name="people", datastore="private", path="people.csv", format="csv", description="people"
        )
        yield running


def offered(world: World, owner: str) -> bool:
    return any(one.name == "people" and one.owner == owner for one in world.alice.datasets())


def publish(world: World, *options: str) -> int:
    return main.run(["data", "publish", "people", *options, "--yes", "--dir", str(world.site.root)])


def test_nothing_of_a_row_is_at_the_hub_however_much_was_published(world: World) -> None:
    columns = [f"{name}:range,quartiles,missing" for name in NUMBERS] + ["ward:categories,missing", "name:categories"]
    options = [word for column in columns for word in ("--column", column)]
    assert publish(world, "--owner", "ward", "--minimum-rows", "10", *options) == 0
    world.wait_until(partial(offered, world, "ward"))

    seen = world.alice.dataset("people")
    told = {column.name: column for column in seen.columns}
    assert told["ward"].summary is not None
    assert told["ward"].summary.categories == ["north", "south"]
    assert told["column-2"].summary is not None
    assert told["column-2"].summary.range is not None
    assert told["column-2"].summary.range[1] < 3000

    answers = [seen.model_dump_json(), json.dumps(world.alice.croissant("people"))]
    beyond = {
        "the hub's folder": list(files_below(world.folder / "hub")),
        "the hub's log": [(world.folder / "hub.log").read_bytes()],
        "its answers": [text.encode() for text in answers],
        "the ledger": [world.site.ledger.read_bytes()],
        "the agent's log": [(world.folder / "agent.log").read_bytes()],
    }
    assert len(found_in((world.folder / "data" / "people.csv").read_bytes())) > ROWS, "they are in the data"
    assert {place: [found for data in all_ for found in found_in(data)] for place, all_ in beyond.items()} == {
        place: [] for place in beyond
    }


def test_each_publication_was_in_the_ledger_before_it_was_at_the_hub(world: World) -> None:
    def entries() -> list[dict[str, object]]:
        return [one for one in world.ledger_entries() if one["kind"] == "catalogue" and one["name"] == "people@1"]

    before = len(entries())
    assert publish(world, "--owner", "another") == 0
    world.wait_until(partial(offered, world, "another"))
    assert len(entries()) == before + 1
    assert publish(world, "--withdraw") == 0
    world.wait_until(partial(offered, world, ""))
    assert len(entries()) == before + 2
    digests = [one["digest"] for one in entries()]
    assert all(one != after for one, after in pairwise(digests))
    assert digests[0] == digests[-1], "what was withdrawn is what it was at first, and an entry all the same"
    assert [column.summary for column in world.alice.dataset("people").columns] == [None] * len(COLUMNS)
