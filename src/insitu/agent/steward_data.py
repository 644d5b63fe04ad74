"""What a steward may ask about the publication of datasets: see `publishing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from insitu.agent import column_names, publishing
from insitu.agent.catalogue import DatasetVersion, find_dataset
from insitu.agent.datastores import open_datastore

if TYPE_CHECKING:
    from insitu.agent.steward import Steward


def publish(
    steward: Steward,
    *,
    name: str,
    version: int | None = None,
    changes: dict[str, Any],
    apply: bool,
    withdraw: bool = False,
) -> dict[str, Any]:
    """What the hub would be told of a version by `publish.yaml` and `changes`; from now on, if `apply`."""
    found = find_dataset(steward.folder, name, version)
    before = publishing.Publication() if withdraw else publishing.read_publication(found)
    wanted = publishing.change(before, changes)
    if any(
        "categories" in column.publish for column in wanted.columns.values()
    ):  # words are counted in the data itself
        steward.data.stage(found.staged, lambda: open_datastore(steward.folder, found.datastore, steward.environment))
    told = publishing.publish(found, wanted, write=apply)
    if apply:
        steward.changed()
    return {"name": found.name, "version": found.version, "file": str(found.folder / "publish.yaml")} | told.as_dict()


def with_publication(version: DatasetVersion) -> dict[str, Any]:
    """A version as its steward sees it, with what the hub is told of it."""
    names = [column for column, _ in version.columns]
    return version.as_dict() | {
        "told": publishing.offer_of(version).model_dump(mode="json"),
        "withheld": [vars(one) for one in column_names.told_names(names)[1]],
        "publish_file": str(version.folder / "publish.yaml"),
        "publish_pending": publishing.is_pending(version),
    }


CALLS: Mapping[str, Callable[..., Any]] = {"data_publish": publish}
