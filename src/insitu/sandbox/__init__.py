"""Where untrusted code runs. Knows nothing of hub or agent.

`contract.py` says what a sandbox is; `spec.py` what it is given and what it
answers; `keeper.py` is the process that stands beside each one; `init.py` is
the first thing that runs inside.
"""
