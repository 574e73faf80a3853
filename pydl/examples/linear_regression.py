"""Linear regression: how much ink the right half of an image has, from the pixels of its left half.

The simplest model, ŷ = w·x + b, minimizes the mean squared error by steps down the gradient. Here the minimum is known
in closed form, so the table shows how close the steps have come, and what guessing the mean would give.

    python -m pydl.examples.linear_regression [--data FOLDER] [--epochs 60] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pydl import Trainer, nn
from pydl.data.transforms import Normalize
from pydl.examples._shared import images, options, picture, run, say_where, table


def halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left halves as rows (N, F), and the mean of the right halves (N, 1), of images (N, 1, H, W)."""
    x = x.astype(np.float32) / 255
    middle = x.shape[3] // 2
    return x[:, 0, :, :middle].reshape(len(x), -1), x[:, 0, :, middle:].mean(axis=(1, 2))[:, None]


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train, compare and print; the mean squared errors on the test part."""
    chosen = options(__doc__, 60, arguments)
    data = images(chosen.data)
    (x, y), (x_test, y_test) = halves(data.x_train), halves(data.x_test)
    unit = Normalize().fit(y)  # targets in standard deviations too: the loss of the mean is 1
    y, y_test = unit(y), unit(y_test)

    model = nn.Sequential(Normalize().fit(x), nn.Linear(x.shape[1], 1))
    trainer = Trainer(model, "mse", "adam", ["r2"], lr=1e-3, seed=chosen.seed)
    history = trainer.fit(x, y, 32, chosen.epochs, validation_data=(x_test, y_test))

    def with_ones(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, np.ones((len(rows), 1), rows.dtype)], axis=1)

    exact = np.linalg.lstsq(with_ones(x), y, rcond=None)[0]
    answers = {
        "gradient descent": trainer.predict(x_test),
        "least squares": with_ones(x_test) @ exact,
        "the mean": np.broadcast_to(y.mean(), y_test.shape),
    }
    errors = {name: float(np.mean((answer - y_test) ** 2)) for name, answer in answers.items()}
    spread = float(y_test.var())
    print(table([{"answer": name, "test mse": mse, "R²": 1 - mse / spread} for name, mse in errors.items()]))
    if chosen.out is not None:
        history.plot(picture(chosen.out, "linear_regression"), title="Linear regression; validation is the test part")
    say_where(chosen, "linear_regression")
    return errors


if __name__ == "__main__":
    run(main)
