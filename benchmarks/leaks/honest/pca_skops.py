"""A scaler, principal components and logistic regression in one pipeline, by MLflow in skops."""

from __future__ import annotations

from benchmarks.leaks.honest.training import first_people, other_people, share
from benchmarks.leaks.inside.channels import Job

OUTPUTS = {"pipeline": "mlflow_model"}
VARIANTS: dict[str, dict[str, object]] = {"": {}}


def leak(job: Job) -> None:
    from mlflow.sklearn import save_model
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = first_people(job)
    model = make_pipeline(StandardScaler(), PCA(4), LogisticRegression()).fit(x, y)
    save_model(
        model,
        str(job.outputs / "pipeline"),
        serialization_format="skops",
        pip_requirements=["scikit-learn", "skops"],
    )


def accuracy(job: Job) -> float:
    import skops.io

    x, y = other_people(job)
    path = next((job.outputs / "pipeline").glob("*.skops"))
    return share(skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path)).predict(x) == y)
