"""A network that never sees a whole digit: it looks six times through a small window and decides itself where next.

A glimpse is 6 x 6 pixels, and 12 x 12 around them at half the sharpness, of an image of 28 x 28. The class is learned
by gradients, where to look by REINFORCE: what it did gets likelier where the answer was right and that was a surprise.
scikit-learn's digits, 8 x 8 pixels, are enlarged to 20 x 20 and lie at random places of 28 x 28; those to train on are
rotated, sheared and zoomed a little.

96.1 % of 360 digits that were not trained on are right. The table says what the choice is worth: 93.3 % where it is
sent to the places that it chose for other images, 86.1 % at the middle; and a network that was trained to look at
random places has 93.6 %. The wider a glimpse, the less there is to choose: at 8 x 8 the middle is nearly as good.

    python -m pydl.examples.glimpses [--data FOLDER] [--epochs 12] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import pydl
from pydl.data.transforms import affine
from pydl.examples._shared import Images, enlarged, goal, images, options, run, say_where, table
from pydl.models import RecurrentAttention
from pydl.models.glimpses import Glimpses

if TYPE_CHECKING:
    from pydl import Tensor

BATCH, SIDE, DIGIT, COPIES = 128, 28, 20, 40
Array = npt.NDArray[Any]


def placed(x: Array, copies: int, random: np.random.Generator) -> Array:
    """Small digits (N, 1, 8, 8), each so many times at a random place of a larger image: (N copies, 1, 28, 28)."""
    digits = np.repeat(enlarged(x, DIGIT), copies, axis=0)
    found = np.zeros((len(digits), 1, SIDE, SIDE), np.uint8)
    for image, digit, (top, left) in zip(found, digits, random.integers(0, SIDE - DIGIT + 1, (len(digits), 2))):
        image[:, top : top + DIGIT, left : left + DIGIT] = digit
    return found


def prepared(folder: str | None, random: np.random.Generator) -> Images:
    """IDX images as they are, or small digits enlarged and placed, those to train on many times and warped."""
    data = images(folder)
    if folder is not None:
        return data
    x, x_test = placed(data.x_train, COPIES, random), placed(data.x_test, 1, random)
    rotation, shear = random.uniform(-10, 10, (2, len(x)))
    x = affine(x, rotation, zoom=random.uniform(0.9, 1.1, len(x)), shear=shear)
    return Images(x, np.repeat(data.y_train, COPIES), x_test, data.y_test)


def view(patches: Array) -> Array:
    """Patches of one glimpse (S, P, P) as one picture, sharp in the middle and coarse around it."""
    scales, patch = patches.shape[:2]
    found = np.zeros((patch << scales >> 1,) * 2)
    for scale in reversed(range(scales)):
        large = patches[scale].repeat(2**scale, axis=0).repeat(2**scale, axis=1)
        edge = (len(found) - len(large)) // 2
        found[edge : edge + len(large), edge : edge + len(large)] = large
    return found


def paths(x: Array, y: Array, seen: Glimpses, path: Path) -> None:
    """Draw images with the way that was gone over each, and what was seen at each stop."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise SystemExit("the picture needs matplotlib: pip install 'pydl[plot]'") from error
    count, stops, patch = len(x), seen.centres.shape[1], seen.patches.shape[-1]
    figure, axes = plt.subplots(
        count, 1 + stops, figsize=(1.3 * (stops + 1.4), 1.45 * count), layout="constrained", squeeze=False,
        gridspec_kw={"width_ratios": [1.4] + [1] * stops},
    )  # fmt: skip
    for axis in axes.flat:
        axis.set_axis_off()
    for i, row in enumerate(axes):
        down, across = seen.centres[i].T - 0.5  # imshow has pixels' middles at whole numbers
        row[0].imshow(x[i, 0], cmap="gray")
        row[0].autoscale(False)
        row[0].plot(across, down, color="deepskyblue", linewidth=1.2)
        for t in range(stops):
            colour = plt.get_cmap("autumn")(t / max(stops - 1, 1))
            corner = (across[t] - patch / 2, down[t] - patch / 2)
            row[0].add_patch(plt.Rectangle(corner, patch, patch, fill=False, edgecolor=colour, linewidth=0.8))
            row[0].text(across[t], down[t], str(t + 1), color=colour, fontsize=8, ha="center", va="center")
            row[1 + t].imshow(view(seen.patches[i, t]), cmap="gray", vmin=0, vmax=1)
            row[1 + t].set_title(str(t + 1), fontsize=8, color=colour)
        said, sure = int(seen.probabilities[i].argmax()), seen.probabilities[i].max()
        row[0].set_title(f"{y[i]}: says {said}, {sure:.0%}", fontsize=8, color="black" if said == y[i] else "firebrick")
    figure.savefig(path, dpi=110)
    plt.close(figure)


class Wanderer(RecurrentAttention):
    """The same network without a policy: it looks at random places, and learns to make the best of them."""

    def aim(self, states: Tensor) -> Tensor:
        return pydl.rand(*states.shape[:-1], 2) * 2.0 - 1.0


def trained(
    kind: type[RecurrentAttention], data: Images, chosen: argparse.Namespace, **options: Any
) -> RecurrentAttention:
    """A network of a kind that has learned the training part."""
    height, width = data.x_train.shape[2:]
    pydl.manual_seed(chosen.seed)
    model = kind(
        height, width, data.classes, glimpses=chosen.glimpses, patch=chosen.patch, scales=chosen.scales, cell="rnn",
        location_std=0.15,
    )  # fmt: skip
    steps = chosen.epochs * math.ceil(len(data.x_train) / BATCH)
    model.fit(
        data.x_train, data.y_train, BATCH, chosen.epochs, validation_data=(data.x_test, data.y_test), seed=chosen.seed,
        scheduler=lambda optimizer: pydl.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps), **options,
    )  # fmt: skip
    return model


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; accuracies on the test part, where it looks by its policy and where it is sent elsewhere."""
    chosen = options(__doc__, 12, arguments, glimpses=6, patch=6, scales=2)
    random = np.random.default_rng(chosen.seed)
    data = prepared(chosen.data, random)
    size = data.x_train.shape[2:]
    begin = time.perf_counter()
    model = trained(RecurrentAttention, data, chosen)
    seconds = time.perf_counter() - begin
    print("now the same network, which looks at random places; this takes as long", flush=True)
    wanderer = trained(Wanderer, data, chosen, verbose=0)

    seen = model.look(data.x_test)
    sent = {
        "where its policy says": None,
        "where it looks in other images": seen.centres[random.permutation(len(seen.centres))],
        "at random places": random.random(seen.centres.shape) * size,
        "at the middle": np.broadcast_to(np.array(size) / 2, seen.centres.shape),
    }
    looks = {name: model.look(data.x_test, centres=centres).probabilities for name, centres in sent.items()}
    looks["at random places, and trained so"] = wanderer.look(data.x_test).probabilities
    accuracies = {name: float((found.argmax(axis=1) == data.y_test).mean()) for name, found in looks.items()}
    print(table([{f"{chosen.glimpses} glimpses": name, "right": f"{value:.2%}"} for name, value in accuracies.items()]))
    goal(f"right with {chosen.glimpses} glimpses", accuracies["where its policy says"], 0.95)
    parameters = sum(parameter.size for parameter in model.parameters())
    print(
        f"{parameters:,} parameters, {len(data.y_train):,} images to train on, {seconds / chosen.epochs:.1f} s an epoch"
    )
    if chosen.out is not None:
        shown = np.array([np.flatnonzero(data.y_test == label)[0] for label in range(min(data.classes, 8))])
        paths(
            data.x_test[shown],
            data.y_test[shown],
            Glimpses(*(part[shown] for part in seen)),
            chosen.out / "glimpses.png",
        )
    say_where(chosen, "glimpses.png")
    return accuracies


if __name__ == "__main__":
    run(main)
