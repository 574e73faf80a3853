"""A convolutional network: three times Conv -> BatchNorm -> ReLU -> MaxPool, then two dense layers.

On Fashion-MNIST, ten epochs reach some 93 % of the test images. No choice is made by the test part: it is only watched.

    python -m pydl.examples.cnn --data /usr/share/datasets/fashion-mnist [--epochs 10] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Sequence

from pydl import nn
from pydl.data.transforms import Normalize
from pydl.examples._shared import Images, images, learn, options, run

RATE = 4e-3


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


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; loss and accuracies on the test part."""
    chosen = options(__doc__, 10, arguments)
    data = images(chosen.data)
    return learn(network(data), data, RATE, chosen, "cnn", "Convolutional network")


if __name__ == "__main__":
    run(main)
