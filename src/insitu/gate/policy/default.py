"""The policy that `insitu agent init` writes: commented, and safe to start with.

With it nothing runs and nothing leaves until the steward has named a signer, a
base and a dataset; what may leave then is small and scanned.
"""

from __future__ import annotations

from insitu.gate.policy.schema import FIRST_LINE

DEFAULT_POLICY_TEXT = (
    FIRST_LINE
    + """\
# What may run at this site, and what may leave it. What is not said here is denied.
#
# As it stands nobody can run anything. To begin, fill in four lines: signers, bases, datasets, review.reviewers.
#   insitu policy check         does it say what you meant? Names the line if it can't be read
#   insitu policy diff NEW      what would be looser, what stricter
#   insitu policy test NEW      what would have become of the last jobs
# Saving is enough; nothing has to be restarted. Each key is explained in docs/policy.md.
#
# IN DOUBT, OR IN A HURRY: rename this file. From then on nothing starts and nothing leaves; what runs goes on inside of
# its sandbox, and what it says waits here; services end. Rename it back, and all goes on. Nothing is lost by waiting.

version: 1                       # add 1 with each change; the ledger says under which version something left

# true: the hub is told the rules below, so that people can rehearse their jobs against them (`insitu run --rehearse`).
# Never told: names and keys of people, whom a dataset is for, bases, images, deployments.
publish_policy: false

# ---- What may run ----------------------------------------------------------------------------------------------------

# People whose signed jobs may run, each with the fingerprint that `insitu login` showed them. Ask for it by voice.
signers: {}                      # {alice: "ed25519:SHA256:<43 characters>"}

# Root file systems that jobs may run on: the digest that `insitu agent init` printed (`base` in agent.yaml).
bases: []                        # ["sha256:<64 hex digits>"]

# Images that jobs may bring as their environment. All that is in one runs beside your data, sealed off as any job: list
# what somebody has looked at. Most sites need none; packages come by their locks.
images: []                       # ["sha256:<64 hex digits of the image's manifest>"]

# Who may use which dataset, for what purpose (the job's tag), until which day, in how many jobs. All four are needed.
datasets: {}                     # {wdbc: {who: [alice], purpose: screening, until: 2027-06-30, runs: 50}}

# The most that one job may have. Who asks for more is refused; who takes more is ended.
sandbox:
  memory: 4GiB
  cpus: 2
  gpus: 0                        # this version hands out none
  timeout: 6h
  processes: 256
  disk: 10GiB                    # its outputs on this site's disk
  free: 1GiB                     # room on that disk below which no job starts

# ---- What may leave --------------------------------------------------------------------------------------------------

# First for jobs whose code a reviewer has approved (`insitu envelope create`); `free`, below, is stricter for all others.
release:
  metrics:
    digits: 4                    # 0.98765 leaves as 0.9877
    max_count: 5000              # values of one job; more are refused
    per_second: 50               # on average; more stay here
    max_names: 100               # that the job's file doesn't spell out, under patterns such as training_*
  params:                        # parameters and tags together
    max_bytes: 8kB
    ceiling: 1kB                 # what they may tell beyond what was to be expected
  logs:
    mode: scanned                # held: no line leaves. scanned: lines without data in them. open: every line, unread
    max_bytes: 256kB
    ceiling: 512                 # bytes, as for params
    per_second: 200
  errors: type-and-frames        # ValueError in train.py line 12; never the message, which may quote data. Or: none
  models:
    formats: [skops, safetensors, onnx, json]   # a pickle waits for a reviewer, whatever stands here
    trusted_types: []            # classes beyond the built-in list; also what a service here may load
    known_rows: 0                # rows of the dataset that may be found in a model
    max_bytes: 1MB
    precision: bfloat16          # weights keep 8 significant bits (float16: 11, float32: 24); hidden bits go with the rest
    ceiling: 256kB               # what one model could carry at most, with code that was approved
    free_ceiling: 0              # with any other code. 0: each such model waits for a reviewer
    smoke: {rows: 64, tolerance: 0.02}   # must still predict the same after rewriting, but for 2 % of 64 rows
    otherwise: held              # held: a reviewer decides. refused: no. resident: it is used here and never leaves
  files:
    formats: [csv, json, png]
    max_bytes: 256kB
    max_count: 20
    otherwise: held
  # Code that nobody approved. Whoever writes it can choose each word and digit, so little of it may leave.
  free:
    metric_digits: 3
    metric_count: 200
    param_bytes: 1kB
    param_ceiling: 256
    logs: held
    log_bytes: 16kB              # these two count where logs above is scanned
    log_ceiling: 128
    file_formats: []

# Bytes that may leave in all, by whatever way; months are calendar months, UTC. Approvals count too.
budget:
  per_job: 2MB
  per_dataset_per_month: 50MB
  per_submitter_per_month: 25MB
  ceiling_per_dataset_per_month: 1MB      # what the released models could carry, added up
  ceiling_per_submitter_per_month: 500kB
  tell_hub: true                 # the job's owner sees, in round numbers, how much is left

# ---- Who decides -----------------------------------------------------------------------------------------------------

# Who may let a held item leave, and approve code in advance. Without a reviewer what is held stays held.
review:
  reviewers: {}                  # {jo: "ed25519:SHA256:<43 characters>"}
  needed: 1                      # 2: two people decide, and neither is told what the other said
  own: never                     # nobody decides on their own job

# ---- What may be served ----------------------------------------------------------------------------------------------

# Whose signed deployments may run here. Predictions go to whoever reaches the port.
deployments:
  signers: []                    # names from `signers` above
  max: 3
  ports: 8000-8010
  memory: 2GiB
"""
)
