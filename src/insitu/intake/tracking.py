"""MLflow's calls about experiments and runs, answered for one job.

Any experiment that a script asks for is this job's: its wish for another name
is noted as a tag, and nothing raises. A script can end runs that it started;
its job's own run ends with the job. All times that the hub gets are ours.

The calls and their forms are those of mlflow 3.17.2 (`mlflow/protos/service.proto`),
as its client was seen to send them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from insitu.intake.calls import JsonObject, denied, integer, invalid, number, objects, pairs, text, texts
from insitu.intake.decided import Decided
from insitu.intake.runs import MAX_INPUTS, MAX_RUNS, Run, Runs, as_metric, run_info, run_view
from insitu.intake.search import select

WISH_TAG = "insitu.wished_experiment"
_LONGEST_PARAM = 6000  # MLflow's own limits, of the store that it ships
_LONGEST_TAG = 8000
_LONGEST_NAME = 250
_PARENT = "mlflow.parentRunId"
_RUN_NAME = "mlflow.runName"
_STATUSES = frozenset({"RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"})
_MAX_OUTPUTS = 1000

Handler = Callable[[JsonObject], JsonObject]


class Tracking:
    """Handlers by method and path, over the job's runs."""

    def __init__(self, runs: Runs, decided: Decided, *, experiment_name: str, clock: Callable[[], datetime]) -> None:
        self._runs = runs
        self._decided = decided
        self._experiment_name = experiment_name
        self._clock = clock
        self._wishes: set[str] = set()

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        return {
            ("GET", "experiments/get-by-name"): self._experiment_by_name,
            ("GET", "experiments/get"): self._experiment,
            ("POST", "experiments/create"): self._create_experiment,
            ("POST", "experiments/search"): self._search_experiments,
            ("GET", "experiments/search"): self._search_experiments,
            ("POST", "experiments/set-experiment-tag"): self._set_experiment_tag,
            ("POST", "experiments/delete-experiment-tag"): _nothing,
            ("POST", "runs/create"): self._create_run,
            ("GET", "runs/get"): self._get_run,
            ("POST", "runs/update"): self._update_run,
            ("POST", "runs/delete"): self._refuse_to_delete,
            ("POST", "runs/search"): self._search_runs,
            ("POST", "runs/log-metric"): self._log_metric,
            ("POST", "runs/log-parameter"): self._log_param,
            ("POST", "runs/set-tag"): self._set_tag,
            ("POST", "runs/delete-tag"): self._delete_tag,
            ("POST", "runs/log-batch"): self._log_batch,
            ("POST", "runs/log-inputs"): self._log_inputs,
            ("POST", "runs/outputs"): self._log_outputs,
            ("POST", "runs/log-model"): _nothing,  # older clients repeat here what MLmodel says
            ("GET", "metrics/get-history"): self._history,
        }

    # ── Experiments ─────────────────────────────────────────────────────────

    def _experiment_view(self) -> JsonObject:
        experiment_id = self._runs.experiment_id
        return {
            "experiment_id": experiment_id,
            "name": self._experiment_name,
            "artifact_location": f"mlflow-artifacts:/{experiment_id}",
            "lifecycle_stage": "active",
            "creation_time": self._runs.own.start_ms,
            "last_update_time": self._runs.own.start_ms,
        }

    def _experiment_by_name(self, call: JsonObject) -> JsonObject:
        self._note_wish(text(call, "experiment_name", longest=500))
        return {"experiment": self._experiment_view()}

    def _experiment(self, call: JsonObject) -> JsonObject:
        del call  # any id: a script that names "0" means the place where its run is
        return {"experiment": self._experiment_view()}

    def _create_experiment(self, call: JsonObject) -> JsonObject:
        self._note_wish(text(call, "name", longest=500))
        return {"experiment_id": self._runs.experiment_id}

    def _search_experiments(self, call: JsonObject) -> JsonObject:
        del call
        return {"experiments": [self._experiment_view()]}

    def _set_experiment_tag(self, call: JsonObject) -> JsonObject:
        text(call, "key", longest=_LONGEST_NAME)
        self._decided.kept_elsewhere("experiment tag")
        return {}

    def _note_wish(self, name: str) -> None:
        if name in {self._experiment_name, ""} or name in self._wishes or len(self._wishes) >= 10:
            return
        self._wishes.add(name)
        self._decided.tag(self._runs.own, WISH_TAG, name)

    # ── Runs ────────────────────────────────────────────────────────────────

    def _run(self, call: JsonObject) -> Run:
        return self._runs.get(call.get("run_id") or call.get("run_uuid"))

    def _create_run(self, call: JsonObject) -> JsonObject:
        tags = dict(pairs(call, "tags", longest_value=_LONGEST_TAG))
        parent_id = tags.get(_PARENT, "")
        parent = self._runs.get(parent_id) if parent_id in self._runs else self._runs.own
        run = self._runs.start(
            parent=parent.run_id,
            name=text(call, "run_name", longest=_LONGEST_NAME, default=tags.get(_RUN_NAME, ""))[:_LONGEST_NAME],
            user_id=text(call, "user_id", longest=_LONGEST_NAME, default="insitu"),
            start_ms=integer(call, "start_time", default=self._now_ms()),
        )
        self._decided.run_started(run, parent)
        for key, value in tags.items():
            self._tag(run, key, value)
        run.tags.setdefault(_RUN_NAME, run.name)
        return {"run": self._view(run)}

    def _get_run(self, call: JsonObject) -> JsonObject:
        return {"run": self._view(self._run(call))}

    def _update_run(self, call: JsonObject) -> JsonObject:
        """The script's view of its run changes. What the hub sees is the job's state, so no event follows."""
        run = self._run(call)
        status = call.get("status", run.status)
        if status not in _STATUSES:
            raise invalid("'status' must be one of " + ", ".join(sorted(_STATUSES)))
        run.status = status
        run.end_ms = integer(call, "end_time", default=run.end_ms)
        name = text(call, "run_name", longest=_LONGEST_NAME, default="")
        if name:
            run.name = run.tags[_RUN_NAME] = name
        return {"run_info": run_info(run, self._runs.experiment_id)}

    def _refuse_to_delete(self, call: JsonObject) -> JsonObject:
        self._run(call)
        raise denied("a job can't delete runs: what it logged is on record at its site")

    def _search_runs(self, call: JsonObject) -> JsonObject:
        found = select(self._runs, text(call, "filter", longest=5000, default=""), texts(call, "order_by"))
        count = min(max(1, integer(call, "max_results", default=MAX_RUNS)), MAX_RUNS)
        return {"runs": [self._view(run) for run in found[:count]]}

    # ── What a run logs ─────────────────────────────────────────────────────

    def _log_metric(self, call: JsonObject) -> JsonObject:
        self._metric(self._run(call), call)
        return {}

    def _log_param(self, call: JsonObject) -> JsonObject:
        self._param(
            self._run(call),
            text(call, "key", longest=_LONGEST_NAME),
            text(call, "value", longest=_LONGEST_PARAM, default=""),
        )
        return {}

    def _set_tag(self, call: JsonObject) -> JsonObject:
        key = text(call, "key", longest=_LONGEST_NAME)
        self._tag(self._run(call), key, text(call, "value", longest=_LONGEST_TAG, default=""))
        return {}

    def _delete_tag(self, call: JsonObject) -> JsonObject:
        """Forgotten here. What has left has left: a tag that was sent stays at the hub."""
        self._run(call).tags.pop(text(call, "key", longest=_LONGEST_NAME), None)
        return {}

    def _log_batch(self, call: JsonObject) -> JsonObject:
        """All or nothing as far as shapes go: what can be refused is looked at before anything is taken."""
        run = self._run(call)
        metrics = objects(call, "metrics")
        for metric in metrics:
            _read_metric(metric)
        params = pairs(call, "params", longest_value=_LONGEST_PARAM)
        tags = pairs(call, "tags", longest_value=_LONGEST_TAG)
        for key, value in params:
            self._runs.check_param(run, key, value)
        for metric in metrics:
            self._metric(run, metric)
        for key, value in params:
            self._param(run, key, value)
        for key, value in tags:
            self._tag(run, key, value)
        return {}

    def _log_inputs(self, call: JsonObject) -> JsonObject:
        """Descriptions of the data (schemas, profiles) are kept: the hub has them from the catalogue, if at all."""
        run = self._run(call)
        datasets = objects(call, "datasets")
        run.inputs.extend(datasets[: max(0, MAX_INPUTS - len(run.inputs))])
        if datasets:
            self._decided.kept_elsewhere("dataset description", len(datasets))
        return {}

    def _log_outputs(self, call: JsonObject) -> JsonObject:
        run = self._run(call)
        for model in objects(call, "models"):
            if len(run.outputs) < _MAX_OUTPUTS:
                run.outputs.append({"model_id": text(model, "model_id", longest=64), "step": integer(model, "step")})
        return {}

    def _history(self, call: JsonObject) -> JsonObject:
        run = self._run(call)
        key = text(call, "metric_key", longest=_LONGEST_NAME)
        points = list(run.history.get(key, ()))
        start = integer(call, "page_token") if call.get("page_token") else 0
        count = min(max(1, integer(call, "max_results", default=25_000)), 25_000)
        page: JsonObject = {"metrics": [as_metric(key, point) for point in points[start : start + count]]}
        if start + count < len(points):
            page["next_page_token"] = str(start + count)
        return page

    def _metric(self, run: Run, metric: JsonObject) -> None:
        key, value, timestamp_ms, step = _read_metric(metric)
        if self._runs.remember_metric(run, key, (value, timestamp_ms or self._now_ms(), step)):
            self._decided.metric(run, key, value, step)

    def _param(self, run: Run, key: str, value: str) -> None:
        if self._runs.check_param(run, key, value):
            self._runs.remember(run.params, key, value)
            self._decided.param(run, key, value)

    def _tag(self, run: Run, key: str, value: str) -> None:
        changed = run.tags.get(key) != value
        self._runs.remember(run.tags, key, value)
        if key == _RUN_NAME:
            run.name = value[:_LONGEST_NAME] or run.name
        if changed:
            self._decided.tag(run, key, value)

    def _view(self, run: Run) -> JsonObject:
        return run_view(run, self._runs.experiment_id)

    def _now_ms(self) -> int:
        return int(self._clock().timestamp() * 1000)


def _read_metric(metric: JsonObject) -> tuple[str, float, int, int]:
    key = text(metric, "key", longest=_LONGEST_NAME)
    if not key:
        raise invalid("a metric needs a name")
    return key, number(metric, "value"), integer(metric, "timestamp"), integer(metric, "step")


def _nothing(call: JsonObject) -> JsonObject:
    del call
    return {}
