"""Two hundred epochs with six metrics each, and three hundred lines of log."""

from __future__ import annotations

import numpy as np

from benchmarks.leaks.honest.training import first_people, other_people
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import unit
from benchmarks.leaks.inside.networks import Array, Weights, fresh, predict, train

METRICS = ["loss", "accuracy", "val_*", "rate", "gradient"]
VARIANTS: dict[str, dict[str, object]] = {"": {}}
EPOCHS, PER_EPOCH, LINES = 200, 6, 300


def leak(job: Job) -> None:
    (x, y), (more_x, more_y) = first_people(job), other_people(job)

    def tell(epoch: int, weights: Weights) -> None:
        loss, right = _judge(weights, unit(x), y)
        val_loss, val_right = _judge(weights, unit(more_x), more_y)
        size = float(sum((value**2).sum() for value in weights.values()) ** 0.5)
        values = {"loss": loss, "accuracy": right, "val_loss": val_loss, "val_accuracy": val_right}
        values |= {"rate": 2e-3, "gradient": size}
        job.metrics([(name, value, epoch) for name, value in values.items()])
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {loss:.4f}, accuracy {right:.3f}, held-out loss {val_loss:.4f}")
        if epoch % 2:
            print(f"  best held-out accuracy so far {val_right:.3f}, learning rate 0.002")

    train(fresh((x.shape[1], 16, 1)), unit(x), y, epochs=EPOCHS, batch=1024, after=tell)


def all_left(metrics: int, lines: int) -> bool:
    return metrics == EPOCHS * PER_EPOCH and lines >= LINES


def _judge(weights: Weights, x: Array, y: Array) -> tuple[float, float]:
    chances = np.clip(predict(weights, x), 1e-9, 1 - 1e-9)
    loss = -np.mean(y * np.log(chances) + (1 - y) * np.log(1 - chances))
    return float(loss), float(np.mean((chances > 0.5) == y))
