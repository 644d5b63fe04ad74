"""Every call that a job can make, by method and address, and its answer. No socket: bytes in, `Response` out.

Files are the exception, being too large for a body: `http.py` streams them
from and to `artifacts.py`, and asks `is_artifact` first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from insitu.intake.artifacts import PREFIX, ArtifactStore
from insitu.intake.calls import CallRefused, JsonObject, Response, answer, invalid, read_body
from insitu.intake.decided import Decided
from insitu.intake.models import Models
from insitu.intake.tracking import Handler, Tracking

MLFLOW_VERSION = "3.17.2"  # the client picks its calls by it
_ROOTS = ("/api/2.0/mlflow/", "/ajax-api/2.0/mlflow/", "/api/3.0/mlflow/")
_ONE_MODEL = "logged-models/"
_SERVER_INFO: JsonObject = {"store_type": "FileStore", "workspaces_enabled": False, "trace_archival_enabled": False}


class Api:
    """Finds the handler of a call, and turns refusals into MLflow's errors.

    Args:
        hear: takes in what the script printed before it made a call; asked first.
    """

    def __init__(
        self,
        tracking: Tracking,
        models: Models,
        artifacts: ArtifactStore,
        decided: Decided,
        *,
        hear: Callable[[], None],
    ) -> None:
        self._handlers: Mapping[tuple[str, str], Handler] = {**tracking.handlers(), **models.handlers()}
        self._models = models
        self._decided = decided
        self._hear = hear
        self.artifacts = artifacts
        self.calls = 0

    def handle(self, method: str, target: str, body: bytes) -> Response:
        """Answer one call. What it logged is decided by `settle`, once the answer is on its way."""
        self.calls += 1
        self._hear()
        try:
            return self._answer(method, target, body)
        except CallRefused as refusal:
            return refusal.response()

    def settle(self) -> None:
        """Decide what the calls so far have logged, and put what leaves into the file of events.

        Raises:
            UnavailableError: the file can't be written. Then nothing more may be answered.
        """
        self._decided.flush()

    def _answer(self, method: str, target: str, body: bytes) -> Response:
        path, query = target, ""
        if "?" in target or "#" in target:
            parts = urlsplit(target)
            path, query = parts.path, parts.query
        for root in _ROOTS:
            if path.startswith(root):
                name = path[len(root) :]
                handler = self._handlers.get((method, name))
                if handler is not None:
                    return answer(handler(_arguments(query, body)))
                if name.startswith(_ONE_MODEL):
                    model_id, _, rest = name.removeprefix(_ONE_MODEL).partition("/")
                    return answer(self._models.of_model(method, model_id, unquote(rest), _arguments(query, body)))
                if (method, name) == ("GET", "server-info"):
                    return answer(_SERVER_INFO)
        if method == "GET":
            if path == PREFIX:
                return answer(self.artifacts.list(str(_arguments(query, b"").get("path", ""))))
            if path == "/version":
                return Response(200, MLFLOW_VERSION.encode(), "text/plain")
            if path == "/health":
                return Response(200, b"OK", "text/plain")
        raise CallRefused(
            "ENDPOINT_NOT_FOUND",
            f"{method} {path[:200]} is not served inside a job: only calls about this job's own runs and models are",
        )


def _arguments(query: str, body: bytes) -> JsonObject:
    if not query:
        return read_body(body)
    try:
        fields = parse_qsl(query, keep_blank_values=True, max_num_fields=50)
    except ValueError as exc:
        raise invalid("the query has too many fields") from exc
    return {**dict(fields), **read_body(body)}


def is_artifact(target: str) -> bool:
    """Whether `target` names a stored file, which has a body too large to be held."""
    return target.startswith(PREFIX + "/")


def artifact_address(target: str) -> str:
    """What stands behind the prefix, still quoted."""
    return target[len(PREFIX) + 1 :].partition("?")[0]
