"""The meter on a terminal, at the hub and at the site."""

import io

from rich.console import Console

from insitu.cli.meter_text import bar, of_hub, of_site

CHANNELS = [
    {"channel": "metric", "entries": 12, "left_bytes": 1200},
    {"channel": "log", "entries": 3, "left_bytes": 90},
]


def shown(parts) -> str:
    console = Console(file=io.StringIO(), width=120)
    for part in parts:
        console.print(part)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_anything_that_left_is_a_mark_and_a_full_budget_is_full():
    assert [bar(part, 1000).plain.count("█") for part in (0, 1, 500, 1000, 9000)] == [0, 1, 10, 20, 20]
    assert bar(0, 0).plain.endswith("  0 %")


def test_the_hubs_view_has_channels_and_a_share_where_the_site_tells_it():
    text = shown(of_hub({"channels": CHANNELS, "left_bytes": 1290, "room_bytes": 2000}))
    assert "log lines" in text
    assert "64 %" in text
    assert "%" not in shown(of_hub({"channels": CHANNELS, "left_bytes": 1290, "room_bytes": None}))


def test_the_sites_view_has_every_budget():
    job = {
        "job_id": "j-1",
        "name": "wdbc",
        "state": "running",
        "submitter": "alice",
        "datasets": ["wdbc@1"],
        "channels": CHANNELS,
        "left_bytes": 1290,
        "could_carry_bytes": 320,
        "budgets": [
            {"rule": "budget.per_job", "whose": "", "left_bytes": 1290, "limit_bytes": 5000},
            {"rule": "budget.per_dataset_per_month", "whose": "wdbc", "left_bytes": 4900, "limit_bytes": 5000},
        ],
    }
    text = shown(of_site(job))
    for part in ("wdbc  j-1", "by alice", "metrics", "26 %", "budget.per_dataset_per_month wdbc", "98 %", "320 B"):
        assert part in text
