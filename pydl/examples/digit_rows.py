"""A digit read row by row: an image is a sequence of rows, and what it is gets told after the last (many-to-one).

A bidirectional LSTM reads the rows of scikit-learn's digits, 8 of 8 pixels, or of any folder of IDX files: 28 of 28 for
MNIST and its family. No choice is made by the test part: it is only watched.

    python -m pydl.examples.digit_rows [--data FOLDER] [--epochs 40] [--out FOLDER]
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pydl.examples._shared import confusion, images, options, pyplot, table
from pydl.models import SequenceClassifier
from pydl.optim.lr_scheduler import OneCycleLR

BATCH, RATE = 32, 5e-3


def rows(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Bytes (N, 1, T, D) -> sequences (N, T, D), 0 to 1."""
    return images[:, 0].astype(np.float32) / np.float32(255)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; loss and accuracy on the test part."""
    chosen = options(__doc__, 40, arguments, hidden=96)
    if chosen.out is not None:
        pyplot()  # what is missing is better told before the work
    data = images(chosen.data)
    x, test_x = rows(data.x_train), rows(data.x_test)
    print(f"{len(x):,} images to train on, {len(test_x):,} to test; {x.shape[1]} rows of {x.shape[2]} pixels")

    model = SequenceClassifier(
        x.shape[2], data.classes, hidden_size=chosen.hidden, num_layers=2, bidirectional=True, dropout=0.3
    )
    steps = chosen.epochs * math.ceil(len(x) / BATCH)
    begin = time.perf_counter()
    model.fit(
        x, data.y_train, BATCH, chosen.epochs, seed=chosen.seed, validation_data=(test_x, data.y_test),
        scheduler=lambda optimizer: OneCycleLR(optimizer, RATE, total_steps=steps),
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    parts: dict[str, tuple[Any, Any]] = {"training": (x, data.y_train), "test": (test_x, data.y_test)}
    results = {part: model.evaluate(*both) for part, both in parts.items()}
    print(table([{"part": part, "images": len(parts[part][1]), **result} for part, result in results.items()]))
    print(f"{sum(p.size for p in model.parameters()):,} parameters, {seconds / chosen.epochs:.1f} s an epoch")
    if chosen.out is not None:
        share = results["test"]["accuracy"]
        names = [str(i) for i in range(data.classes)]
        confusion(
            data.y_test, model.predict(test_x), names, chosen.out / "digit_rows.png", f"{share:.1%} of the test part"
        )
    return results["test"]


if __name__ == "__main__":
    main()
