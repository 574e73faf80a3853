"""Logistic regression: which of two kinds of image is it?

p = σ(w·x + b) is the chance of the second kind; the loss is the cross-entropy of the true one. There is one weight for
each pixel, so the weights are an image too: where ink speaks for the second kind, and where against it.

    python -m pydl.examples.logistic_regression [--first 3] [--second 8] [--data FOLDER] [--epochs 30] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pydl import Trainer, nn
from pydl.data.transforms import Normalize
from pydl.examples._shared import images, options, picture, run, say_where, table


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; loss and metrics on the test part."""
    chosen = options(__doc__, 30, arguments, first=3, second=8)
    data = images(chosen.data)

    def two_kinds(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kept = (y == chosen.first) | (y == chosen.second)
        return x[kept], (y[kept] == chosen.second).astype(np.float32)[:, None]

    x, y = two_kinds(data.x_train, data.y_train)
    test = two_kinds(data.x_test, data.y_test)
    model = nn.Sequential(Normalize(axis=()).fit(x), nn.Flatten(), nn.Linear(data.pixels, 1))
    metrics = ["accuracy", "precision", "recall", "f1", "auc"]
    trainer = Trainer(model, "bce_with_logits", "adam", metrics, lr=3e-3, seed=chosen.seed)
    history = trainer.fit(x, y, 32, chosen.epochs, validation_data=test)

    results: dict[str, float] = trainer.evaluate(*test)
    usual = float(np.mean(test[1] == round(float(y.mean()))))  # what always saying the commoner kind gives
    print(table([{"model": f"{chosen.first} or {chosen.second}?", **results, "commoner kind": usual}]))
    if chosen.out is not None:
        history.plot(
            picture(chosen.out, "logistic_regression"),
            ["loss", "accuracy"],
            title="Logistic regression; validation is the test part",
        )
    say_where(chosen, "logistic_regression")
    return results


if __name__ == "__main__":
    run(main)
