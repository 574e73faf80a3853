"""A digit read row by row: an image is a sequence of rows, and what it is gets told after the last (many-to-one).

A bidirectional LSTM reads the rows of scikit-learn's digits, 8 of 8 pixels, or of any folder of IDX files: 28 of 28 for
MNIST and its family. No choice is made by the test part: it is only watched.

    python -m pydl.examples.digit_rows [--data FOLDER --epochs 5] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

import pydl
from pydl.examples._shared import check_pictures, images, options, run, say_where, table, train
from pydl.models import SequenceClassifier


def rows(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Bytes (N, 1, T, D) -> sequences (N, T, D), 0 to 1."""
    return images[:, 0].astype(np.float32) / np.float32(255)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; loss and accuracy on the test part."""
    chosen = options(__doc__, 40, arguments, hidden=96)
    check_pictures(chosen)
    data = images(chosen.data)
    parts = {"training": (rows(data.x_train), data.y_train), "test": (rows(data.x_test), data.y_test)}
    count, steps, size = parts["training"][0].shape
    print(f"{count:,} images to train on, {len(data.y_test):,} to test; {steps} rows of {size} pixels")

    model = SequenceClassifier(
        size, data.classes, hidden_size=chosen.hidden, num_layers=2, bidirectional=True, dropout=0.3
    )
    batch = 32 if count < 10_000 else 128
    train(model, *parts["training"], batch, 5e-3, chosen, validation_data=parts["test"])
    results = {part: model.evaluate(*both) for part, both in parts.items()}
    print(table([{"part": part, "images": len(parts[part][1]), **result} for part, result in results.items()]))
    if chosen.out is not None:
        counts = pydl.metrics.confusion_matrix(data.y_test, model.predict(parts["test"][0]))
        title = f"{results['test']['accuracy']:.1%} of {len(data.y_test):,} test images are right"
        pydl.plots.confusion_matrix(counts, path=chosen.out / "digit_rows.png", title=title)
    say_where(chosen, "digit_rows.png")
    return results["test"]


if __name__ == "__main__":
    run(main)
