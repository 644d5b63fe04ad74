"""A steward's calls about data: where it is, what of it is a dataset, what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from insitu.agent.catalogue import (
    DatasetVersion,
    add_dataset,
    delete_dataset,
    find_dataset,
    list_datasets,
    note_on_dataset,
)
from insitu.agent.datastores import add_datastore, find_datastore, list_datastores
from insitu.agent.stores.check import check_store
from insitu.agent.stores.credentials import Source
from insitu.domain.errors import ConflictError, DeniedError, InvalidInputError
from insitu.domain.reviews import ItemState

if TYPE_CHECKING:
    from insitu.agent.steward import Steward

_MOST_TAGS = 50
_LONGEST_TAG = 200


def datastore_add(
    steward: Steward,
    *,
    name: str,
    url: str,
    endpoint: str = "",
    account: str = "",
    region: str = "",
    api_version: str = "",
    credentials: str = "",
    secret: str = "",
    replace: bool = False,
) -> dict[str, Any]:
    """Name a store. `secret` is the text of a credentials file; it is kept, and never answered."""
    is_folder = "://" not in url or url.startswith("file://")
    source = credentials or ("file" if secret else "none" if is_folder else "environment")
    return add_datastore(
        steward.folder,
        name,
        url,
        endpoint=endpoint,
        account=account,
        region=region,
        api_version=api_version,
        source=cast("Source", source),
        secret=secret,
        replace=replace,
    ).as_dict()


def datastore_list(steward: Steward) -> list[dict[str, Any]]:
    return [store.as_dict() for store in list_datastores(steward.folder)]


def datastore_show(steward: Steward, *, name: str) -> dict[str, Any]:
    """A store, and the versions that lie in it."""
    store = find_datastore(steward.folder, name)
    used = [known.label for known in list_datasets(steward.folder, archived=True) if known.datastore == name]
    return {**store.as_dict(), "datasets": used}


def datastore_check(steward: Steward, *, name: str) -> dict[str, Any]:
    """Which of reach, login, list and read works, and why the first one that fails does."""
    store = find_datastore(steward.folder, name)
    steps = check_store(store.address, lambda: store.open(steward.environment, patient=False))
    failed = next((step for step in steps if step.state == "failed"), None)
    return {
        **store.as_dict(),
        "state": "failed" if failed else "ok",
        "steps": [step.as_dict() for step in steps],
    }


def data_add(
    steward: Steward, *, name: str, datastore: str, path: str, format: str, description: str
) -> dict[str, Any]:
    added = add_dataset(
        steward.folder,
        name,
        datastore=datastore,
        pattern=path,
        kind=format,
        description=description,
        gate_gid=steward.gate_gid,
        cache=steward.data,
        environment=steward.environment,
    )
    steward.changed()
    return added.as_dict()


def data_list(steward: Steward, *, archived: bool = False) -> list[dict[str, Any]]:
    return [_shown(steward, known) for known in list_datasets(steward.folder, archived=archived)]


def data_show(steward: Steward, *, name: str, version: int | None = None) -> dict[str, Any]:
    return _shown(steward, find_dataset(steward.folder, name, version))


def data_tag(
    steward: Steward, *, name: str, version: int | None = None, tags: Mapping[str, str | None]
) -> dict[str, Any]:
    """Put tags on a version; one of no value is taken away. They stay at the site."""
    found = find_dataset(steward.folder, name, version)
    after = {**found.tags, **tags}
    if len(after) > _MOST_TAGS or any(
        not key or len(key) + len(value or "") > _LONGEST_TAG for key, value in tags.items()
    ):
        raise InvalidInputError(
            "a tag is too long or there are too many",
            code="data-tag",
            limit=f"{_MOST_TAGS} tags of {_LONGEST_TAG} characters",
        )
    return note_on_dataset(found, tags=tags).as_dict()


def data_archive(steward: Steward, *, name: str, version: int, undo: bool = False) -> dict[str, Any]:
    """Offer a version no more (or again). Its bytes leave the cache; its index and its past stay."""
    found = find_dataset(steward.folder, name, version)
    noted = note_on_dataset(found, archived=not undo)
    if not undo and found.label not in steward.store.datasets_in_use():
        steward.data.drop(found.staged)
    steward.changed()
    return noted.as_dict()


def data_uses(steward: Steward, *, name: str, version: int) -> dict[str, Any]:
    """The jobs that a version was given to, and what left the site of each: read before it is deleted."""
    found = find_dataset(steward.folder, name, version)
    jobs = [job for job, versions in steward.store.jobs_of(name) if found.label in versions]
    left: dict[str, list[str]] = {job: [] for job in jobs}
    for entry in steward.ledger.entries():
        if entry.kind == "file" and entry.job_id in left:
            left[entry.job_id].append(entry.name)
    held = {
        item.job_id for item in steward.store.queue.items() if item.state in (ItemState.HELD, ItemState.UNDER_REVIEW)
    }
    return {
        "name": found.name,
        "version": found.version,
        "jobs": [{"job": job, "released": left[job], "waits_for_review": job in held} for job in jobs],
        "in_use": found.label in steward.store.datasets_in_use(),
    }


def data_delete(steward: Steward, *, name: str, version: int, sure: bool = False) -> dict[str, Any]:
    """Forget a version at this site. What lies in the datastore stays, and so does what was made of it.

    Raises:
        ConflictError: a job reads it now, or an output that was made of it waits for a verdict.
        DeniedError: jobs had it, and the steward did not say that it is sure.
    """
    uses = data_uses(steward, name=name, version=version)
    found = find_dataset(steward.folder, name, version)
    waiting = [job["job"] for job in uses["jobs"] if job["waits_for_review"]]
    if uses["in_use"] or waiting:
        raise ConflictError(
            f"{found.label} is needed now",
            code="dataset-in-use",
            why="a job reads it" if uses["in_use"] else f"what {', '.join(waiting)} made of it waits for a verdict",
            hint="wait for it, cancel it or give the verdict; `insitu data archive` ends new uses at once",
        )
    if uses["jobs"] and not sure:
        raise DeniedError(
            f"{found.label} was used by {len(uses['jobs'])} jobs",
            code="dataset-was-used",
            measure=", ".join(job["job"] for job in uses["jobs"][:20]),
            hint="--yes deletes it all the same; their models stay, but nobody can check them against it any more",
        )
    delete_dataset(found, steward.data)
    steward.changed()
    return {**uses, "deleted": True}


def _shown(steward: Steward, found: DatasetVersion) -> dict[str, Any]:
    return {**found.as_dict(), "staged": steward.data.is_staged(found.staged)}


CALLS: Mapping[str, Callable[..., Any]] = {
    call.__name__: call
    for call in (
        *(datastore_add, datastore_list, datastore_show, datastore_check),
        *(data_add, data_list, data_show, data_tag, data_archive, data_uses, data_delete),
    )
}
