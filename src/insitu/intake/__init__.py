"""One process per job: serves the job's socket, reads its streams, writes what may leave.

    script ──MLflow REST──► its socket ─► http ─► api ─► tracking, models, artifacts ─┐
    stdout, stderr ──fds──► control.sock ─► streams ─────────────────────────────────┤
                                                                     decided ◄────────┘
                                                    rules (insitu.gate) │ events.jsonl · kept.jsonl
                                                                        ▼
                                              the agent reads events.jsonl, writes the ledger, sends

The job's code is untrusted and so is every byte that arrives here. This process
holds no key, needs no network and no privilege; it can write to one folder. All
that leaves passes `decided.py`, which asks the gate's rules first and appends
to `events.jsonl` what they let out. Everything else is kept here, in full, for
the steward.

To read it in order: `request`, `api`, `tracking`, `decided`, `session`.
"""
