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
from pydl.examples._shared import Images, images, options, picture, table

BATCH = 128


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
    model = network(data)
    steps = chosen.epochs * math.ceil(len(data.x_train) / BATCH)
    trainer = Trainer(
        model,
        "cross_entropy",
        optim.AdamW(model, lr=3e-3, weight_decay=0.01),
        ["accuracy"],
        scheduler=lambda optimizer: optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps),
        seed=chosen.seed,
    )
    begin = time.perf_counter()
    history = trainer.fit(data.x_train, data.y_train, BATCH, chosen.epochs, validation_data=(data.x_test, data.y_test))
    seconds = time.perf_counter() - begin
    rows = {"training": (data.x_train, data.y_train), "test": (data.x_test, data.y_test)}
    results: dict[str, dict[str, float]] = {name: trainer.evaluate(*part) for name, part in rows.items()}
    print(table([{"part": name, "images": len(rows[name][1]), **row} for name, row in results.items()]))
    print(f"{sum(p.size for p in model.parameters()):,} parameters, {seconds / chosen.epochs:.1f} s an epoch")
    if chosen.out is not None:
        history.plot(picture(chosen.out, "mlp"), title="Multilayer perceptron; validation is the test part")
    return results["test"]


if __name__ == "__main__":
    main()
