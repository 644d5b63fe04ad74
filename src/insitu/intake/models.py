"""MLflow's calls about logged models and the registry, answered for one job.

A logged model is a name, an id of ours and a folder of artifacts. To register
one is an *intent*: it is answered as the client expects, and the hub makes the
version once the model has been released, under the name that the job's contract
gives to an output. The version that the script hears of is therefore "0". A
name that the contract doesn't have is refused, and said so in the job's log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from insitu.domain.outputs import ReleaseContract
from insitu.intake.calls import CallRefused, JsonObject, denied, integer, invalid, pairs, text, unknown
from insitu.intake.decided import Decided
from insitu.intake.runs import Runs, as_pairs, derived_id
from insitu.intake.tracking import Handler

MAX_MODELS = 1000
VERSION = "0"  # not known before the release
_LONGEST_NAME = 250
_STATUSES = frozenset({"LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"})
_BY_NAME = re.compile(r"\s*name\s*=\s*'([^']*)'\s*")
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")


@dataclass
class LoggedModel:
    model_id: str
    name: str
    run_id: str
    created_ms: int
    updated_ms: int
    model_type: str = ""
    status: str = "LOGGED_MODEL_PENDING"
    params: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Intent:
    """The script wants this to be registered as `name`."""

    name: str
    source: str
    model_id: str
    run_id: str
    created_ms: int


class Models:
    """Handlers by method and path, over the job's logged models and its intents to register."""

    def __init__(
        self, runs: Runs, decided: Decided, contract: ReleaseContract, *, clock: Callable[[], datetime]
    ) -> None:
        self._runs = runs
        self._decided = decided
        self._clock = clock
        self._outputs_by_registered = {out.register: out.name for out in contract.outputs if out.register}
        self._models: dict[str, LoggedModel] = {}
        self._refused: set[str] = set()
        self.intents: dict[str, Intent] = {}  # by registered name; the last one counts

    def __contains__(self, model_id: str) -> bool:
        return model_id in self._models

    @property
    def logged(self) -> tuple[LoggedModel, ...]:
        return tuple(self._models.values())

    @property
    def refused_names(self) -> tuple[str, ...]:
        """Names that the script wanted to register under, and the contract does not have."""
        return tuple(sorted(self._refused))

    def registered_output(self, model_id: str) -> str | None:
        """The output which this model was registered as, by the contract's name for it."""
        for name, intent in self.intents.items():
            if intent.model_id == model_id:
                return self._outputs_by_registered[name]
        return None

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        return {
            ("POST", "logged-models"): self._create,
            ("POST", "logged-models/search"): self._search,
            ("POST", "registered-models/create"): self._register_name,
            ("GET", "registered-models/get"): self._get_registered,
            ("POST", "registered-models/get-latest-versions"): self._latest,
            ("GET", "registered-models/get-latest-versions"): self._latest,
            ("GET", "registered-models/search"): self._search_registered,
            ("POST", "registered-models/set-tag"): self._keep_tag,
            ("POST", "model-versions/create"): self._create_version,
            ("GET", "model-versions/get"): self._get_version,
            ("GET", "model-versions/get-download-uri"): self._download_uri,
            ("GET", "model-versions/search"): self._search_versions,
            ("POST", "model-versions/set-tag"): self._keep_tag,
            ("PATCH", "model-versions/update"): self._update_version,
            ("PATCH", "registered-models/update"): self._update_registered,
            ("POST", "registered-models/alias"): self._refuse_alias,
            ("DELETE", "registered-models/alias"): self._refuse_alias,
        }

    def of_model(self, method: str, model_id: str, rest: str, call: JsonObject) -> JsonObject:
        """Calls whose path names a model: `logged-models/<id>[/tags[/key]|/params]`."""
        model = self._get(model_id)
        if method == "GET" and not rest:
            return {"model": self._view(model)}
        if method == "PATCH" and not rest:
            return self._finalize(model, call)
        if method in {"PATCH", "POST"} and rest == "tags":
            return self._tag(model, call)
        if method == "DELETE" and rest.startswith("tags/"):
            model.tags.pop(rest.removeprefix("tags/"), None)
            return {}
        if method == "POST" and rest == "params":
            return self._log_params(model, call)
        if method == "DELETE" and not rest:
            raise denied("a job can't delete models: what it logged is on record at its site")
        raise CallRefused("ENDPOINT_NOT_FOUND", f"{method} logged-models/…/{rest} is not served inside a job")

    # ── Logged models ───────────────────────────────────────────────────────

    def _create(self, call: JsonObject) -> JsonObject:
        if len(self._models) >= MAX_MODELS:
            raise invalid(f"a job can log at most {MAX_MODELS} models")
        run = self._runs.get(call.get("source_run_id") or self._runs.own.run_id)
        number = len(self._models) + 1
        now = self._now_ms()
        model = LoggedModel(
            model_id=f"m-{derived_id(self._runs.own.run_id, 'model', number)}",
            name=text(call, "name", longest=_LONGEST_NAME, default="") or f"model-{number}",
            run_id=run.run_id,
            created_ms=now,
            updated_ms=now,
            model_type=text(call, "model_type", longest=_LONGEST_NAME, default=""),
            params=dict(pairs(call, "params", longest_value=6000)),
            tags=dict(pairs(call, "tags", longest_value=8000)),
        )
        self._models[model.model_id] = model
        return {"model": self._view(model)}

    def _finalize(self, model: LoggedModel, call: JsonObject) -> JsonObject:
        status = call.get("status")
        if status not in _STATUSES:
            raise invalid("'status' must be one of " + ", ".join(sorted(_STATUSES)))
        model.status = status
        model.updated_ms = self._now_ms()
        # The last to be ready comes last: a model of the same name that is logged again replaces the one before.
        self._models[model.model_id] = self._models.pop(model.model_id)
        return {"model": self._view(model)}

    def _tag(self, model: LoggedModel, call: JsonObject) -> JsonObject:
        for key, value in pairs(call, "tags", longest_value=8000):
            self._runs.remember(model.tags, key, value)
        return {}

    def _log_params(self, model: LoggedModel, call: JsonObject) -> JsonObject:
        for key, value in pairs(call, "params", longest_value=6000):
            self._runs.remember(model.params, key, value)
        return {}

    def _search(self, call: JsonObject) -> JsonObject:
        """By nothing, or by `name = '…'`, which is what the client asks when it lists a run's artifacts."""
        found = list(self._models.values())
        condition = text(call, "filter", longest=2000, default="")
        if condition:
            match = _BY_NAME.fullmatch(condition)
            if match is None:
                raise invalid("inside a job models can be searched by \"name = '…'\" alone")
            found = [model for model in found if model.name == match[1]]
        count = min(max(1, integer(call, "max_results", default=100)), MAX_MODELS)
        return {"models": [self._view(model) for model in reversed(found)][:count]} if found else {}

    def _get(self, model_id: str) -> LoggedModel:
        model = self._models.get(model_id)
        if model is None:
            raise unknown("this job has logged no such model; only its own models can be reached from inside it")
        return model

    def _view(self, model: LoggedModel) -> JsonObject:
        experiment_id = self._runs.experiment_id
        run = self._runs.get(model.run_id)
        steps = {out["model_id"]: out["step"] for out in run.outputs}
        info: JsonObject = {
            "model_id": model.model_id,
            "experiment_id": experiment_id,
            "name": model.name,
            "creation_timestamp_ms": model.created_ms,
            "last_updated_timestamp_ms": model.updated_ms,
            "artifact_uri": f"mlflow-artifacts:/{experiment_id}/models/{model.model_id}/artifacts",
            "status": model.status,
            "model_type": model.model_type,
            "source_run_id": model.run_id,
            "tags": as_pairs(model.tags),
        }
        if model.model_id in steps:
            info["step"] = steps[model.model_id]
        return {"info": info, "data": {"params": as_pairs(model.params)}}

    # ── The registry: intents ───────────────────────────────────────────────

    def _check_name(self, call: JsonObject) -> str:
        """The name, if the contract has it. Else the script gets an error, and the log a line."""
        name = text(call, "name", longest=_LONGEST_NAME)
        if name in self._outputs_by_registered:
            return name
        if name not in self._refused and len(self._refused) < 100:
            self._refused.add(name)
            shown = repr(name) if self._decided.may_name(self._runs.own, name) else "a name that can't be shown"
            self._decided.site_line(f"the script wanted to register a model as {shown}, which the job does not declare")
        declared = ", ".join(sorted(self._outputs_by_registered)) or "none"
        raise denied(
            f"this job can't register a model as {name!r}: its outputs are registered as: {declared}. "
            "Name it in the job file, under outputs.<name>.register."
        )

    def _register_name(self, call: JsonObject) -> JsonObject:
        return {"registered_model": self._registered_view(self._check_name(call))}

    def _get_registered(self, call: JsonObject) -> JsonObject:
        return {"registered_model": self._registered_view(self._check_name(call))}

    def _search_registered(self, call: JsonObject) -> JsonObject:
        del call
        return {"registered_models": [self._registered_view(name) for name in sorted(self._outputs_by_registered)]}

    def _create_version(self, call: JsonObject) -> JsonObject:
        name = self._check_name(call)
        source = text(call, "source", longest=2000)
        model_id = self._model_of(source, text(call, "model_id", longest=64, default=""))
        self.intents[name] = Intent(
            name=name,
            source=source,
            model_id=model_id,
            run_id=self._models[model_id].run_id if model_id else self._runs.own.run_id,
            created_ms=self._now_ms(),
        )
        return {"model_version": self._version_view(self.intents[name])}

    def _model_of(self, source: str, model_id: str) -> str:
        """The logged model that `source` means; empty when it is a folder among a run's artifacts."""
        found = _MODEL_ID.search(model_id or source)
        if found:
            return self._get(found[0]).model_id
        if model_id:
            self._get(model_id)  # raises: it is none of ours
        return ""

    def _get_version(self, call: JsonObject) -> JsonObject:
        return {"model_version": self._version_view(self._intent(call))}

    def _download_uri(self, call: JsonObject) -> JsonObject:
        return {"artifact_uri": self._intent(call).source}

    def _latest(self, call: JsonObject) -> JsonObject:
        intent = self.intents.get(self._check_name(call))
        return {"model_versions": [self._version_view(intent)]} if intent else {}

    def _search_versions(self, call: JsonObject) -> JsonObject:
        del call
        return {"model_versions": [self._version_view(intent) for intent in self.intents.values()]}

    def _update_version(self, call: JsonObject) -> JsonObject:
        self._decided.kept_elsewhere("model description")
        return {"model_version": self._version_view(self._intent(call))}

    def _update_registered(self, call: JsonObject) -> JsonObject:
        self._decided.kept_elsewhere("model description")
        return {"registered_model": self._registered_view(self._check_name(call))}

    def _keep_tag(self, call: JsonObject) -> JsonObject:
        self._check_name(call)
        self._decided.kept_elsewhere("model tag")
        return {}

    def _refuse_alias(self, call: JsonObject) -> JsonObject:
        self._check_name(call)
        raise denied("aliases are set at the hub, on a version that was released: `insitu model alias`")

    def _intent(self, call: JsonObject) -> Intent:
        intent = self.intents.get(self._check_name(call))
        if intent is None:
            raise unknown("this job has not registered a model under this name yet")
        return intent

    def _registered_view(self, name: str) -> JsonObject:
        intent = self.intents.get(name)
        created = self._runs.own.start_ms
        view: JsonObject = {"name": name, "creation_timestamp": created, "last_updated_timestamp": created}
        if intent:
            view["latest_versions"] = [self._version_view(intent)]
        return view

    @staticmethod
    def _version_view(intent: Intent) -> JsonObject:
        return {
            "name": intent.name,
            "version": VERSION,
            "creation_timestamp": intent.created_ms,
            "last_updated_timestamp": intent.created_ms,
            "current_stage": "None",
            "description": "",
            "source": intent.source,
            "run_id": intent.run_id,
            "status": "READY",
            "run_link": "",
        }

    def _now_ms(self) -> int:
        return int(self._clock().timestamp() * 1000)


__all__ = ["VERSION", "Intent", "LoggedModel", "Models"]
