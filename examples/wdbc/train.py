"""An ordinary training script: scikit-learn, MLflow's usual calls, and nothing of Insitu.

It reads a table where it is told to, logs as it goes, and saves its model with
`mlflow.sklearn.log_model` in skops' format, which can be read without running it.
On a laptop it runs as it does at a site:

    python train.py --data path/to/folder --C 1.0 --estimator logistic
"""

import argparse
from pathlib import Path

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

TARGET = "malignant"
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of the training rows: the learning curve


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with CSV files")
    parser.add_argument("--C", type=float, default=1.0, help="inverse strength of regularisation")
    parser.add_argument("--estimator", choices=("logistic", "knn"), default="logistic")
    return parser.parse_args()


def pipeline(given: argparse.Namespace) -> Pipeline:
    if given.estimator == "knn":
        return make_pipeline(StandardScaler(), KNeighborsClassifier(n_neighbors=5))
    return make_pipeline(StandardScaler(), LogisticRegression(C=given.C, max_iter=500))


def main() -> None:
    given = arguments()
    table = pd.concat([pd.read_csv(path) for path in sorted(given.data.rglob("*.csv"))])
    features, target = table.drop(columns=TARGET), table[TARGET]
    train_x, test_x, train_y, test_y = train_test_split(
        features, target, test_size=0.25, stratify=target, random_state=0
    )

    with mlflow.start_run():
        mlflow.log_params({"C": given.C, "estimator": given.estimator})
        for step, share in enumerate(SHARES):
            rows = round(len(train_x) * share)
            model = pipeline(given).fit(train_x[:rows], train_y[:rows])
            loss = log_loss(train_y, model.predict_proba(train_x), labels=[0, 1])
            accuracy = model.score(train_x, train_y)
            mlflow.log_metrics({"training_log_loss": loss, "training_accuracy": accuracy}, step=step)
            print(f"{share:4.0%} of the training rows: log loss {loss:.3f}, accuracy {accuracy:.3f}", flush=True)

        model = pipeline(given).fit(train_x, train_y)
        auc = roc_auc_score(test_y, model.predict_proba(test_x)[:, 1])
        mlflow.log_metric("auc", auc)
        print(f"area under the curve on held-out rows: {auc:.3f}", flush=True)

        # Logged, and not declared in the job file: these stay at the site, and disturb nobody.
        mlflow.log_metric("held_out_accuracy", model.score(test_x, test_y))
        mlflow.log_text(repr(model), "pipeline.txt")

        mlflow.sklearn.log_model(
            model,
            name="model",
            serialization_format="skops",
            signature=infer_signature(test_x, model.predict(test_x)),
            pip_requirements="requirements.txt",
        )
        print("the model is logged", flush=True)


if __name__ == "__main__":
    main()
