"""The registry: released model folders become versions, found again by the release that they came from.

A version's files are those of a *logged model*, MLflow 3's own home for them, so
that its pages show the model in the run and `models:/m-…`, `runs:/<run>/<output>`
and `models:/<name>@<alias>` all load the same bytes. The bytes are copied as they
were released: an `MLmodel` file keeps the ids that the site's gate gave it.

Registering stops and starts anywhere: each step looks first whether it was done.
Two hub processes must not register the same release at once (the loop that calls
this takes an advisory lock); inside one process the caller's lock is enough.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, LoggedModelTag, Run
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_model_version_tag

from insitu.domain.errors import IntegrityError, InvalidInputError, NotFoundError
from insitu.domain.ids import check_name
from insitu.hub.mlflow_records import (
    DIGEST_TAG,
    JOB_TAG,
    OUTPUT_TAG,
    RELEASE_TAG,
    RESIDENT_TAG,
    SIZE_TAG,
    ModelVersion,
    RegisteredModel,
    RegisteredRelease,
    ResidentModel,
    check_id,
)
from insitu.hub.mlflow_store import Stores, translated

_PAGE = 1000


def register(stores: Stores, release: RegisteredRelease) -> int:
    """The version that a release is, made if it isn't there."""
    check_name(release.name, what="model")
    check_id(release.key)
    size_bytes = _check_folder(release)
    with translated(f"{release.output!r} of job {release.job_id} could not be registered as {release.name}"):
        for key, value in release.tags.items():
            _validate_model_version_tag(key, value)  # before anything is made
        run = stores.tracking.get_run(release.run_id)
        model = _ensure_logged_model(stores, run, release, size_bytes)
        found = _find_version(stores, release)
        version = found if found is not None else _create_version(stores, model, release, size_bytes)
        stores.tracking.set_model_versions_tags(release.name, str(version), model.model_id)
        return version


def register_resident(stores: Stores, model: ResidentModel) -> int:
    """The version that a resident model is, made if it isn't there. Nothing of it is stored but its tags."""
    check_name(model.name, what="model")
    check_id(model.key)
    tags = {**_tags(model, model.size_bytes), RESIDENT_TAG: model.site}
    with translated(f"{model.output!r} of job {model.job_id} could not be registered as {model.name}"):
        for key, value in tags.items():
            _validate_model_version_tag(key, value)
        found = _find_version(stores, model)
        if found is not None:
            return found
        _ensure_name(stores, model.name)
        version = stores.registry.create_model_version(
            model.name,
            source=model.source,
            run_id=model.run_id,
            tags=[ModelVersionTag(key, value) for key, value in tags.items()],
            description=f"Resident at {model.site}: it may be used there, and its files never left.",
        )
        return int(version.version)


def store_output(stores: Stores, run_id: str, output: str, folder: Path) -> None:
    """Copy a released file or folder that is no model to the run's artifacts, under its output's name."""
    check_name(output, what="output")
    with translated(f"{output!r} could not be stored in run {run_id}"):
        run = stores.tracking.get_run(run_id)
    _copy(folder, stores.place_of(f"{run.info.artifact_uri}/{output}"))


def list_models(stores: Stores) -> list[RegisteredModel]:
    with translated("the models could not be listed"):
        return [_as_model(found) for found in _all(stores.registry.search_registered_models, None)]


def versions(stores: Stores, name: str) -> list[ModelVersion]:
    """Newest first.

    Raises:
        NotFoundError: there is no such model.
    """
    with translated(f"there is no model {name!r}"):
        aliases = stores.registry.get_registered_model(check_id(name)).aliases
        found = [_as_version(each, aliases) for each in _all(stores.registry.search_model_versions, f"name = '{name}'")]
    return sorted(found, key=lambda version: -version.version)


def get_version(stores: Stores, name: str, version: int) -> ModelVersion:
    with translated(f"there is no version {version} of model {name!r}"):
        found = stores.registry.get_model_version(name, str(version))
        return _as_version(found, stores.registry.get_registered_model(name).aliases)


def get_version_by_alias(stores: Stores, name: str, alias: str) -> ModelVersion:
    with translated(f"there is no model {name!r}"):
        aliases = stores.registry.get_registered_model(name).aliases
    if alias not in aliases:
        raise NotFoundError(f"model {name!r} has no alias {alias!r}", hint=f"see: insitu model show {name}")
    return get_version(stores, name, int(aliases[alias]))


def set_tag(stores: Stores, name: str, version: int, key: str, value: str) -> None:
    with translated(f"version {version} of model {name!r} could not be tagged"):
        stores.registry.set_model_version_tag(name, str(version), ModelVersionTag(key, value))


def delete_tag(stores: Stores, name: str, version: int, key: str) -> None:
    with translated(f"the tag of version {version} of model {name!r} could not be deleted"):
        stores.registry.delete_model_version_tag(name, str(version), key)


def set_alias(stores: Stores, name: str, alias: str, version: int) -> None:
    with translated(f"the alias {alias!r} of model {name!r} could not be set to version {version}"):
        stores.registry.set_registered_model_alias(name, alias, str(version))


def delete_alias(stores: Stores, name: str, alias: str) -> None:
    with translated(f"the alias {alias!r} of model {name!r} could not be deleted"):
        stores.registry.delete_registered_model_alias(name, alias)


def model_folder(stores: Stores, name: str, version: int) -> Path:
    """The files of a version, to be read only.

    Raises:
        IntegrityError: they are gone, or some of them are.
    """
    with translated(f"there is no version {version} of model {name!r}"):
        place = stores.place_of(stores.registry.get_model_version_download_uri(name, str(version)))
        recorded = stores.registry.get_model_version(name, str(version)).tags.get(SIZE_TAG)
    if not place.is_dir() or str(_size_of(place)) != recorded:
        raise IntegrityError(
            f"the files of version {version} of model {name!r} are not where they were put",
            hint="restore the hub's artifact folder from the same backup as its database",
        )
    return place


def _ensure_logged_model(stores: Stores, run: Run, release: RegisteredRelease, size_bytes: int) -> LoggedModel:
    """The release as a logged model of its run: recorded, its files in place, linked, ready."""
    wanted = f"tags.`{RELEASE_TAG}` = '{release.key}'"
    experiment_id = run.info.experiment_id
    found = stores.tracking.search_logged_models([experiment_id], wanted, max_results=1)
    if found:
        model = found[0]
    else:
        tags = [LoggedModelTag(key, value) for key, value in _tags(release, size_bytes).items()]
        model = stores.tracking.create_logged_model(experiment_id, release.output, release.run_id, tags)
    _copy(release.folder, stores.place_of(model.artifact_location))
    if model.status != LoggedModelStatus.READY:
        model = stores.tracking.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    linked = run.outputs.model_outputs if run.outputs else []
    if model.model_id not in {output.model_id for output in linked}:
        stores.tracking.log_outputs(release.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def _find_version(stores: Stores, release: RegisteredRelease | ResidentModel) -> int | None:
    wanted = f"name = '{release.name}' and tags.`{RELEASE_TAG}` = '{release.key}'"
    found = stores.registry.search_model_versions(wanted, max_results=1)
    return int(found[0].version) if found else None


def _create_version(stores: Stores, model: LoggedModel, release: RegisteredRelease, size_bytes: int) -> int:
    _ensure_name(stores, release.name)
    version = stores.registry.create_model_version(
        release.name,
        # The place itself: `models:/m-…` would make the store look the model up through MLflow's global client.
        source=model.artifact_location,
        run_id=release.run_id,
        tags=[ModelVersionTag(key, value) for key, value in _tags(release, size_bytes).items()],
        description=release.description or None,
        model_id=model.model_id,
    )
    return int(version.version)


def _ensure_name(stores: Stores, name: str) -> None:
    try:
        stores.registry.create_registered_model(name)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _tags(release: RegisteredRelease | ResidentModel, size_bytes: int) -> dict[str, str]:
    return {
        **release.tags,
        JOB_TAG: release.job_id,
        OUTPUT_TAG: release.output,
        DIGEST_TAG: release.digest,
        RELEASE_TAG: release.key,
        SIZE_TAG: str(size_bytes),
    }


def _check_folder(release: RegisteredRelease) -> int:
    """The size of a model's files in bytes, if they are what can be copied: plain files, with an `MLmodel` among them."""
    folder = release.folder
    if release.is_mlflow and not (folder / "MLmodel").is_file():
        raise InvalidInputError(f"{folder.name!r} holds no MLmodel file", hint="release the folder that MLflow saved")
    if not any(_plain_files(folder)):
        raise InvalidInputError(f"{folder.name!r} holds no files", hint="release the model's files")
    return _size_of(folder)


def _size_of(folder: Path) -> int:
    """The size of a folder's files, in bytes."""
    return sum(file.stat().st_size for file in _plain_files(folder))


def _plain_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(f"{path.relative_to(folder)} is neither a file nor a folder", code="not-plain")
        if path.is_file():
            yield path


def _copy(source: Path, place: Path) -> None:
    """Copy `source` to `place`, whole or not at all: what lies at `place` was complete when it got that name."""
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        if source.is_dir():
            list(_plain_files(source))
            shutil.copytree(source, partial, symlinks=True)
        else:
            partial.mkdir()
            shutil.copyfile(source, partial / source.name, follow_symlinks=False)
        for path in (*partial.rglob("*"), partial):
            _flush(path)
        partial.rename(place)
        _flush(place.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _flush(path: Path) -> None:
    """On disk before a version says that it is there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _all(search: Callable[..., Any], wanted: str | None) -> Iterator[Any]:
    token = None
    while True:
        page = search(wanted, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _as_version(found: Any, aliases: dict[str, str]) -> ModelVersion:
    tags: dict[str, str] = dict(found.tags)
    size = tags.get(SIZE_TAG, "0")
    return ModelVersion(
        name=found.name,
        version=int(found.version),
        aliases=tuple(sorted(alias for alias, version in aliases.items() if int(version) == int(found.version))),
        tags=tags,
        digest=tags.get(DIGEST_TAG, ""),
        run_id=found.run_id or "",
        job_id=tags.get(JOB_TAG, ""),
        output=tags.get(OUTPUT_TAG, ""),
        description=found.description or "",
        size_bytes=int(size) if size.isdecimal() else 0,
        created_at=_at(found.creation_timestamp),
    )


def _as_model(found: Any) -> RegisteredModel:
    return RegisteredModel(
        name=found.name,
        latest_version=max((int(version.version) for version in found.latest_versions or ()), default=0),
        aliases={alias: int(version) for alias, version in found.aliases.items()},
        tags=dict(found.tags),
        description=found.description or "",
        created_at=_at(found.creation_timestamp),
        updated_at=_at(found.last_updated_timestamp),
    )


def _at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
