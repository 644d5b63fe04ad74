"""The policy that `insitu agent init` writes: commented, and safe to start with.

With it nothing runs and nothing leaves until the steward has named a signer, a
base and a dataset; what may leave then is small and scanned.
"""

from __future__ import annotations

from insitu.gate.policy.schema import FIRST_LINE

DEFAULT_POLICY_TEXT = (
    FIRST_LINE
    + """\
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
  metrics: {digits: 4, max_count: 5000, per_second: 50, max_names: 100}   # significant digits; values a job and a
                                 # second; names that a script may make up under a declared pattern
  params: {max_bytes: 8kB}       # parameters and tags together
  logs: {mode: scanned, max_bytes: 256kB, per_second: 200}   # held: no line leaves; scanned: lines that say nothing
                                 # of the data; open: all lines. A second, on average over a minute
  errors: type-and-frames        # of a traceback: exception type and the script's own frames, never the message
  models:
    formats: [skops, safetensors, onnx, json]   # what may leave without a person when clean; pickles never do
    trusted_types: []            # skops types beyond the built-in safe list
    known_rows: 0                # rows of the dataset that may be found in a model
    max_bytes: 1MB
    precision: bfloat16          # significant bits that numbers keep: 8 (float16: 11, float32: 24); the rest is cleared
    ceiling: 256kB               # what one release could carry at most, of a job that a run envelope covers
    free_ceiling: 0              # and of any other job; 0: each model of code that nobody approved waits for a reviewer
    smoke: {rows: 64, tolerance: 0.02}   # asked for so many rows before and after rewriting, so few answers may differ
    otherwise: held              # what does not pass waits for a reviewer (or: refused; resident: used here only)
  files: {formats: [csv, json, png], max_bytes: 256kB, max_count: 20, otherwise: held}
  # Stricter for code that nobody approved in a run envelope: what is left can't spell much.
  free: {logs: held, log_bytes: 16kB, metric_digits: 3, metric_count: 200, param_bytes: 1kB, file_formats: []}

# Bytes that may leave in all, over every channel.
budget:
  per_job: 2MB
  per_dataset_per_month: 50MB
  per_submitter_per_month: 25MB
  ceiling_per_dataset_per_month: 1MB      # what releases could carry beyond what was asked for, added up
  ceiling_per_submitter_per_month: 500kB
  tell_hub: true                 # in round numbers, how much a job may send, so that people see how much is left

# Who may let a held item leave. Nobody reviews their own job. With needed: 2 two decide, each without the other.
review: {reviewers: {}, needed: 1, own: never}   # reviewers: {jo: "ed25519:SHA256:<43 characters>"}

# Services that may be deployed here, and by whose signature.
deployments: {signers: [], max: 3, ports: 8000-8010, memory: 2GiB}
"""
)
