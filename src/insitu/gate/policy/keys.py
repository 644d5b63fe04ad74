"""Every key of a policy, as data: what it means in one line, and which way is stricter.

The schema takes the lines, so that an editor shows them; `policy_diff` takes the
order. A key that is not here fails the test that compares this table with
`policy/values.py`, so nobody adds one without saying which way is stricter. `*`
stands for a name that the file chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Order(Enum):
    """Which of two values lets less through."""

    LOWER = "the lower one"
    HIGHER = "the higher one"
    FEWER = "the list with fewer in it"
    NARROWER = "the range inside the other"
    NONE = "neither: each lets in what the other keeps out, so a change counts as looser"
    NEUTRAL = "it lets nothing in and keeps nothing out"


@dataclass(frozen=True)
class Ranked:
    """Words, the strictest first."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Key:
    help: str
    order: Order | Ranked


_LOWER, _FEWER = Order.LOWER, Order.FEWER
AS_STORED = "as stored"

KEYS: Mapping[str, Key] = {
    "version": Key("Counts up with each change; ledger entries name it.", Order.NEUTRAL),
    "publish_policy": Key(
        "true: the hub is told the rules of sandbox, release, budget and datasets, and no person. false: it isn't.",
        _LOWER,
    ),
    "signers.*": Key("Name and key fingerprint of somebody whose signed jobs may run.", Order.NONE),
    "bases": Key("Digests of the root file systems that jobs and services may run on.", _FEWER),
    "images": Key("Digests of the images that jobs may bring as their environment.", _FEWER),
    "datasets.*": Key("Who may use a dataset, for what, until when, how often. All four must be said.", Order.NONE),
    "datasets.*.who": Key("Signers who may use it.", _FEWER),
    "datasets.*.purpose": Key("Must equal the job's tag `purpose`.", Order.NONE),
    "datasets.*.until": Key("Last day, UTC, on which a job may start.", _LOWER),
    "datasets.*.runs": Key("Accepted jobs in all.", _LOWER),
    "sandbox.memory": Key("The most memory that one job may ask for.", _LOWER),
    "sandbox.cpus": Key("The most processors that one job may ask for.", _LOWER),
    "sandbox.gpus": Key("0: no sandbox hands out a GPU.", _LOWER),
    "sandbox.timeout": Key("The longest time that one job may ask for.", _LOWER),
    "sandbox.processes": Key("Processes and threads of one job.", _LOWER),
    "sandbox.disk": Key("The most that one job may have on the site's disk; left out, 10GiB.", _LOWER),
    "sandbox.free": Key("Free room on the site's disk below which no job starts; left out, 1GiB.", Order.HIGHER),
    "release.metrics.digits": Key("Significant decimal digits of a value that leave, 1 to 8.", _LOWER),
    "release.metrics.max_count": Key("Values that one job may send, over all names and steps.", _LOWER),
    "release.metrics.per_second": Key("Values a second, on average over a minute; more are kept.", _LOWER),
    "release.metrics.max_names": Key("Names of metrics that one job may make up under declared patterns.", _LOWER),
    "release.params.max_bytes": Key("Parameters and tags of one job together, names included.", _LOWER),
    "release.params.ceiling": Key(
        "What parameters, tags and made-up names of one job may tell beyond what was to be expected.", _LOWER
    ),
    "release.logs.mode": Key(
        "held: no line leaves. scanned: lines leave that hold no known data. open: all lines leave, within max_bytes.",
        Ranked(("held", "scanned", "open")),
    ),
    "release.logs.max_bytes": Key("Bytes of log text of one job.", _LOWER),
    "release.logs.ceiling": Key("What scanned lines of one job may tell beyond what was to be expected.", _LOWER),
    "release.logs.per_second": Key("Lines a second, on average over a minute; more are kept.", _LOWER),
    "release.errors": Key(
        "type-and-frames: of a traceback the exception's type and the script's own frames. none: nothing.",
        Ranked(("none", "type-and-frames")),
    ),
    "release.models.formats": Key("Formats in which a model may leave without a person when clean.", _FEWER),
    "release.models.trusted_types": Key("skops types beyond the built-in list; also what serving loads.", _FEWER),
    "release.models.known_rows": Key("How many of a dataset's rows may be found in a model.", _LOWER),
    "release.models.max_bytes": Key("Size of the canonical copy.", _LOWER),
    "release.models.precision": Key(
        "What weights are rounded to before they leave; left out: they leave as they were stored.",
        Ranked(("bfloat16", "float16", "float32", AS_STORED)),
    ),
    "release.models.ceiling": Key(
        "Bytes that a model may carry beyond what was asked for, where a run envelope covers the job.", _LOWER
    ),
    "release.models.free_ceiling": Key(
        "The same where none covers it. 0: every model of free code waits for a reviewer.", _LOWER
    ),
    "release.models.smoke.rows": Key("Rows that the model is asked before and after rewriting.", Order.HIGHER),
    "release.models.smoke.tolerance": Key("Share of those predictions that may differ, 0 to 1.", _LOWER),
    "release.models.otherwise": Key(
        "What becomes of a model that does not pass: held for a reviewer, resident (usable here only), refused.",
        Ranked(("refused", "resident", "held")),
    ),
    "release.free.metric_digits": Key("As release.metrics.digits, without a run envelope.", _LOWER),
    "release.free.metric_count": Key("As release.metrics.max_count, without a run envelope.", _LOWER),
    "release.free.param_bytes": Key("As release.params.max_bytes, without a run envelope.", _LOWER),
    "release.free.logs": Key("As release.logs.mode, without a run envelope.", Ranked(("held", "scanned", "open"))),
    "release.free.log_bytes": Key("As release.logs.max_bytes, without a run envelope.", _LOWER),
    "release.free.log_ceiling": Key("As release.logs.ceiling, without a run envelope.", _LOWER),
    "release.free.param_ceiling": Key("As release.params.ceiling, without a run envelope.", _LOWER),
    "release.free.file_formats": Key("As release.files.formats, without a run envelope.", _FEWER),
    "release.files.formats": Key("Formats in which a file may leave without a person when clean.", _FEWER),
    "release.files.max_bytes": Key("Size of the canonical copy of one output.", _LOWER),
    "release.files.max_count": Key("Files in one output.", _LOWER),
    "release.files.otherwise": Key("What becomes of a file that does not pass.", Ranked(("refused", "held"))),
    "budget.per_job": Key("Bytes of one job over all channels.", _LOWER),
    "budget.per_dataset_per_month": Key("Bytes about one dataset in a calendar month, UTC.", _LOWER),
    "budget.per_submitter_per_month": Key("Bytes of one submitter's jobs in a calendar month, UTC.", _LOWER),
    "budget.tell_hub": Key(
        "true: the hub hears, in round numbers, how much a job may send. false: it doesn't.", _LOWER
    ),
    "budget.ceiling_per_dataset_per_month": Key(
        "Sum of the ceilings of what left about one dataset in a month; left out: as the bytes.", _LOWER
    ),
    "budget.ceiling_per_submitter_per_month": Key(
        "Sum of the ceilings of what left for one submitter in a month; left out: as the bytes.", _LOWER
    ),
    "review.reviewers.*": Key("Name and key fingerprint of somebody whose verdict lets a held item go.", Order.NONE),
    "review.needed": Key("How many reviewers must agree, 1 or 2. Two work blind.", Order.HIGHER),
    "review.own": Key("never: nobody reviews their own job, by key or by name.", Order.NEUTRAL),
    "deployments.signers": Key("Signers who may deploy services here.", _FEWER),
    "deployments.max": Key("How many deployments.", _LOWER),
    "deployments.ports": Key("On which ports, as a range.", Order.NARROWER),
    "deployments.memory": Key("How much memory each may have.", _LOWER),
}

SECTIONS: Mapping[str, str] = {
    "signers": "Whose signed jobs may run: name and key fingerprint.",
    "datasets": "Who may use which dataset, for what, until when, how often.",
    "sandbox": "The most that one job may have.",
    "release": "What may leave, channel by channel. A channel that is not named is closed.",
    "release.metrics": "Metric values.",
    "release.params": "Parameters and tags that the script logs.",
    "release.logs": "Lines that the script prints.",
    "release.models": "Outputs of the types mlflow_model and custom_model.",
    "release.models.smoke": "A prediction before and after rewriting, in the sandbox. Left out: none is made.",
    "release.free": "What is stricter for jobs that no run envelope covers. Left out: nothing.",
    "release.files": "Outputs of the types uri_file and uri_folder.",
    "budget": "Bytes that may leave in all, over every channel.",
    "review": "Who may let a held item leave, and approve kinds of run in advance.",
    "review.reviewers": "Whose verdict counts: name and key fingerprint.",
    "deployments": "Services that may be deployed here, and by whose signature.",
}
