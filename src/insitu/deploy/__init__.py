"""Desired against observed, and the steps between: how a site serves models.

`plan.py` and `health.py` are pure: from what should be and what is they say what to do.
`site_deployments.py` looks, does it, and remembers on disk; `drivers/` start and stop
one revision; `endpoint.py` is the process that owns an address and hands each request
to whichever revision is current.

A deployment's process is sealed off like a job: no network at all, a read-only root.
The only way in is one unix socket, and only the endpoint connects to it. The hub never
sees a request or an answer.
"""
