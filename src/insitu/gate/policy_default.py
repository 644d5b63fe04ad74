"""The policy that `insitu agent init` writes: commented, and safe to start with.

With it nothing runs and nothing leaves until the steward has named a signer, a
base and a dataset; what may leave then is small and scanned.
"""

from __future__ import annotations

DEFAULT_POLICY_TEXT = """\
# What may run at this site and what may leave it. Absent means denied.
# Check it with `insitu policy check`; every key is explained in docs/policy.md.
version: 1                       # count up with each change

# Whose signed jobs may run, by key fingerprint (`insitu login` prints it).
signers: {}                      # alice: "ed25519:SHA256:<43 characters>"

# Root file systems that jobs and services may run on (`insitu image base list`).
bases: []                        # - sha256:<64 hex digits>

# Who may use which dataset, for what purpose, until when, how often.
datasets: {}                     # wdbc: {who: [alice], purpose: screening, until: 2027-06-30, runs: 50}

# The most that one job may have.
sandbox: {memory: 4GiB, cpus: 2, gpus: 0, timeout: 6h, processes: 256}

release:
  metrics: {digits: 4, max_count: 5000, per_second: 50}   # significant digits; values a job; values a second
  params: {max_bytes: 8kB}       # parameters and tags together
  logs: {mode: scanned, max_bytes: 256kB}   # held: no line leaves; scanned: lines that carry no known data leave
  errors: type-and-frames        # of a traceback: exception type and the script's own frames, never the message
  models:
    formats: [skops]             # what may leave without a person when clean; pickles never do
    trusted_types: []            # skops types beyond the built-in safe list
    known_rows: 0                # rows of the dataset that may be found in a model
    max_bytes: 1MB
    otherwise: held              # what does not pass waits for a reviewer (or: refused)
  files: {formats: [csv, json], max_bytes: 256kB, otherwise: held}

# Bytes that may leave in all, over every channel.
budget: {per_job: 2MB, per_dataset_per_month: 50MB, per_submitter_per_month: 25MB}

# Who may let a held item leave. Nobody reviews their own job.
review: {reviewers: {}, needed: 1, own: never}   # reviewers: {jo: "ed25519:SHA256:<43 characters>"}

# Services that may be deployed here, and by whose signature.
deployments: {signers: [], max: 3, ports: 8000-8010, memory: 2GiB}
"""
