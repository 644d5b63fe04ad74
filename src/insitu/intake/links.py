"""Links that the MLflow client prints, in words: they lead to this gate, and nobody outside the sandbox can open them.

What stands in them was made here: an address, the experiment's number, ids of runs
(`derived_id`). So the words tell no more than which of the job's runs was meant,
and the line need not pay for digits that the script did not choose.
"""

from __future__ import annotations

import re

from insitu.intake.runs import Runs

_LINK = re.compile(r"http://127\.0\.0\.1:[0-9]{1,5}/#/experiments/([0-9]{1,19})(?:/runs/([0-9a-f]{32}))?(?![\w/?&=])")


def in_words(text: str, runs: Runs) -> str:
    """`text` with each link to the job's own experiment or to one of its runs said in words; others stay as they are."""
    return _LINK.sub(lambda link: _words(link, runs), text) if "/#/experiments/" in text else text


def _words(link: re.Match[str], runs: Runs) -> str:
    experiment_id, run_id = link.groups()
    if experiment_id != runs.experiment_id:
        return link[0]
    if run_id is None:
        return "this experiment"
    if run_id not in runs:
        return link[0]
    run = runs.get(run_id)
    return "this run" if run is runs.own else f"run {run.local}"
