"""The hub's record of experiments, runs and models: MLflow, in this process.

Live metrics stand in the hub's own tables; MLflow is the record, written in large
batches straight into its store (over HTTP it would be slower by an order). Only
the hub writes runs and versions, through here; people read them, and may tag them,
through `mlflow_mount`.

Importing this module is cheap. MLflow itself is imported by `start()`, in a
thread, because it takes seconds; a call made meanwhile waits for it.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from insitu.domain.errors import InsituError, UnavailableError
from insitu.hub.mlflow_environment import set_environment
from insitu.hub.mlflow_records import (
    ModelVersion,
    Point,
    Refused,
    RegisteredModel,
    RegisteredRelease,
    ResidentModel,
    RunEnd,
    TrackingSettings,
    check_tag_key,
)

if TYPE_CHECKING:
    from insitu.hub.mlflow_store import Stores

__all__ = [
    "ModelVersion",
    "Point",
    "Refused",
    "RegisteredModel",
    "RegisteredRelease",
    "ResidentModel",
    "RunEnd",
    "Tracking",
    "TrackingSettings",
]


class Tracking:
    """MLflow's store and registry of one hub. Safe to share between threads.

    Every call raises `UnavailableError` when MLflow could not be started or its
    database is away, `NotFoundError` for what isn't there, `InvalidInputError`
    for what MLflow can't hold.
    """

    def __init__(self, settings: TrackingSettings) -> None:
        self._settings = settings
        self._done = threading.Event()
        self._failure: InsituError | None = None
        self._stores: Stores | None = None
        self._thread: threading.Thread | None = None
        # Looking and then making is one step: for runs found by a tag, and for versions found by their release.
        self._making = threading.Lock()

    def start(self) -> None:
        """Begin to import MLflow and to open its store. Returns at once; a second call changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._load, name="mlflow-start", daemon=True)
            self._thread.start()

    @property
    def ready(self) -> bool:
        return self._stores is not None

    def wait_ready(self, timeout_s: float) -> None:
        """Return when calls will be answered at once.

        Raises:
            UnavailableError: it takes longer, or it failed and says why.
        """
        if not self._done.wait(timeout_s if self._thread else 0):
            raise UnavailableError(
                "MLflow is still starting", code="tracking-starting", hint="try again in a few seconds"
            )
        if self._failure is not None:
            raise UnavailableError(
                self._failure.what, code=self._failure.code, why=self._failure.why, hint=self._failure.hint
            )

    def close(self) -> None:
        """Give back the database connections. A Tracking that was closed can't be started again."""
        if self._thread is not None:
            self._thread.join()
        stores, self._stores = self._stores, None
        self._failure = UnavailableError("the hub is stopping", code="tracking-closed")
        if stores is not None:
            stores.close()

    # -- runs ----------------------------------------------------------------------------------------------------------

    def ensure_run(self, job_id: str, experiment: str, run_name: str, tags: Mapping[str, str]) -> str:
        """The id of the job's run, made when it isn't there, so that links work from the first second.

        The tag `mlflow.user` names who the run belongs to.
        """
        with self._making:
            return self._runs().ensure_run(self.stores, job_id, experiment, run_name, tags)

    def child_run(self, parent_run_id: str, name: str, *, local_id: str = "") -> str:
        """The id of the run that a script started within another. `local_id` (or `name`) tells it from its siblings."""
        with self._making:
            return self._runs().child_run(self.stores, parent_run_id, name, local_id or name)

    def log(
        self,
        run_id: str,
        metrics: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> tuple[Refused, ...]:
        """Write metrics, parameters and tags, in MLflow's largest batches. Repeating it changes nothing.

        Returns what MLflow can't hold; the rest was written.
        """
        return self._runs().log(self.stores, run_id, metrics, params or {}, tags or {})

    def finish(self, run_id: str, status: RunEnd) -> None:
        """End a run as its job ended."""
        self._runs().finish(self.stores, run_id, status)

    def store_output(self, run_id: str, output: str, source: Path) -> None:
        """Put a released file or folder that is no model among the run's artifacts, under its output's name."""
        self._models().store_output(self.stores, run_id, output, source)

    # -- models --------------------------------------------------------------------------------------------------------

    def register_model(self, release: RegisteredRelease) -> int:
        """The version number of a released model, registered when it isn't yet.

        The release's folder is copied, so it may be removed afterwards.
        """
        with self._making:
            return self._models().register(self.stores, release)

    def register_resident(self, model: ResidentModel) -> int:
        """The version number of a model that stays at its site, registered when it isn't yet. It has no files."""
        with self._making:
            return self._models().register_resident(self.stores, model)

    def list_models(self) -> list[RegisteredModel]:
        return self._models().list_models(self.stores)

    def versions(self, name: str) -> list[ModelVersion]:
        """Newest first."""
        return self._models().versions(self.stores, name)

    def get_version(self, name: str, version: int) -> ModelVersion:
        return self._models().get_version(self.stores, name, version)

    def get_version_by_alias(self, name: str, alias: str) -> ModelVersion:
        return self._models().get_version_by_alias(self.stores, name, alias)

    def set_tag(self, name: str, version: int, key: str, value: str) -> None:
        """Tag a version for a person.

        Raises:
            DeniedError: the key is one that says where the model came from.
        """
        self._models().set_tag(self.stores, name, version, check_tag_key(key), value)

    def delete_tag(self, name: str, version: int, key: str) -> None:
        """As `set_tag`."""
        self._models().delete_tag(self.stores, name, version, check_tag_key(key))

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point an alias at a version, away from the one that had it."""
        self._models().set_alias(self.stores, name, alias, version)

    def delete_alias(self, name: str, alias: str) -> None:
        self._models().delete_alias(self.stores, name, alias)

    def model_folder(self, name: str, version: int) -> Path:
        """Where the version's files lie at the hub, for reading."""
        return self._models().model_folder(self.stores, name, version)

    # -- what is imported late -----------------------------------------------------------------------------------------

    @property
    def stores(self) -> Stores:
        """MLflow's own objects, for the modules named `mlflow_…` alone."""
        self.wait_ready(self._settings.start_timeout_s)
        assert self._stores is not None
        return self._stores

    def _load(self) -> None:
        set_environment()
        try:
            # Everything that takes seconds, before anybody asks for it.
            from insitu.hub import mlflow_models, mlflow_runs, mlflow_server, mlflow_store  # noqa: F401, PLC0415

            settings = self._settings
            self._stores = mlflow_store.open_stores(settings.store_uri, settings.artifacts_dir, schema=settings.schema)
            # What was imported stays. To look it all through again and again would stop the hub for 0.2 s each time.
            gc.collect()
            gc.freeze()
        except InsituError as exc:
            self._failure = exc
        except Exception as exc:  # noqa: BLE001 - an import can fail in any way, and a thread's end would tell nobody
            self._failure = UnavailableError("MLflow could not be started", code="tracking-store", why=repr(exc)[:300])
        finally:
            self._done.set()

    # A module's type has no name that could be written here.

    def _runs(self):  # noqa: ANN202
        self.wait_ready(self._settings.start_timeout_s)
        from insitu.hub import mlflow_runs  # noqa: PLC0415

        return mlflow_runs

    def _models(self):  # noqa: ANN202
        self.wait_ready(self._settings.start_timeout_s)
        from insitu.hub import mlflow_models  # noqa: PLC0415

        return mlflow_models
