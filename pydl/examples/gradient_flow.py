"""How far gradients reach back in time: Elman network, GRU and LSTM, with clipping and with truncated BPTT.

The gradient at a state k steps before the loss is a product of k Jacobians: it vanishes, or where the recurrent weights
are large it explodes. Clipping each step's gradient bounds it; truncated BPTT ends it where a window begins. What that
does to learning is seen in a task of memory: the first letter of a sequence has to be told after its last.

    python -m pydl.examples.gradient_flow [--epochs 15] [--steps 20] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import pydl
from pydl import nn
from pydl.examples._shared import announced, options, picture, run, say_where, table
from pydl.models import gradient_flow
from pydl.models.cells import LAYERS
from pydl.models.recurrent_lm import RecurrentLM
from pydl.train.charts import COLORS, Chart, Curve, Panel

NAMES = {"rnn": "Elman", "gru": "GRU", "lstm": "LSTM"}
DISTANCE, INPUTS, HIDDEN, BATCH = 100, 16, 64, 8
WINDOW, CLIP = 25, 0.1
LETTERS = 8
Norms = npt.NDArray[np.float64]


def flows(seed: int) -> dict[str, dict[str, Norms]]:
    """Cell -> norms by distance of fresh layers: as they start, truncated, with recurrent weights x 4, clipped."""
    found = {}
    for cell, name in NAMES.items():
        pydl.manual_seed(seed)
        x = pydl.randn(DISTANCE, BATCH, INPUTS)
        layer: Any = LAYERS[cell](INPUTS, HIDDEN)
        found[name] = {"start": gradient_flow(layer, x), "window": gradient_flow(layer, x, window=WINDOW)}
        with pydl.no_grad():
            layer.weight_hh_l0.mul_(4.0)
        found[name]["large"] = gradient_flow(layer, x)
        found[name]["clipped"] = gradient_flow(layer, x, clip_value=CLIP)
    return found


def sequences(count: int, steps: int, random: np.random.Generator) -> tuple[Any, Any]:
    """Letters (N, T), and the first of each as the target of the last step; the other steps have none."""
    x = random.integers(0, LETTERS, (count, steps))
    y = np.full((count, steps), -100)
    y[:, -1] = x[:, 0]
    return x, y


def recall(cell: str, chosen: Any, clip_norm: float | None, window: int | None) -> tuple[float, list[float]]:
    """Train on the task of memory; the share of right answers, and the loss by epoch."""
    pydl.manual_seed(chosen.seed)
    random = np.random.default_rng(chosen.seed)
    sizes: dict[str, Any] = {"hidden_size": HIDDEN, "num_layers": 1, "embedding_size": None, "dropout": 0.0}
    model: Any = RecurrentLM("recall", LETTERS, cell=cell, **sizes)
    if cell == "lstm":  # forget gates begin open, as is usual: Gers et al., 2000
        with pydl.no_grad():
            model.rnn.bias_ih_l0[HIDDEN : 2 * HIDDEN] = 1.0
    trainer = pydl.Trainer(
        model, nn.CrossEntropyLoss(), "adam", ["accuracy"], lr=5e-3, clip_norm=clip_norm, tbptt=window or chosen.steps
    )
    history = trainer.fit(*sequences(6400, chosen.steps, random), 32, chosen.epochs, verbose=0)
    return trainer.evaluate(*sequences(1000, chosen.steps, random))["accuracy"], history["loss"]


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Print the tables, draw the figure; cell -> norms and shares of right answers."""
    chosen = options(__doc__, 15, arguments, data=None, steps=20)
    found = flows(chosen.seed)
    print(f"‖∂L/∂state‖ by the distance from the loss; {HIDDEN} units, random inputs")
    shown = [0, 10, WINDOW - 1, WINDOW, 50, DISTANCE - 1]
    words = {"start": "", "window": f", window of {WINDOW}", "large": ", weights x 4", "clipped": ", x 4, clipped"}
    rows = [(name + words[kind], norms) for name, kinds in found.items() for kind, norms in kinds.items()]
    print(table([{"network": name, **{f"k = {k}": float(norms[k]) for k in shown}} for name, norms in rows]))
    half = chosen.steps // 2
    ways: dict[str, tuple[float | None, int | None]] = {
        "all steps": (None, None),
        "clipped to norm 1": (1.0, None),
        f"windows of {half}": (1.0, half),
    }
    results: dict[str, dict[str, Any]] = {name: {"norms": norms} for name, norms in found.items()}
    losses: dict[str, list[float]] = {}
    print(f"\nTraining to tell the first of {chosen.steps} letters after the last:")
    tasks = {f"{name}, {way}": (cell, name, way) for cell, name in NAMES.items() for way in ways}
    for task in announced(tasks):
        cell, name, way = tasks[task]
        results[name][way], loss = recall(cell, chosen, *ways[way])
        if way != "all steps":
            losses[task] = loss
    print(f"\nShare of sequences of {chosen.steps} whose first letter is told after the last; 1 in {LETTERS} by chance")
    print(table([{"network": name, **{way: f"{results[name][way]:.1%}" for way in ways}} for name in found]))
    if chosen.out is not None:
        draw(found, losses).save(picture(chosen.out, "gradient_flow"))
    say_where(chosen, "gradient_flow")
    return results


def draw(found: dict[str, dict[str, Norms]], losses: dict[str, list[float]]) -> Chart:
    """The norms of fresh networks, those with large weights and clipped, and the task's losses."""

    def curves(kind: str, dashed: bool = False) -> list[Curve]:
        lines = zip(found.items(), COLORS)
        return [
            Curve("" if dashed else name, range(DISTANCE), k[kind].tolist(), color, dashed)
            for (name, k), color in lines
        ]

    tasks = [
        Curve("" if i % 2 else name.split(",")[0], range(1, len(loss) + 1), loss, COLORS[i // 2], bool(i % 2))
        for i, (name, loss) in enumerate(losses.items())
    ]
    back, norm = "steps back from the loss", "‖∂L/∂state‖"
    fresh = Panel("fresh networks", back, norm, curves("start"), log_y=True)
    fresh.mark(WINDOW - 1, found["Elman"]["start"][WINDOW - 1], f"where truncated BPTT of {WINDOW} steps ends")
    lines = curves("large") + curves("clipped", dashed=True)
    large = Panel(f"recurrent weights x 4; dashed: clipped at ±{CLIP}", back, norm, lines, log_y=True)
    windows = next(reversed(losses)).split(", ")[1]
    task = Panel(f"a letter to be remembered; dashed: {windows}", "epoch", "loss", tasks, integer_x=True)
    return Chart([fresh, large, task], title="How far gradients reach back in time")


if __name__ == "__main__":
    run(main)
