"""Softmax regression, also called multinomial logistic regression: one linear score a class, and the softmax of them.

It is a network without a hidden layer. Everything that the mlp and cnn examples add is measured against it.

    python -m pydl.examples.softmax_regression [--data FOLDER] [--epochs 30] [--out FOLDER]
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydl import Trainer, nn
from pydl.data.transforms import Normalize
from pydl.examples._shared import images, options, picture, run, say_where, table


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; loss and accuracies on the test part."""
    chosen = options(__doc__, 30, arguments)
    data = images(chosen.data)
    model = nn.Sequential(Normalize(axis=()).fit(data.x_train), nn.Flatten(), nn.Linear(data.pixels, data.classes))
    trainer = Trainer(model, "cross_entropy", "adam", ["accuracy"], lr=1e-3, seed=chosen.seed)
    before = trainer.evaluate(data.x_test, data.y_test)
    history = trainer.fit(data.x_train, data.y_train, 64, chosen.epochs, validation_data=(data.x_test, data.y_test))
    after: dict[str, float] = trainer.evaluate(data.x_test, data.y_test)
    guess = {"loss": math.log(data.classes), "accuracy": 1 / data.classes}
    rows = (("guessing", guess), ("before training", before), ("after training", after))
    print(table([{"on the test part": name, **row} for name, row in rows]))
    if chosen.out is not None:
        history.plot(picture(chosen.out, "softmax_regression"), title="Softmax regression; validation is the test part")
    say_where(chosen, "softmax_regression")
    return after


if __name__ == "__main__":
    run(main)
