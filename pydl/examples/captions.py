"""Sentences about generated scenes: a convolutional encoder sees, a recurrent decoder writes.

A scene shows two handwritten digits (scikit-learn's; without it, or with --shapes, drawn shapes) of two sizes: "a small
five left of a large two", "a large zero below and left of a large one". What is further left, or straight above, is
named first. A fifth of the combinations of sizes, digits and relations (320 of 1,600) is never trained on, and neither
are the handwritings of the test scenes; the figure is how many of those get exactly the right sentence.

    python -m pydl.examples.captions [--epochs 10] [--out FOLDER]
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

import pydl
from pydl.callbacks import LambdaCallback
from pydl.examples._shared import check_pictures, goal, images, options, run, say_where, table, train
from pydl.models import Captioner
from pydl.text import WordVocabulary

CANVAS, CELL = 44, 20
SIDES = {"small": (8, 10), "large": (15, 18)}  # pixels
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RELATIONS = {  # the cells of both, (row, column) of a grid of 2 x 2
    "left of": (((0, 0), (0, 1)), ((1, 0), (1, 1))),
    "above": (((0, 0), (1, 0)), ((0, 1), (1, 1))),
    "above and left of": (((0, 0), (1, 1)),),
    "below and left of": (((1, 0), (0, 1)),),
}
Array = npt.NDArray[Any]
Kinds = dict[str, Array]  # name -> images (N, S, S), 0 to 1
Composition = tuple[tuple[str, str], str, tuple[str, str]]


def digits() -> tuple[Kinds, Kinds]:
    """Handwritten digits to train with, and others to test with."""
    data = images(None)
    parts = ((data.x_train, data.y_train), (data.x_test, data.y_test))
    known, new = ({name: x[y == i, 0] / 255 for i, name in enumerate(DIGITS)} for x, y in parts)
    return known, new


def shapes() -> Kinds:
    """Shapes that need no data."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, 24)] * 2, indexing="ij")
    r, u, v = np.hypot(x, y), abs(x), abs(y)
    drawn = {
        "disc": r < 1, "ring": (r < 1) & (r > 0.6), "square": r >= 0, "frame": np.maximum(u, v) > 0.65,
        "triangle": u < (1 + y) / 2, "diamond": u + v < 1, "cross": np.minimum(u, v) < 0.25, "bar": v < 0.35,
    }  # fmt: skip
    return {name: shape[None].astype(float) for name, shape in drawn.items()}


def compositions(kinds: Sequence[str], random: np.random.Generator) -> tuple[list[Composition], list[Composition]]:
    """All combinations, mixed: four of five to train on, and those that are held out."""
    things = list(itertools.product(SIDES, kinds))
    pairs = list(itertools.product(things, RELATIONS, things))
    mixed = [pairs[i] for i in random.permutation(len(pairs))]
    return mixed[len(mixed) // 5 :], mixed[: len(mixed) // 5]


def sentence(composition: Composition) -> str:
    """What is to be said about it."""
    return "a {} {} {} a {} {}".format(*composition[0], composition[1], *composition[2])


def resized(image: Array, side: int) -> Array:
    """A square image (S, S) at another size, bilinear."""
    at = ((np.arange(side) + 0.5) * len(image) / side - 0.5).clip(0, len(image) - 1)
    weights = np.maximum(0, 1 - abs(at[:, None] - np.arange(len(image))))
    return weights @ image @ weights.T


def scene(composition: Composition, kinds: Kinds, random: np.random.Generator) -> Array:
    """An image (1, CANVAS, CANVAS) of bytes: the things about the middles of their cells, all of it shifted, noise."""
    first, relation, second = composition
    canvas = abs(random.normal(0, 0.05, (CANVAS, CANVAS)))
    shift = random.integers(0, CANVAS - 2 * CELL, 2, endpoint=True)
    cells = RELATIONS[relation][random.integers(len(RELATIONS[relation]))]
    for (size, kind), cell in zip((first, second), cells):
        side = int(random.integers(*SIDES[size], endpoint=True))
        loose = min(3, (CELL - side) // 2)
        middle = shift + CELL * np.array(cell) + (CELL - side) // 2
        top, left = middle + random.integers(-loose, loose, 2, endpoint=True)
        place = canvas[top : top + side, left : left + side]
        np.maximum(place, resized(kinds[kind][random.integers(len(kinds[kind]))], side), out=place)
    return (canvas.clip(0, 1) * 255).astype(np.uint8)[None]


def scenes(
    pairs: Sequence[Composition], count: int, kinds: Kinds, random: np.random.Generator
) -> tuple[Array, list[str]]:
    """Images (N, 1, CANVAS, CANVAS) of combinations drawn from some, and their sentences."""
    drawn = [pairs[i] for i in random.integers(len(pairs), size=count)]
    return np.stack([scene(each, kinds, random) for each in drawn]), [sentence(each) for each in drawn]


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; the share of sentences about held-out combinations that are exactly right."""
    chosen = options(__doc__, 10, arguments, data=None, count=16000, test=2000, shapes=False)
    check_pictures(chosen)
    random = np.random.default_rng(chosen.seed)
    missing = "" if find_spec("sklearn") else " (digits need scikit-learn: pip install 'pydl[sklearn]')"
    plain = chosen.shapes or bool(missing)
    known, new = (shapes(), shapes()) if plain else digits()
    trained, held_out = compositions(tuple(known), random)
    x, y = scenes(trained, chosen.count, known, random)
    test_x, test_y = scenes(held_out, chosen.test, new, random)
    print("drawn shapes" + missing if plain else "handwritten digits")
    held = f"{len(held_out)} are held out, in {chosen.test:,}"
    print(f"{len(trained):,} combinations are trained on, in {chosen.count:,} scenes; {held}")

    model = Captioner(x.shape[1:], WordVocabulary.from_texts(y, unknown=False), encoder=(16, 32, 64))

    def samples(epoch: int, logs: dict[str, float]) -> None:
        if epoch + 1 in (1, 2, 4, chosen.epochs // 2, chosen.epochs):
            said = model.predict(test_x[:4], max_length=12)
            rows = ({f"epoch {epoch + 1}": a, "right": "yes" if a == b else f"no: {b}"} for a, b in zip(said, test_y))
            print(table(list(rows)), flush=True)

    train(model, x, y, 64, 3e-3, chosen, callbacks=[LambdaCallback(on_epoch_end=samples)])
    found = {name: model.predict(test_x, beam=beam, max_length=12) for name, beam in (("greedy", 1), ("beam of 3", 3))}
    exact = {name: float(np.mean([a == b for a, b in zip(said, test_y)])) for name, said in found.items()}
    for name, share in exact.items():
        goal(f"exact about held-out combinations, {name}", share, 0.9)
    if chosen.out is not None:
        said, right = found["greedy"], [a == b for a, b in zip(found["greedy"], test_y)]
        shown = [i for i in range(len(said)) if not right[i]][:3]
        shown += [i for i in range(len(said)) if right[i]][: 12 - len(shown)]
        titles = [said[i] if right[i] else f"{said[i]}\nis {test_y[i]}" for i in shown]
        wrong = [n for n, i in enumerate(shown) if not right[i]]
        pydl.plots.images(
            test_x[shown, 0], titles, wrong, chosen.out / "captions.png", cmap="gray", vmin=0, vmax=255,
            title=f"{exact['greedy']:.1%} of {len(said):,} sentences about held-out combinations are exact; red: not",
        )  # fmt: skip
    say_where(chosen, "captions.png")
    return exact


if __name__ == "__main__":
    run(main)
