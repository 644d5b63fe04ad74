"""Which path gets which answer, and the counting of it.

Predictions go to the scoring thread; everything else is answered in the loop, from
what is known, so health and metrics stay quick while the model works.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from urllib.parse import unquote

from insitu.serving import invocations, open_inference
from insitu.serving.calls import Call, json_bytes
from insitu.serving.errors import OverloadedError, RequestError
from insitu.serving.http_server import Reply, Request
from insitu.serving.metrics import CONTENT_TYPE, Metrics
from insitu.serving.scoring import Scorer, Work
from insitu.serving.sklearn_model import LoadedModel

SERVER_VERSION = "1"
_MODEL = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<verb>/ready|/infer)?")
_LOADING = "the model is being loaded"

Respond = Callable[[Reply], None]


class Routes:
    """The handler of the server. `model` and `scorer` are set once the model is there."""

    def __init__(self, *, name: str, version: str, mlflow_version: str, max_waiting: int = 1024) -> None:
        self._name = name
        self._version = version
        self._mlflow_version = mlflow_version
        self._max_waiting = max_waiting
        self._waiting: set[Work] = set()
        self._scorer: Scorer | None = None
        self._model: LoadedModel | None = None
        self._loop = asyncio.get_running_loop()
        self.draining = False
        self.metrics = Metrics(model=name, version=version)

    @property
    def ready(self) -> bool:
        return self._model is not None and not self.draining

    def serve(self, model: LoadedModel, *, batch_rows: int) -> None:
        """From now on predictions are answered by `model`."""
        self._scorer = Scorer(model, self._deliver, self.metrics.prediction, batch_rows)
        self._scorer.start()
        self._model = model

    def __call__(self, request: Request, respond: Respond) -> None:
        began = time.perf_counter()
        route, reply_or_call = self._answer(request)

        def answered(reply: Reply) -> None:
            self.metrics.request(route, reply.status, time.perf_counter() - began)
            respond(reply)

        if isinstance(reply_or_call, Reply):
            answered(reply_or_call)
        else:
            self._score(reply_or_call, answered)

    def _answer(self, request: Request) -> tuple[str, Reply | Call]:
        path, method = request.path, request.method
        if path == "/invocations":
            if method != "POST":
                return path, _not_allowed("POST")
            return path, invocations.Invocation(request.header(b"content-type"), request.body)
        match = _MODEL.fullmatch(path)
        if match:
            return self._model_route(match, request)
        answer = {
            "/ping": self._ping,
            "/health": self._ping,
            "/version": self._mlflow,
            "/v2": self._server_metadata,
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
            "/metrics": self._metrics,
        }.get(path)
        if answer is None:
            return "other", Reply(404, json_bytes({"error": "no such path"}))
        return path, answer() if method in ("GET", "HEAD") else _not_allowed("GET, HEAD")

    def _model_route(self, match: re.Match[str], request: Request) -> tuple[str, Reply | Call]:
        verb = match["verb"] or ""
        route, allowed = "/v2/models/{name}" + verb, "POST" if verb == "/infer" else "GET, HEAD"
        if request.method not in allowed:
            return route, _not_allowed(allowed)
        version = unquote(match["version"]) if match["version"] else ""
        if unquote(match["name"]) != self._name or (version and version != self._version):
            served = self._name + (f" version {self._version}" if self._version else "")
            return route, open_inference.refusal(RequestError(f"no such model: this serves {served}", status=404))
        if verb == "/infer":
            if b"inference-header-content-length" in request.headers:
                return route, open_inference.refusal(RequestError("the binary tensor extension is not spoken here"))
            return route, open_inference.Inference(self._name, self._version, request.body)
        if verb == "/ready":
            return route, Reply(200 if self.ready else 503, json_bytes({"name": self._name, "ready": self.ready}))
        if self._model is None:
            return route, open_inference.refusal(RequestError(_LOADING, status=503))
        return route, Reply(200, json_bytes(open_inference.model_metadata(self._name, self._version, self._model)))

    # -- predictions

    def _score(self, call: Call, answered: Respond) -> None:
        if self._scorer is None:
            answered(call.refuse(RequestError(_LOADING, status=503, code="TEMPORARILY_UNAVAILABLE")))
            return
        if len(self._waiting) >= self._max_waiting:
            reply = call.refuse(OverloadedError(f"more than {self._max_waiting} requests are waiting"))
            answered(Reply(reply.status, reply.body, reply.content_type, (("Retry-After", "1"),)))
            return
        work = Work(call, answered)
        self._waiting.add(work)
        self._scorer.submit(work)

    def _deliver(self, replies: Sequence[tuple[Work, Reply]]) -> None:
        """In the scoring thread: hand a batch of answers to the loop with one wake-up."""
        with suppress(RuntimeError):  # a closed loop: the process is ending and nobody waits any more
            self._loop.call_soon_threadsafe(self._respond_all, replies)

    def _respond_all(self, replies: Sequence[tuple[Work, Reply]]) -> None:
        for work, reply in replies:
            self._waiting.discard(work)
            work.respond(reply)

    # -- what is known without the model

    def _ping(self) -> Reply:
        return Reply(200 if self.ready else 404, b"\n")  # MLflow's status and body

    def _mlflow(self) -> Reply:
        return Reply(200, self._mlflow_version.encode())

    def _server_metadata(self) -> Reply:
        return Reply(200, json_bytes({"name": "insitu-serving", "version": SERVER_VERSION, "extensions": []}))

    def _live(self) -> Reply:
        return Reply(200, json_bytes({"live": True}))

    def _ready(self) -> Reply:
        # The specification's text names the field `live`, its OpenAPI file `ready`.
        return Reply(200 if self.ready else 503, json_bytes({"ready": self.ready, "live": self.ready}))

    def _metrics(self) -> Reply:
        text = self.metrics.text(ready=self.ready, waiting=len(self._waiting))
        return Reply(200, text.encode(), CONTENT_TYPE)


def _not_allowed(allowed: str) -> Reply:
    return Reply(405, json_bytes({"error": f"use {allowed}"}), headers=(("Allow", allowed),))
