"""A job file: what a data scientist writes. Azure ML's names where they exist.

Unknown keys are errors, with the key that was probably meant. Literals in
`inputs` are filled into `${{inputs.<name>}}` of the command when the job is
signed; datasets become the folder or address at which the sandbox shows them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, cast

import rfc8785
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from insitu.domain.errors import InvalidInputError
from insitu.domain.ids import check_name
from insitu.domain.outputs import OutputContract, OutputType, ReleaseContract
from insitu.domain.quantities import parse_bytes, parse_seconds
from insitu.wire.names import did_you_mean, explain


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _quantity(parse: Callable[[str], int]) -> Callable[[object], object]:
    def convert(value: object) -> object:
        try:
            return parse(value) if isinstance(value, str) else value
        except InvalidInputError as exc:
            raise ValueError(f"{exc.what}: {exc.hint}") from exc  # pydantic collects ValueError alone

    return convert


ByteCount = Annotated[int, BeforeValidator(_quantity(parse_bytes)), Field(gt=0)]
Seconds = Annotated[float, BeforeValidator(_quantity(parse_seconds)), Field(gt=0)]
Literals = str | bool | int | float

GATE_PORT = 5000
GATE_ADDRESS = f"http://127.0.0.1:{GATE_PORT}"
"""Of the gate, as a job sees it: the one address that answers inside a sandbox."""


class Environment(_Strict):
    """Which packages the job needs: exactly one of these. All but `image` are paths inside `code`."""

    requirements: str | None = Field(default=None, description="a requirements.txt")
    pylock: str | None = Field(default=None, description="a pylock.toml, as PEP 751 says")
    pyproject: str | None = Field(default=None, description="a pyproject.toml with a uv.lock beside it")
    conda: str | None = Field(default=None, description="a conda.yaml whose packages are on PyPI")
    script: str | None = Field(default=None, description="a script with an inline block, as PEP 723 says")
    image: str | None = Field(
        default=None,
        max_length=500,
        description="an OCI image by digest: host/name@sha256:…, or oci:/folder@sha256:… of a layout on your machine",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Environment:
        if len(self._given) != 1:
            message = f"give exactly one of {', '.join(type(self).model_fields)}"
            raise ValueError(message)
        return self

    @property
    def _given(self) -> dict[str, str]:
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}

    @property
    def form(self) -> str:
        """Which of them it is."""
        return next(iter(self._given))

    @property
    def path(self) -> str:
        return next(iter(self._given.values()))


class DatasetInput(_Strict):
    type: Literal["dataset"]
    dataset: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*(@\d+)?$", description="name@version; without @: the newest")
    mode: Literal["ro_mount", "download", "direct"] = Field(
        default="ro_mount",
        description="ro_mount: read-only, shared with other jobs; download: a copy of the job's own that it may write; "
        "direct: an address to read by HTTP ranges, for data larger than the site's disk",
    )

    def place(self, name: str) -> str:
        """Where the sandbox shows this input: a folder, or an address at the gate."""
        return f"{GATE_ADDRESS}/inputs/{name}" if self.mode == "direct" else f"/job/inputs/{name}"

    @property
    def name(self) -> str:
        return self.dataset.partition("@")[0]

    @property
    def version(self) -> int | None:
        _, _, version = self.dataset.partition("@")
        return int(version) if version else None


class Output(_Strict):
    type: OutputType = OutputType.URI_FOLDER
    register_as: str | None = Field(default=None, alias="register")
    max_bytes: ByteCount | None = None
    predict: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$",
        max_length=200,
        description="module:function of the job's code that predicts with this model: "
        "called with the model's folder and a file of rows, it returns one answer a row",
    )


class Resources(_Strict):
    cpus: float = Field(default=1.0, gt=0)
    memory: ByteCount = 1 << 30
    gpus: Literal[0] = 0


class JobLimits(_Strict):
    timeout: Seconds = 3600.0


class Labels(_Strict):
    labels: dict[str, str]


class JobFile(_Strict):
    """One command job."""

    type: Literal["command"] = "command"
    display_name: str = Field(default="job", max_length=100)
    experiment_name: str = Field(default="Default", max_length=100)
    description: str = Field(default="", max_length=1000)
    compute: str | Labels | None = None
    code: str = "."
    command: str = Field(min_length=1, max_length=4096)
    environment: Environment
    inputs: dict[str, DatasetInput | Literals] = Field(default_factory=dict[str, DatasetInput | Literals])
    outputs: dict[str, Output] = Field(default_factory=dict[str, Output])
    metrics: list[str] = Field(default_factory=list[str], max_length=100)
    resources: Resources = Resources()
    limits: JobLimits = JobLimits()
    retries: int = Field(default=0, ge=0, le=10)
    tags: dict[str, str] = Field(default_factory=dict[str, str])

    @property
    def datasets(self) -> dict[str, DatasetInput]:
        return {name: given for name, given in self.inputs.items() if isinstance(given, DatasetInput)}

    @property
    def contract(self) -> ReleaseContract:
        """What the job says may leave."""
        outputs = tuple(
            OutputContract(name=name, type=out.type, register=out.register_as, max_bytes=out.max_bytes)
            for name, out in sorted(self.outputs.items())
        )
        return ReleaseContract(metrics=tuple(self.metrics), outputs=outputs)

    def as_document(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def load_job_file(text: str, *, changes: Mapping[str, str] | None = None) -> JobFile:
    """Parse a job file's text, with `--set path=value` changes applied.

    Raises:
        InvalidInputError: not YAML, an unknown key, a wrong type, an input that the
            command names but the file lacks, or a `type` that can't be run yet.
    """
    try:
        loaded: Any = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else ""
        raise InvalidInputError("the job file is not YAML", code="job-file", why=where) from exc
    if not isinstance(loaded, dict):
        raise InvalidInputError("the job file holds no mapping", code="job-file", hint="see examples/wdbc/job.yaml")
    document = cast("dict[str, Any]", loaded)
    kind = document.get("type", "command")
    if kind != "command":
        raise InvalidInputError(
            f"a job of type {kind!r} can't be run by this version", code="job-type", hint="use `type: command`"
        )
    for path, value in (changes or {}).items():
        _set(document, path, value)
    return parse_job_document(document)


def parse_job_document(document: Mapping[str, Any]) -> JobFile:
    """A job's document (already filled in, e.g. out of an envelope) as a JobFile."""
    try:
        job = JobFile.model_validate(document)
    except ValidationError as exc:
        raise explain(exc, JobFile, what="job file", code="job-file") from exc
    for name in [*job.inputs, *job.outputs]:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,40}", name):
            raise InvalidInputError(
                f"{name[:60]!r} can't name an input or output", code="bad-name", hint="letters, digits and _"
            )
    for output in job.outputs.values():
        if output.register_as is not None:
            check_name(output.register_as, what="model")
            if output.type not in (OutputType.MLFLOW_MODEL, OutputType.CUSTOM_MODEL):
                raise InvalidInputError(
                    "only an output of type mlflow_model or custom_model can be registered", code="job-file"
                )
    if job.environment.image is not None:
        _check_image(job.environment.image)
    _check_references(job)
    return job


def _check_image(reference: str) -> None:
    """By digest, wherever its bytes are; once it is signed, by digest alone."""
    place, _, digest = reference.rpartition("@")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        plain = place or reference
        raise InvalidInputError(
            f"the image {reference[:200]!r} is not named by its digest",
            code="image-digest",
            why="a tag may be another image tomorrow, and what runs beside the data is signed",
            limit="host/name@sha256:…, or oci:/folder@sha256:…",
            hint=f"`skopeo inspect --format '{{{{.Digest}}}}' docker://{plain[:200]}` tells it",
        )


_REFERENCE = re.compile(r"\$\{\{\s*(inputs|outputs)\.([A-Za-z0-9_]+)\s*\}\}")


def _check_references(job: JobFile) -> None:
    for kind, name in _REFERENCE.findall(job.command):
        known = job.inputs if kind == "inputs" else job.outputs
        if name not in known:
            raise InvalidInputError(
                f"the command names {kind}.{name}, which the job file doesn't have",
                code="job-reference",
                hint=did_you_mean(name, known) if known else f"add it under `{kind}`",
            )


def command_line(job: JobFile) -> str:
    """The command with inputs and outputs filled in, as `sh -c` gets it inside the sandbox."""

    def fill(match: re.Match[str]) -> str:
        kind, name = match.groups()
        if kind == "outputs":
            return f"/job/outputs/{name}"
        given = job.inputs[name]
        return given.place(name) if isinstance(given, DatasetInput) else shlex.quote(_as_signed(given))

    return _REFERENCE.sub(fill, job.command)


def _as_signed(value: object) -> str:
    """A value as it reads once it was signed: canonical JSON writes 1.0 as 1, so that is what the command gets."""
    return rfc8785.dumps(value).decode() if isinstance(value, float) else str(value)


def _set(document: dict[str, Any], path: str, value: str) -> None:
    """Apply one `--set a.b=value`; the value is read as YAML, so 1.0 is a number."""
    *parents, last = path.split(".")
    place = document
    for part in parents:
        found = place.get(part)
        if not isinstance(found, dict):
            raise InvalidInputError(
                f"--set {path}: there is no {part!r} to go into", code="job-set", hint=did_you_mean(part, place)
            )
        place = cast("dict[str, Any]", found)
    if parents and parents[-1] == "inputs" and last not in place:
        raise InvalidInputError(f"--set {path}: there is no such input", code="job-set", hint=did_you_mean(last, place))
    place[last] = yaml.safe_load(value)


def job_schema() -> dict[str, Any]:
    """The JSON Schema of a job file."""
    return JobFile.model_json_schema(by_alias=True)
