"""Initialization and gradient health: do signals reach the first layer and gradients the last, in depth and in time?

A network of ten hidden layers is trained from several starts while GradientHealth writes down the size of activations
and gradients, layer by layer. Too small a start and both vanish; too large and they explode or saturate; Xavier's for
tanh and He's for ReLU keep them. Then recurrent layers read an image row by row: how much of the gradient at the last
row is left at the first is the same question asked of time.

    python -m pydl.examples.gradient_health [--data FOLDER] [--epochs 5] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import pydl
from pydl import Tensor, Trainer, nn
from pydl.callbacks import GradientHealth, TerminateOnNaN
from pydl.data.transforms import Normalize
from pydl.examples._shared import Images, announced, images, options, picture, run, say_where, table
from pydl.train.charts import COLORS, Chart, Curve, Panel

DEPTH, WIDTH = 10, 64


class Start(NamedTuple):
    """How the weights begin, and what follows each layer."""

    fill: Callable[[Tensor], Any]
    activation: type[nn.Module]
    clip_norm: float | None = None


STARTS = {
    "σ = 0.01, tanh": Start(lambda w: nn.init.normal_(w, 0.0, 0.01), nn.Tanh),
    "σ = 1, tanh": Start(lambda w: nn.init.normal_(w, 0.0, 1.0), nn.Tanh),
    "Xavier, sigmoid": Start(nn.init.xavier_normal_, nn.Sigmoid),
    "Xavier, tanh": Start(nn.init.xavier_normal_, nn.Tanh),
    "He, ReLU": Start(nn.init.kaiming_normal_, nn.ReLU),
    "3 x He, ReLU": Start(lambda w: nn.init.kaiming_normal_(w).mul_(3.0), nn.ReLU),
    "3 x He, clipped": Start(lambda w: nn.init.kaiming_normal_(w).mul_(3.0), nn.ReLU, 1.0),
}


def network(data: Images, start: Start) -> nn.Module:
    """DEPTH hidden layers of WIDTH units."""
    layers: list[nn.Module] = [Normalize(axis=()).fit(data.x_train), nn.Flatten()]
    sizes = [data.pixels, *[WIDTH] * DEPTH]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), start.activation()]
    layers.append(nn.Linear(WIDTH, data.classes))
    with pydl.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Linear):
                start.fill(layer.weight)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def by_time(data: Images, kind: str, count: int = 64) -> list[float]:
    """‖∂L/∂row‖ of each row of images, read from the top by a fresh recurrent layer; L is of the last output alone."""
    rows = Normalize(axis=()).fit(data.x_train)(data.x_train[:count])[:, 0]  # (N, H, W): H steps of W numbers
    x = pydl.asarray(rows, requires_grad=True)
    layer = getattr(nn, kind)(rows.shape[2], WIDTH, batch_first=True)
    (gradient,) = pydl.autograd.grad((layer(x)[0][:, -1] ** 2).sum(), x)
    return [float(norm) for norm in np.sqrt((gradient.cpu().numpy() ** 2).sum(axis=(0, 2)))]


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Train from each start, print the table, draw the figure; start -> gradients and accuracy."""
    chosen = options(__doc__, 5, arguments)
    data = images(chosen.data)
    results, records = {}, {}
    for name in announced(STARTS):
        start = STARTS[name]
        pydl.manual_seed(chosen.seed)
        health = GradientHealth(every=10, verbose=0)
        trainer = Trainer(
            network(data, start), "cross_entropy", "sgd", ["accuracy"], lr=0.05, clip_norm=start.clip_norm
        )
        trainer.fit(data.x_train, data.y_train, 32, chosen.epochs, callbacks=[health, TerminateOnNaN()], verbose=0)
        records[name] = health
        first, *_, last = (values[0] for values in health.gradients.values())
        results[name] = {
            "first layer": first,
            "last layer": last,
            "first / last": first / last,
            "test accuracy": trainer.evaluate(data.x_test, data.y_test)["accuracy"],
            "training": trainer.stop_reason,
        }
    print("Norms of the gradients at the first step, and what became of it")
    print(table([{"start": name, **row} for name, row in results.items()]))
    pydl.manual_seed(chosen.seed)
    times = {kind: by_time(data, kind) for kind in ("RNN", "GRU", "LSTM")}
    print("\nNorms of the gradients for the rows of an image, of the last output alone")
    rows = [{"layer": k, "first row": v[0], "last row": v[-1], "first / last": v[0] / v[-1]} for k, v in times.items()]
    print(table(rows))
    if chosen.out is not None:
        draw(records, times).save(picture(chosen.out, "gradient_health"))
    say_where(chosen, "gradient_health")
    return results


def draw(records: dict[str, GradientHealth], times: dict[str, list[float]]) -> Chart:
    """Activations and gradients by depth at the first step, gradients of the first layer by step, gradients by time."""
    depth: dict[str, list[Curve]] = {"activations": [], "gradients": []}  # the first has the legend of both
    steps = []
    for (name, health), color in zip(records.items(), COLORS):
        linear = list(health.gradients)
        for what, curves in depth.items():
            values = [getattr(health, what)[layer][0] for layer in linear]
            if not STARTS[name].clip_norm:  # clipping changes nothing at the first step
                label = name if what == "activations" else ""
                curves.append(Curve(label, range(1, len(values) + 1), values, color))
        steps.append(Curve(name if STARTS[name].clip_norm else "", health.steps, health.gradients[linear[0]], color))
    time = [Curve(kind, range(1, len(v) + 1), v, color) for (kind, v), color in zip(times.items(), COLORS)]
    return Chart(
        [
            Panel("outputs by depth, first step", "layer", "root mean square", depth["activations"], True, True),
            Panel("gradients by depth, first step", "layer", "‖∂L/∂w‖", depth["gradients"], True, True),
            Panel("gradient of the first layer while training", "step", "‖∂L/∂w‖", steps, log_y=True),
            Panel("gradients by time, rows of an image", "row", "‖∂L/∂row‖", time, log_y=True, integer_x=True),
        ],
        title="Initialization and gradient health",
    )


if __name__ == "__main__":
    run(main)
