"""`insitu run --rehearse`: the same job here, on made-up data, in the same sandbox, judged by the same gate.

The policy is what the site publishes of its own, or a file. What the site alone knows
is named in the answer as not checked.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from insitu.cli.output import Output
from insitu.cli.session import hub, user_folders
from insitu.domain.errors import InvalidInputError, NotFoundError, UnavailableError
from insitu.domain.jobs import JobState
from insitu.sdk.config import load_or_make_key
from insitu.sdk.mock import as_bytes, mock_table
from insitu.sdk.submit import PreparedJob, prepare_job
from insitu.wire.job_file import DatasetInput, JobFile, load_job_file
from insitu.wire.people import DatasetView, SiteView
from insitu.wire.sync import BaseOffer

if TYPE_CHECKING:
    from insitu.agent.rehearsal import Desk, MockFiles, Rehearsed
    from insitu.images.base import UnpackedBase
    from insitu.sdk.client import Client

_ME = "you"
_HOLDS = (JobState.HELD, JobState.REFUSED)


@dataclass(frozen=True)
class Asked:
    """What the command line said."""

    file: Path
    changes: Mapping[str, str]
    policy: Path | None = None
    site: str | None = None
    data: Sequence[str] = ()
    rows: int | None = None
    seed: int = 0
    sandbox: str | None = None
    base_layout: Path | None = None


@dataclass
class Rules:
    """The policy of a rehearsal."""

    text: str
    version: int
    source: str  # a site's name, or a file
    budget_bytes: int
    unknown: list[str] = field(default_factory=list[str])
    """What of the site's own answer this rehearsal can't give."""


@dataclass(frozen=True)
class Stand:
    """What stands in for a dataset."""

    input: str
    dataset: str  # name@version, as the job would get it
    files: MockFiles
    made_up: str

    def as_dict(self) -> dict[str, str]:
        return {"input": self.input, "dataset": self.dataset, "data": self.made_up}


def rehearse_job(asked: Asked, out: Output) -> int:
    """Rehearse a job and say what would become of it; the exit code that stands for that.

    Raises:
        UnavailableError: the agent's part is not installed, or no sandbox works here.
        NotFoundError: the site publishes no policy, and none was given.
    """
    from insitu.cli.rehearse_text import describe

    agent = _agent_part()
    job = load_job_file(_read(asked.file, "job-file"), changes=asked.changes)
    folders = user_folders()
    layout = asked.base_layout or folders.cache / "base"
    index_url = os.environ.get("INSITU_INDEX_URL") or None
    desk: Desk = agent.Desk(folders.cache, layout, asked.sandbox, index_url)
    with ExitStack() as stack:
        say = stack.enter_context(out.progress(f"reading {asked.file}"))
        mock = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="insitu-mock-")))
        offers = _Offers(stack)
        stands = list(_stands(asked, job, offers, mock, agent.MockFiles))
        base = desk.base(say)
        key = load_or_make_key(folders)
        prepared = _prepare(asked, stands, base, folders.cache, index_url, say)
        rules = _rules(asked, job, offers, base, prepared, key.fingerprint)
        envelope = prepared.sign(submitter=_ME, key=key, now=datetime.now(UTC))
        done: Rehearsed = agent.rehearse(
            envelope,
            prepared.blobs,
            files=prepared.files,
            policy=rules.text,
            data=_in_order(stands),
            desk=desk,
            base=base,
            progress=say,
        )
    told = _answer(done, rules, stands)
    out.show(told, *describe(told), name=told["state"])
    return int(told["exit_code"])


def _agent_part() -> Any:
    try:
        from insitu.agent import rehearsal
    except ImportError as exc:
        raise UnavailableError(
            "a rehearsal runs the site's own code, which is not installed here",
            code="no-agent",
            why=f"{exc.name} is missing",
            hint="pip install 'insitu[agent]'",
        ) from exc
    return rehearsal


def _read(path: Path, code: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"{path} can't be read", code=code, why=str(exc)[:200]) from exc


# -- data --------------------------------------------------------------------------------------------------------------


class _Offers:
    """The hub's catalogue, asked only when something is wanted of it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = self._stack.enter_context(hub())
        return self._client


def _stands(asked: Asked, job: JobFile, offers: _Offers, folder: Path, files: type[MockFiles]) -> Iterator[Stand]:
    given = _given(asked.data, job)
    for name, wanted in job.datasets.items():
        if name in given:
            paths = given[name]
            kind = paths[0].suffix.removeprefix(".") if paths[0].suffix in (".csv", ".npy", ".parquet") else "files"
            label = wanted.dataset
            yield Stand(
                name, label, files(wanted.name, kind, paths), f"yours: {', '.join(path.name for path in paths)}"
            )
            continue
        yield _made_up(asked, job, name, wanted, offers, folder, files)


def _made_up(
    asked: Asked, job: JobFile, name: str, wanted: DatasetInput, offers: _Offers, folder: Path, files: type[MockFiles]
) -> Stand:
    view = offers.client.dataset(wanted.name, wanted.version, site=_site_of(asked, job))
    table = mock_table(view, rows=asked.rows, seed=asked.seed)
    kind = view.format or "csv"
    path = folder / f"{name}.{kind}"
    path.write_bytes(as_bytes(table, {column.name: column.type for column in view.columns}, kind))
    rows = len(next(iter(table.values())))
    made_up = f"{rows} made-up rows, seed {asked.seed}"
    return Stand(name, f"{view.name}@{view.version}", files(view.name, kind, [path]), made_up)


def _given(data: Sequence[str], job: JobFile) -> dict[str, list[Path]]:
    """Input → files of one's own that stand in for it."""
    found: dict[str, list[Path]] = {}
    for text in data:
        name, mark, path = text.partition("=")
        if not mark or name not in job.datasets:
            raise InvalidInputError(
                f"--data {text!r} is not INPUT=FILE",
                code="rehearse-data",
                hint=f"datasets of this job: {', '.join(job.datasets) or 'none'}",
            )
        if not Path(path).is_file():
            raise InvalidInputError(f"there is no file {path}", code="rehearse-data")
        found.setdefault(name, []).append(Path(path))
    return found


def _in_order(stands: Iterable[Stand]) -> list[MockFiles]:
    return [one.files for one in stands]


# -- policy ------------------------------------------------------------------------------------------------------------


def _site_of(asked: Asked, job: JobFile) -> str | None:
    return asked.site or (job.compute if isinstance(job.compute, str) else None)


def _rules(
    asked: Asked, job: JobFile, offers: _Offers, base: UnpackedBase, prepared: PreparedJob, fingerprint: str
) -> Rules:
    document, source, unknown = (
        _from_file(asked.policy) if asked.policy else _from_site(_policy_site(asked, job, offers), offers, fingerprint)
    )
    if base.digest not in document.get("bases", []):
        unknown.append("whether the site runs jobs on a base like the one here")
    document["bases"] = [base.digest]
    images = [target.image.digest for target in prepared.targets if target.image]
    if not set(images) <= set(document.get("images", [])):
        unknown.append("whether the site lets jobs run in that image")
    document["images"] = images
    text = yaml.safe_dump(document, sort_keys=False)
    from insitu.gate.policy.loading import load_policy

    policy = load_policy(text)
    unknown.append("what of the budgets is used up this month, and how many of the dataset's runs")
    unknown.append("run envelopes: the job is judged as code that nobody has approved")
    return Rules(text, policy.version, source, policy.budget.per_job_bytes, unknown)


def _from_file(path: Path) -> tuple[dict[str, Any], str, list[str]]:
    from insitu.gate.policy.loading import load_policy

    text = _read(path, "policy-file")
    load_policy(text)  # its complaints name the line
    return yaml.safe_load(text), str(path), []


def _from_site(site: str, offers: _Offers, fingerprint: str) -> tuple[dict[str, Any], str, list[str]]:
    from insitu.agent.published_policy import as_document

    try:
        told = offers.client.site_policy(site).policy
    except NotFoundError as exc:
        if exc.code != "policy-not-published":
            raise
        raise NotFoundError(
            exc.what, code=exc.code, hint=f"{exc.hint}: `--policy FILE` rehearses under a file"
        ) from exc
    document = as_document(told)
    for grant in document["datasets"].values():
        grant["who"] = [_ME]
    document["signers"] = {_ME: fingerprint}
    bases = [base.digest for base in offers.client.site(site).bases]
    return document | {"bases": bases}, site, ["whether the site knows your key, and lets you use the datasets"]


def _policy_site(asked: Asked, job: JobFile, offers: _Offers) -> str:
    """The site that was named, else the first one that offers what the job reads."""
    named = _site_of(asked, job)
    if named is not None:
        return named
    wanted = {(one.name, one.version) for one in job.datasets.values()}
    offered: dict[str, list[DatasetView]] = {}
    for view in offers.client.datasets():
        offered.setdefault(view.site, []).append(view)
    for site, views in sorted(offered.items()):
        if all(
            any(view.name == name and version in (None, view.version) for view in views) for name, version in wanted
        ):
            return site
    raise NotFoundError(
        "no site offers all that this job reads", code="no-site", hint="name one with --site, or a policy with --policy"
    )


# -- the job -----------------------------------------------------------------------------------------------------------


def _prepare(
    asked: Asked, stands: Sequence[Stand], base: UnpackedBase, cache: Path, index_url: str | None, say: Any
) -> PreparedJob:
    """The job as it is, but for its datasets' versions: here each has its own, in the order in which they are added."""
    versions: dict[str, int] = {}
    changes, views = dict(asked.changes), list[DatasetView]()
    for one in stands:
        name = one.files.name
        versions[name] = versions.get(name, 0) + 1
        changes[f"inputs.{one.input}.dataset"] = f"{name}@{versions[name]}"
        views.append(DatasetView(site=_ME, name=name, version=versions[name], digest="", rows=""))
    offer = BaseOffer(digest=base.digest, python=base.python, platform=base.platform)
    here = SiteView(name=_ME, joined=True, bases=[offer])
    return prepare_job(
        asked.file, changes=changes, sites=[here], datasets=views, cache=cache, index_url=index_url, progress=say
    )


# -- the answer --------------------------------------------------------------------------------------------------------


def _answer(done: Rehearsed, rules: Rules, stands: Sequence[Stand]) -> dict[str, Any]:
    code = 0 if done.state is JobState.SUCCEEDED else 3 if done.state in _HOLDS else 1
    return {
        "passes": code == 0,
        "state": done.state.value,
        "reason": done.reason,
        "policy": {"version": rules.version, "of": rules.source},
        "spends": {
            "size_bytes": done.size_bytes,
            "limit_bytes": rules.budget_bytes,
            "ceiling_bytes": done.ceiling_bytes,
        },
        "outputs": done.outputs,
        "released": done.released,
        "kept": [vars(one) for one in done.kept],
        "kept_classes": done.kept_counts,
        "data": [one.as_dict() for one in stands],
        "sandbox": done.sandbox,
        "not_checked": [*rules.unknown, "what only the real data show: rows in outputs, copies, small groups"],
        "said": done.said if code == 1 else "",
        "exit_code": code,
    }
