"""A convolutional network: three times Conv -> BatchNorm -> ReLU -> MaxPool, then two dense layers.

On Fashion-MNIST, ten epochs reach some 93 % of the test images. No choice is made by the test part: it is only watched.

    python -m pydl.examples.cnn --data /usr/share/datasets/fashion-mnist [--epochs 10] [--out FOLDER]
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from pydl import Trainer, nn, optim
from pydl.data.transforms import Normalize
from pydl.examples._shared import Images, images, options, report

BATCH, RATE, DECAY = 128, 4e-3, 0.01


def block(channels: int, filters: int) -> list[nn.Module]:
    """(N, channels, H, W) -> (N, filters, H // 2, W // 2); batch normalization has the bias of the convolution."""
    convolution = nn.Conv2d(channels, filters, kernel_size=3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(filters), nn.ReLU(), nn.MaxPool2d(2)]


def network(data: Images) -> nn.Module:
    """Bytes (N, 1, H, W) -> scores (N, classes). What normalizes them is saved with the weights."""
    height, width = (size // 8 for size in data.x_train.shape[2:])
    return nn.Sequential(
        Normalize().fit(data.x_train),
        *block(1, 32), *block(32, 64), *block(64, 128),
        nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(128 * height * width, 128), nn.ReLU(),
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
    return report(fitted, data, history, time.perf_counter() - begin, chosen, "cnn", "Convolutional network")


if __name__ == "__main__":
    main()
