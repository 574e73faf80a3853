"""Regularization side by side: one network, too large for its few images, trained with seven remedies.

None, L1, L2 and elastic-net penalties, dropout, batch normalization, augmentation: the curves show how training and
validation part ways, the table how far apart they end. Curves of training are what the network saw while it learned, so
with dropout and augmentation they are harder than validation; the table measures both parts alike, without either.
There are 150 images of digits for training, or 2,000 of a folder; the more there are, the less a remedy is needed.

    python -m pydl.examples.regularization [--images N] [--data FOLDER] [--epochs 80] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pydl import Trainer, nn
from pydl.data import ArrayDataset, DataLoader
from pydl.data.transforms import Normalize, RandomAffine
from pydl.examples._shared import announced, images, options, picture, run, say_where, table
from pydl.nn import functional as F
from pydl.regularizers import L1, L1L2, L2
from pydl.train.charts import COLORS, Chart, Curve, Panel

HIDDEN = 256


class Remedy(NamedTuple):
    """What is done against overfitting."""

    penalty: Any = None  # added to the loss, for each matrix of weights
    layers: tuple[Any, ...] = ()  # made anew after each hidden layer
    transform: Any = None  # of the training images


REMEDIES = {
    "none": Remedy(),
    "L1": Remedy(penalty=L1(5e-4)),
    "L2": Remedy(penalty=L2(3e-3)),
    "elastic net": Remedy(penalty=L1L2(l1=2.5e-4, l2=1.5e-3)),
    "dropout": Remedy(layers=(lambda: nn.Dropout(0.5),)),
    "batch norm": Remedy(layers=(lambda: nn.BatchNorm1d(HIDDEN),)),
    "augmentation": Remedy(transform=RandomAffine(rotation=12, shift=0.08, zoom=0.12, shear=8, fill_mode="nearest")),
}


def network(x: Any, classes: int, remedy: Remedy) -> nn.Module:
    """Two hidden layers, with the remedy's layers between each of them and its activation."""
    layers: list[nn.Module] = [Normalize(axis=()).fit(x), nn.Flatten()]
    for size in (x[0].size, HIDDEN):
        layers += [nn.Linear(size, HIDDEN), *(make() for make in remedy.layers), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(HIDDEN, classes))


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """Train seven times, print the table, draw the figure; name -> losses and accuracies of both parts."""
    chosen = options(__doc__, 80, arguments, images=None)
    data = images(chosen.data)
    count = chosen.images or (2000 if chosen.data else 150)
    x, y = data.x_train[:count], data.y_train[:count]
    held_back = data.x_train[count : count + 5000], data.y_train[count : count + 5000]  # the test part stays closed

    results, curves = {}, {}
    print(f"{len(x):,} images for training, {len(held_back[1]):,} for validation, {chosen.epochs} epochs")
    for name in announced(REMEDIES):
        remedy = REMEDIES[name]
        model = network(x, data.classes, remedy)
        loader = DataLoader(ArrayDataset(x, y), 32, shuffle=True, transform=remedy.transform, seed=chosen.seed)
        trainer = Trainer(model, "cross_entropy", "adam", ["accuracy", F.cross_entropy], regularizers=remedy.penalty)
        curves[name] = trainer.fit(loader, epochs=chosen.epochs, validation_data=held_back, verbose=0)
        plain = Trainer(model, "cross_entropy", metrics=["accuracy"])  # losses without penalties
        training, validation = plain.evaluate(x, y), plain.evaluate(*held_back)
        results[name] = {
            "train loss": training["loss"],
            "val loss": validation["loss"],
            "gap": validation["loss"] - training["loss"],
            "train acc": training["accuracy"],
            "val acc": validation["accuracy"],
            "acc gap": training["accuracy"] - validation["accuracy"],
        }
    print(table([{"remedy": name, **row} for name, row in results.items()]))
    if chosen.out is not None:
        draw(curves).save(picture(chosen.out, "regularization"))
    say_where(chosen, "regularization")
    return results


def draw(curves: dict[str, Any]) -> Chart:
    """Training and validation beside each other, a line for each remedy. Of accuracies near 1 one would see no more
    than a line: what is drawn is the share of errors.
    """
    panels = []
    for key, title, label in (
        ("cross_entropy", "training (as it was seen)", "cross-entropy"),
        ("val_cross_entropy", "validation", "cross-entropy"),
        ("val_accuracy", "validation", "share of errors"),
    ):
        lines = []
        for (name, history), color in zip(curves.items(), COLORS):
            values = [1.0 - value for value in history[key]] if label == "share of errors" else history[key]
            shown = name if label == "share of errors" else ""
            lines.append(Curve(shown, [epoch + 1 for epoch in history.epoch], values, color))
        panels.append(Panel(title, "epoch", label, lines, log_y=True, integer_x=True))
    return Chart(panels, title="Regularization side by side")


if __name__ == "__main__":
    run(main)
