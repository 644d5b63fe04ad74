"""Decides what may leave a site. Pure but for reading the files it judges; opens no socket.

While a job runs, in its *intake*        After it, in a *judge* of its own (`judge.py`)
  metrics.py  params.py  names.py          files ─► canonical copy ─► read ─► scan ─► decide
  logs.py     tracebacks.py                models.py  canonical_*.py  read_*.py  rows.py  checks/

What both compare with is made once, when a dataset is added: `known/data.py`.
What is allowed is the site's policy: `policy/loading.py`.

Three habits hold everywhere here. What was not checked has not passed: a crash,
a bound or an unknown form is held. What leaves is a copy that the gate wrote,
never the bytes that a job wrote. And nothing that goes into a decision (a rule,
a measure, a place) is a value of the data or a name that a script chose.

To read it in order: `decide`, `checks`, `examine`, `rows`, `row_maps`, `row_evidence`.
What it does not catch: docs/threats.md.
"""
