"""What MLflow is told through the environment, which is the only place where it listens.

Written once, before MLflow is imported; nothing here is read back, and none of
it is secret: the address of the store, which may hold a password, is handed over
as an object instead. Children of the hub inherit these and can make nothing of
them.
"""

from __future__ import annotations

import os

_SETTINGS = {
    # Importing MLflow starts a thread that calls home unless this stands.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # Host names and origins are the business of the hub, which knows its own name; MLflow would refuse all but localhost.
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
    # Files are handed out by us from a folder that is found per hub; the name of the destination only has to exist.
    "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    "_MLFLOW_SERVER_ARTIFACT_DESTINATION": "given-per-hub",
    # Each start would tell of every table otherwise.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # Parts that would start processes, call models or trust a header for who is asking.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_WORKSPACES": "false",
    "MLFLOW_ENABLE_REMOTE_ASSISTANT": "false",
    # Connections that a firewall may have forgotten are replaced; seconds.
    "MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE": "1800",
}

# Left over from somebody's `mlflow server`, these would add routes, move them, or send reads elsewhere.
_UNSET = (
    "_MLFLOW_STATIC_PREFIX",
    "prometheus_multiproc_dir",
    "_MLFLOW_SERVER_ARTIFACTS_ONLY",
    "_MLFLOW_SERVER_READ_REPLICA_BACKEND_STORE",
)


def set_environment() -> None:
    """Tell MLflow what it may do, before it is imported."""
    for name in _UNSET:
        os.environ.pop(name, None)
    os.environ.update(_SETTINGS)
