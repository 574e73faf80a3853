"""Augmentation: what each transform makes of the same images, as a contact sheet.

Look at it before training with it: a flipped 2 is no digit, and a shirt that has left the picture teaches nothing.

    python -m pydl.examples.augmentation --out FOLDER [--data FOLDER] [--seed 0]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pydl.data import transforms as T
from pydl.data.keys import SampleKeys
from pydl.examples._shared import images, options, run, say_where, table

COLUMNS = 10


def sheet(x: np.ndarray, y: np.ndarray, classes: int, keys: SampleKeys) -> dict[str, np.ndarray]:
    """Name -> images (COLUMNS, 1, H, W) from 0 to 1."""
    size = x.shape[2]
    changes: dict[str, Any] = {
        "as they are": T.Compose([]),
        "rotation ±20°": T.RandomRotation(20),
        "shift ±15 %": T.RandomShift(0.15),
        "zoom 0.7 to 1.3": T.RandomZoom(0.3),
        "shear ±20°": T.RandomShear(20),
        "all four in one warp": T.RandomAffine(rotation=15, shift=0.1, zoom=0.15, shear=10),
        "flip": T.RandomFlip(),
        "crop after padding": T.RandomCrop(size, padding=size // 7),
        "resized crop": T.RandomResizedCrop(size, scale=(0.4, 1)),
        "noise": T.RandomNoise(0.1),
        "brightness": T.RandomBrightness(0.5, clip=(0, 1)),
        "contrast": T.RandomContrast(0.6, clip=(0, 1)),
        "cutout": T.Cutout(size // 3, fill=0.5),
        "mixup": T.Mixup(1.0, num_classes=classes),
        "cutmix": T.CutMix(1.0, num_classes=classes),
    }
    return {name: change.apply((x, y), keys)[0] for name, change in changes.items()}


def draw(rows: dict[str, np.ndarray], path: Path) -> None:
    """One row for each transform."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SystemExit("the contact sheet needs matplotlib: pip install 'pydl[plot]'") from error
    figure = Figure(figsize=(COLUMNS + 2.2, len(rows)))
    for i, (name, pictures) in enumerate(rows.items()):
        for j, image in enumerate(pictures):
            axes = figure.add_axes((0.17 + 0.083 * j, 1 - (i + 0.97) / len(rows), 0.079, 0.94 / len(rows)))
            axes.imshow(image[0], cmap="gray_r", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
        figure.text(0.16, 1 - (i + 0.5) / len(rows), name, ha="right", va="center")
    figure.savefig(path, dpi=80)


def main(arguments: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Change ten images in fifteen ways, print how much, draw them."""
    chosen = options(__doc__, 1, arguments)
    data = images(chosen.data, COLUMNS)
    x = data.x_train.astype(np.float32) / 255
    rows = sheet(x, data.y_train, int(data.y_test.max()) + 1, SampleKeys(chosen.seed, 0, np.arange(COLUMNS)))
    changed = [{"transform": name, "mean change of a pixel": float(np.abs(z - x).mean())} for name, z in rows.items()]
    print(table(changed))
    if chosen.out is not None:
        draw(rows, chosen.out / "augmentation.png")
    say_where(chosen, "augmentation.png")
    return rows


if __name__ == "__main__":
    run(main)
