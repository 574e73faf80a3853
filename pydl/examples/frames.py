"""What happens in each frame of a moving pattern: a sequence of images with a label for every one of them.

A blob on a ring of pixels, 12 x 12 and noisy, rests, walks, jumps, blinks, or grows. One frame shows none of this: what
happens is between a frame and the one before, and a resting blob may have grown earlier. Videos have 8 to 40 frames.
A bidirectional GRU reads all frames of a video and tells the event of each.

    python -m pydl.examples.frames [--epochs 8] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pydl.examples._shared import check_pictures, options, run, say_where, table, train
from pydl.models import SequenceTagger

SIZE = 12
EVENTS = ("rest", "left", "right", "up", "down", "jump", "blink", "grow", "shrink")
REST, LEFT, RIGHT, UP, DOWN, JUMP, BLINK, GROW, SHRINK = range(len(EVENTS))
MOVES = {LEFT: (0, -1), RIGHT: (0, 1), UP: (-1, 0), DOWN: (1, 0)}
Array = npt.NDArray[Any]


def frame(row: int, column: int, radius: float, seen: bool, random: np.random.Generator) -> Array:
    """One image (12, 12) of a blob whose plane is joined at its edges, with noise."""
    d = [np.abs(np.arange(SIZE) - middle) for middle in (row, column)]
    down, across = (np.minimum(each, SIZE - each) for each in d)
    blob = np.exp(-(down[:, None] ** 2 + across[None, :] ** 2) / radius**2) if seen else np.zeros((SIZE, SIZE))
    return (blob + random.normal(0.0, 0.05, (SIZE, SIZE))).astype(np.float32)


def video(random: np.random.Generator) -> tuple[Array, Array]:
    """Frames (T, 144) and the event of each, (T,); the first one rests."""
    length = int(random.integers(8, 41))
    place, radius = random.integers(0, SIZE, 2), float(random.uniform(1.0, 2.0))
    frames, events = [frame(int(place[0]), int(place[1]), radius, True, random)], [REST]
    while len(frames) < length:
        event = int(random.integers(len(EVENTS)))
        if (event == GROW and radius > 2.4) or (event == SHRINK and radius < 0.9):
            continue
        for _ in range(int(random.integers(1, 5)) if event in (REST, *MOVES) else 1):
            if event in MOVES:
                place = (place + MOVES[event]) % SIZE
            elif event == JUMP:
                place = (place + random.integers(3, SIZE - 2, 2)) % SIZE
            elif event in (GROW, SHRINK):
                radius *= 1.3 if event == GROW else 1 / 1.3
            frames.append(frame(int(place[0]), int(place[1]), radius, event != BLINK, random))
            events.append(event)
    return np.stack(frames[:length]).reshape(length, -1), np.array(events[:length])


def videos(count: int, random: np.random.Generator) -> tuple[list[Array], list[Array]]:
    """So many videos, and their events."""
    made = [video(random) for _ in range(count)]
    return [x for x, _ in made], [y for _, y in made]


def strip(x: Array, events: Array, found: Array, path: Path, count: int = 24) -> None:
    """Draw the first frames of a video, what happens in each, and what was found where that is something else."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise SystemExit("the picture needs matplotlib: pip install 'pydl[plot]'") from error
    figure, axes = plt.subplots(3, count // 3, figsize=(1.4 * count / 3, 5.2), layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for t, (axis, image) in enumerate(zip(axes.flat, x[:count])):
        axis.imshow(image.reshape(SIZE, SIZE), cmap="gray", vmin=-0.2, vmax=1.2)
        right = events[t] == found[t]
        title = f"{t}: {EVENTS[found[t]]}" + ("" if right else f"\nis {EVENTS[events[t]]}")
        axis.set_title(title, fontsize=10, color="black" if right else "firebrick")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; loss and accuracy per frame of videos that were not trained on."""
    chosen = options(__doc__, 8, arguments, data=None, count=5000, hidden=96)
    check_pictures(chosen)
    random = np.random.default_rng(chosen.seed)
    x, y = videos(chosen.count, random)
    test_x, test_y = videos(400, random)

    model = SequenceTagger(SIZE * SIZE, len(EVENTS), cell="gru", hidden_size=chosen.hidden, num_layers=2, dropout=0.1)
    train(model, x, y, 32, 6e-3, chosen, validation_data=(test_x, test_y))

    found = model.predict(test_x)
    truth, said = np.concatenate(test_y), np.concatenate(found)
    rows = [
        {
            "event": name,
            "frames": int((truth == i).sum()),
            "found": f"{np.mean(said[truth == i] == i):.1%}",
            "taken for": EVENTS[int(np.bincount(said[(truth == i) & (said != i)], minlength=1).argmax())]
            if (said[truth == i] != i).any()
            else "",
        }
        for i, name in enumerate(EVENTS)
    ]
    print(table(rows))
    result = model.evaluate(test_x, test_y)
    print(f"{result['accuracy']:.2%} of {len(truth):,} frames of {len(test_x)} videos not trained on are right")
    if chosen.out is not None:
        longest = int(np.argmax([len(events) for events in test_y]))
        strip(test_x[longest], test_y[longest], found[longest], chosen.out / "frames.png")
    say_where(chosen, "frames.png")
    return result


if __name__ == "__main__":
    run(main)
