"""A multilayer perceptron: two hidden layers with ReLU and dropout, AdamW, and a learning rate in one cycle.

On Fashion-MNIST, ten epochs reach some 89 % of the test images. No choice is made by the test part: it is only watched.

    python -m pydl.examples.mlp --data /usr/share/datasets/fashion-mnist [--epochs 10] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Sequence

from pydl import nn
from pydl.data.transforms import Normalize
from pydl.examples._shared import Images, images, learn, options, run

RATE = 3e-3


def network(data: Images) -> nn.Module:
    """Bytes (N, 1, H, W) -> scores (N, classes). What normalizes them is saved with the weights."""
    return nn.Sequential(
        Normalize().fit(data.x_train),
        nn.Flatten(),
        nn.Linear(data.pixels, 256), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(128, data.classes),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; loss and accuracies on the test part."""
    chosen = options(__doc__, 10, arguments)
    data = images(chosen.data)
    return learn(network(data), data, RATE, chosen, "mlp", "Multilayer perceptron")


if __name__ == "__main__":
    run(main)
