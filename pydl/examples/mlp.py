"""A multilayer perceptron: two hidden layers with ReLU and dropout, AdamW, and a learning rate in one cycle.

On Fashion-MNIST, ten epochs reach some 89 % of the test images. No choice is made by the test part: it is only watched.

    python -m pydl.examples.mlp --data /usr/share/datasets/fashion-mnist [--epochs 10] [--out FOLDER]
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from pydl import Trainer, nn, optim
from pydl.data.transforms import Normalize
from pydl.examples._shared import Images, images, options, report

BATCH, RATE, DECAY = 128, 3e-3, 0.01


def network(data: Images) -> nn.Module:
    """Bytes (N, 1, H, W) -> scores (N, classes). What normalizes them is saved with the weights."""
    return nn.Sequential(
        Normalize().fit(data.x_train),
        nn.Flatten(),
        nn.Linear(data.pixels, 256), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(128, data.classes),
    )  # fmt: skip


def trainer(model: nn.Module, data: Images, epochs: int, seed: int) -> Trainer:
    """AdamW, whose learning rate rises and falls once in all these epochs."""
    steps = epochs * math.ceil(len(data.x_train) / BATCH)
    return Trainer(
        model,
        "cross_entropy",
        optim.AdamW(model, lr=RATE, weight_decay=DECAY),
        ["accuracy"],
        scheduler=lambda optimizer: optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps),
        seed=seed,
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; loss and accuracies on the test part."""
    chosen = options(__doc__, 10, arguments)
    data = images(chosen.data)
    fitted = trainer(network(data), data, chosen.epochs, chosen.seed)
    begin = time.perf_counter()
    test = (data.x_test, data.y_test)
    history = fitted.fit(data.x_train, data.y_train, BATCH, chosen.epochs, validation_data=test)
    return report(fitted, data, history, time.perf_counter() - begin, chosen, "mlp", "Multilayer perceptron")


if __name__ == "__main__":
    main()
