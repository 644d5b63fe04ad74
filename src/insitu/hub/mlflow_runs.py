"""Experiments and runs: written by the hub alone, in this process, never over HTTP.

Each call may be repeated and changes nothing then: a job's run and its child runs
are found by a tag before they are made, metrics are keyed by all that they say,
a parameter keeps the value that it got first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from mlflow.entities import ExperimentTag, Param, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_metric, _validate_param, _validate_tag

from insitu.domain.errors import InvalidInputError
from insitu.hub.mlflow_metrics import write_points
from insitu.hub.mlflow_records import CHILD_TAG, JOB_TAG, Point, Refused, RunEnd, check_id
from insitu.hub.mlflow_store import Stores, translated

MAX_PARAMS_OR_TAGS = 100  # in one of MLflow's batches
# Has MLflow's pages show training runs and metrics first, not traces of language models.
_KIND = ExperimentTag("mlflow.experimentKind", "custom_model_development")
_MAX_INTEGER = 2**63 - 1  # of a database; MLflow does not look

_T = TypeVar("_T")


def ensure_run(stores: Stores, job_id: str, experiment: str, run_name: str, tags: Mapping[str, str]) -> str:
    """The run of a job, made if it isn't there."""
    with translated(f"the run of job {job_id} could not be made"):
        experiment_id = _ensure_experiment(stores, experiment)
        found = _find(stores, experiment_id, f"tags.`{JOB_TAG}` = '{check_id(job_id)}'")
        return found or _create(stores, experiment_id, run_name, {**tags, JOB_TAG: job_id})


def child_run(stores: Stores, parent_run_id: str, name: str, local_id: str) -> str:
    """The run that a script started inside of another, made if it isn't there."""
    with translated(f"a child run of {parent_run_id} could not be made"):
        parent = stores.tracking.get_run(parent_run_id)
        tags = {"mlflow.parentRunId": check_id(parent_run_id), CHILD_TAG: check_id(local_id)}
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = _find(stores, parent.info.experiment_id, wanted)
        if user := parent.data.tags.get("mlflow.user"):
            tags["mlflow.user"] = user
        return found or _create(stores, parent.info.experiment_id, name, tags)


def log(
    stores: Stores,
    run_id: str,
    metrics: Sequence[Point],
    params: Mapping[str, str],
    tags: Mapping[str, str],
) -> tuple[Refused, ...]:
    """Write to a run; what MLflow can't hold is named in the answer and doesn't hold up the rest."""
    refused: list[Refused] = []
    good_metrics = list(_good_metrics(metrics, refused))
    good_tags = list(_good("tag", tags, _validate_tag, refused))
    good_params = list(_good("param", params, _validate_param, refused))
    with translated(f"run {run_id} could not be written"):
        write_points(stores, run_id, good_metrics)
        for batch in _batches(good_tags, MAX_PARAMS_OR_TAGS):
            stores.tracking.log_batch(run_id, [], [], batch)
        for batch in _batches(_unchanged(stores, run_id, good_params, refused), MAX_PARAMS_OR_TAGS):
            stores.tracking.log_batch(run_id, [], batch, [])
    return tuple(refused)


def finish(stores: Stores, run_id: str, status: RunEnd) -> None:
    """End a run. One that has ended this way already keeps its time."""
    with translated(f"run {run_id} could not be ended"):
        if stores.tracking.get_run(run_id).info.status != status:
            stores.tracking.update_run_info(run_id, RunStatus.from_string(status), _now_ms(), None)


def _ensure_experiment(stores: Stores, name: str) -> str:
    if not name.strip():
        raise InvalidInputError("an experiment needs a name")
    if (found := stores.tracking.get_experiment_by_name(name)) is not None:
        return found.experiment_id
    try:
        return stores.tracking.create_experiment(name, tags=[_KIND])
    except MlflowException as exc:
        # Another hub process was faster.
        if exc.error_code == "RESOURCE_ALREADY_EXISTS" and (found := stores.tracking.get_experiment_by_name(name)):
            return found.experiment_id
        raise


def _find(stores: Stores, experiment_id: str, wanted: str) -> str | None:
    found = stores.tracking.search_runs([experiment_id], wanted, ViewType.ALL, max_results=1)
    return found[0].info.run_id if found else None


def _create(stores: Stores, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
    kept = [RunTag(key, value) for key, value in tags.items() if key != "mlflow.runName"]
    run = stores.tracking.create_run(experiment_id, tags.get("mlflow.user", ""), _now_ms(), kept, name)
    return run.info.run_id


def _good_metrics(metrics: Sequence[Point], refused: list[Refused]) -> Iterator[Point]:
    good_names: set[str] = set()
    for key, value, timestamp_ms, step in metrics:
        if max(abs(timestamp_ms), abs(step)) > _MAX_INTEGER:
            refused.append(Refused("metric", key[:250], "its step or time does not fit into 64 bits"))
            continue
        if key not in good_names or timestamp_ms < 0:
            # What MLflow looks at beyond the name are types, which are ours, and the sign of the time.
            try:
                _validate_metric(key, value, timestamp_ms, step)
            except MlflowException as exc:
                refused.append(Refused("metric", key[:250], _reason(exc)))
                continue
            good_names.add(key)
        yield key, value, timestamp_ms, step


def _good(kind: str, given: Mapping[str, str], check: Callable[[str, str], _T], refused: list[Refused]) -> Iterator[_T]:
    for key, value in given.items():
        try:
            checked = check(key, value)
        except MlflowException as exc:
            refused.append(Refused(kind, key[:250], _reason(exc)))
        else:
            yield checked


def _unchanged(stores: Stores, run_id: str, params: list[Param], refused: list[Refused]) -> Iterator[Param]:
    """Those that are new. MLflow refuses a whole batch in which one parameter has another value than before."""
    if not params:
        return
    before = stores.tracking.get_run(run_id).data.params
    for param in params:
        if param.key not in before:
            yield param
        elif before[param.key] != param.value:
            refused.append(Refused("param", param.key, "it has another value already; MLflow keeps the first"))


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _reason(exc: MlflowException) -> str:
    return str(exc).splitlines()[0][:200]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
