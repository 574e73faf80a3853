"""Digits painted step by step by a recurrent variational generator that reads and writes through windows (DRAW).

It learns to read a black and white image in ten looks, to say what it saw in 32 numbers a look, and to paint it on an
empty canvas. Then it paints without having read anything. In IDX images a pixel is white with the probability of its
brightness; scikit-learn's digits, 8 x 8 pixels, are enlarged to 16 x 16 and white from half the brightness on.
After 8 epochs the bound on test images is 41.3 nats for these, where independent pixels need 96.1, and 92.7 (205.8) for
MNIST; the paper has 80.97 there, with 64 steps and other coins.

    python -m pydl.examples.drawing [--data FOLDER] [--epochs 8] [--out FOLDER]
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import pydl
from pydl.examples._shared import enlarged, images, options, run, say_where, table
from pydl.models import Draw

BATCH, SIDE, COPIES = 128, 16, 12
Array = npt.NDArray[Any]


def binarized(x: Array, random: np.random.Generator) -> Array:
    """Bytes (N, 1, H, W) -> 0 and 255, white with the probability of the brightness."""
    return np.where(random.random(x.shape, np.float32) * 255 < x, 255, 0).astype(np.uint8)


def independent_pixels(train: Array, test: Array) -> float:
    """What the simplest model needs, nats per image: each pixel white as often as in training (Laplace's rule)."""
    p = ((train == 255).sum(axis=0) + 1) / (len(train) + 2)
    return float(-np.where(test == 255, np.log(p), np.log(1 - p)).sum() / len(test))


def strip(canvases: Array, path: Path) -> None:
    """Draw the canvases (T, N, H, W) of N paintings, one a row, from the first step to the last."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise SystemExit("the picture needs matplotlib: pip install 'pydl[plot]'") from error
    steps, count, height, width = canvases.shape
    sheet = np.ones((count, height + 2, steps, width + 2))
    sheet[:, 1:-1, :, 1:-1] = canvases.transpose(1, 2, 0, 3)
    figure, axis = plt.subplots(figsize=(steps * 0.8, count * 0.8 + 0.4), layout="constrained")
    axis.imshow(sheet.reshape(count * (height + 2), -1), cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([(t + 0.5) * (width + 2) for t in range(steps)], [str(t + 1) for t in range(steps)])
    axis.set_yticks([])
    axis.set_xlabel("step")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; the bound on the test part in nats per image, its parts, and what the simplest model needs."""
    chosen = options(__doc__, 8, arguments, steps=10, hidden=256)
    random = np.random.default_rng(chosen.seed)
    data = images(chosen.data)
    if chosen.data is None:
        x, x_test = (
            np.where(enlarged(part, SIDE) > 127, 255, 0).astype(np.uint8) for part in (data.x_train, data.x_test)
        )
        x = np.repeat(x, COPIES, axis=0)  # there are few: an epoch has each several times
    else:
        x, x_test = binarized(data.x_train, random), binarized(data.x_test, random)
    model = Draw(*x.shape[2:], steps=chosen.steps, hidden_size=chosen.hidden)
    steps = chosen.epochs * math.ceil(len(x) / BATCH)
    begin = time.perf_counter()
    model.fit(
        x, BATCH, chosen.epochs, seed=chosen.seed,
        scheduler=lambda optimizer: pydl.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps),
    )  # fmt: skip
    seconds = time.perf_counter() - begin

    found = model.evaluate(x_test)
    results = {
        "bound": found["loss"], "reconstruction": found["reconstruction"], "divergence": found["divergence"],
        "independent pixels": independent_pixels(x, x_test),
    }  # fmt: skip
    print(table([{"test part": name, "nats per image": f"{value:.2f}"} for name, value in results.items()]))
    size = sum(parameter.size for parameter in model.parameters())
    print(f"{size:,} parameters, {len(x):,} images to train on, {seconds / chosen.epochs:.1f} s an epoch")
    if chosen.out is not None:
        strip(model.sample(10, pydl.Generator(chosen.seed)), chosen.out / "drawing.png")
    say_where(chosen, "drawing.png")
    return results


if __name__ == "__main__":
    run(main)
