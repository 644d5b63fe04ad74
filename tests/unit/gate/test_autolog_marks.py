"""MLflow's autologging writes its run's id onto the estimator it watched: the released copy does not carry it."""

from __future__ import annotations

import io
import zipfile

import numpy as np
from sklearn.linear_model import LogisticRegression
from skops import io as skops_io

from insitu.gate.canonical.skops import rewrite_skops
from insitu.gate.effort import Effort


def test_marks_of_autologging_are_dropped_and_the_model_predicts_as_before() -> None:
    rows = np.arange(40.0).reshape(20, 2)
    model = LogisticRegression().fit(rows, np.arange(20) > 9)
    model._mlflow_run_id = "0123456789abcdef0123456789abcdef"  # as autologging does

    copy = rewrite_skops(skops_io.dumps(model), Effort())

    with zipfile.ZipFile(io.BytesIO(copy.data)) as archive:
        assert "_mlflow" not in archive.read("schema.json").decode()
    loaded = skops_io.loads(copy.data)
    assert (loaded.predict(rows) == model.predict(rows)).all()
