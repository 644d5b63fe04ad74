"""Insitu: train models where the data is. Only what the data's owner allows leaves.

A job's journey, and the file to open at each step (paths below `src/insitu/`):

| # | step | side | file to open |
|---|---|---|---|
| 1 | somebody submits a signed job | hub | `sdk/submit.py`, `hub/actions/jobs.py` |
| 2 | it is placed at a site; while it waits it says why | hub | `hub/placement.py` |
| 3 | the agent takes it; signature and policy come before anything else | site | `agent/accept.py` |
| 4 | packages and data are put ready, data read-only by name | site | `agent/environments.py`, `agent/ready_data.py` |
| 5 | code runs, sealed off: no network, one socket to the gate | site | `sandbox/contract.py`, `intake/session.py` |
| 6 | what it wrote is judged | site | `gate/decide.py` |
| 7 | what passed is written to the ledger, then sent; what is held waits for a steward | site | `agent/releasing.py` |
| 8 | the hub verifies, then admits it | hub | `wire/releases.py`, `hub/actions/releases.py` |
| 9 | run, model version and image are recorded, built, pushed | hub | `hub/tracking.py`, `images/build.py` |
| 10 | it is rolled out, checked, and turned back when unhealthy | hub and site | `deploy/plan.py` |

This module stays light: processes that start in milliseconds import it.
"""
