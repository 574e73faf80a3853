"""What normalizing the input does: one network and the same rates on bytes, on numbers from 0 to 1, on normalized ones.

Gradients of the first layer are proportional to its inputs. Where these are large, or all of one sign, a rate that
suits one direction is far too large or small for another: steps zigzag or blow up. Mean and deviation are those of the
training part, and the same two numbers serve the test part.

    python -m pydl.examples.input_normalization [--data FOLDER] [--epochs 10] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pydl
from pydl import Trainer, nn
from pydl.callbacks import TerminateOnNaN
from pydl.data.transforms import Normalize
from pydl.examples._shared import announced, images, options, picture, run, say_where, table
from pydl.train.charts import COLORS, Chart, Curve, Panel

RATES = (0.001, 0.01, 0.1)


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[float, float]]:
    """Train for each kind of input and rate, print the table, draw the figure; input -> rate -> test accuracy."""
    chosen = options(__doc__, 10, arguments)
    data = images(chosen.data)
    inputs = {
        "bytes, 0 to 255": Normalize(0.0, 1.0),
        "0 to 1": Normalize(0.0, 255.0),
        "mean 0, variance 1": Normalize(axis=()).fit(data.x_train),
    }
    results: dict[str, dict[float, float]] = {}
    histories: dict[str, dict[float, Any]] = {}
    for name in announced(inputs):
        first = inputs[name]
        results[name], histories[name] = {}, {}
        for rate in RATES:
            pydl.manual_seed(chosen.seed)  # the same weights to begin with
            hidden = [nn.Linear(data.pixels, 64), nn.Tanh(), nn.Linear(64, data.classes)]
            trainer = Trainer(
                nn.Sequential(first, nn.Flatten(), *hidden), "cross_entropy", "sgd", ["accuracy"], lr=rate
            )
            histories[name][rate] = trainer.fit(
                data.x_train, data.y_train, 32, chosen.epochs, callbacks=[TerminateOnNaN()], verbose=0
            )
            results[name][rate] = trainer.evaluate(data.x_test, data.y_test)["accuracy"]
    print(f"test accuracy after {chosen.epochs} epochs of stochastic gradient descent")
    print(table([{"input": name, **{f"rate {r:g}": row[r] for r in RATES}} for name, row in results.items()]))
    if chosen.out is not None:
        panels = []
        for rate in RATES:
            runs = [(name, histories[name][rate]) for name in inputs]
            lines = [
                Curve(name, [epoch + 1 for epoch in run.epoch], run["loss"], color)
                for (name, run), color in zip(runs, COLORS)
                if run.epoch
            ]
            panels.append(Panel(f"rate {rate:g}", "epoch", "training loss", lines, log_y=True, integer_x=True))
        Chart(panels, title="One network, three scales of its input").save(picture(chosen.out, "input_normalization"))
    say_where(chosen, "input_normalization")
    return results


if __name__ == "__main__":
    run(main)
