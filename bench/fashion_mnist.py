"""`python -m bench.fashion_mnist --data FOLDER`: the examples `mlp` and `cnn`, whole trainings, beside PyTorch's.

The same networks from the same first weights, the same AdamW and one-cycle rate, as many threads. PyTorch trains as its
tutorials do: a shuffled DataLoader over a TensorDataset, of images that were normalized before. Both validate after
each epoch, are processes of their own, and take turns epoch by epoch, so that a busy machine disturbs both.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import subprocess
import sys
import time
from typing import Any, NamedTuple

import numpy as np

from bench import ROOT, machine
from pydl.examples import _shared, cnn, mlp

EXAMPLES = {"mlp": mlp, "cnn": cnn}
GOAL = 0.5  # pydl's time by PyTorch's


class Epoch(NamedTuple):
    """Wall seconds of training and validation, and the share of right answers after it."""

    seconds: float
    accuracy: float


class Turns:
    """The child's end of taking turns: waits to be told to go on, and tells what an epoch took."""

    def __init__(self) -> None:
        self._begin = 0.0

    def wait(self) -> None:
        """Sleep until it is this side's turn."""
        sys.stdin.readline()
        self._begin = time.perf_counter()

    def epoch(self, accuracy: float) -> None:
        """Report an epoch, and wait for the next."""
        print(time.perf_counter() - self._begin, accuracy, flush=True)
        self.wait()


def pydl_epochs(turns: Turns, name: str, folder: str, epochs: int, threads: int, seed: int) -> None:
    """Train with pydl."""
    import pydl

    pydl.set_num_threads(threads)
    pydl.manual_seed(seed)
    data = _shared.images(folder)
    model = EXAMPLES[name].network(data)
    trainer = EXAMPLES[name].trainer(model, data, epochs, seed)
    told = pydl.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: turns.epoch(logs["val_accuracy"]))
    test = (data.x_test, data.y_test)
    turns.wait()
    trainer.fit(
        data.x_train, data.y_train, EXAMPLES[name].BATCH, epochs, validation_data=test, callbacks=[told], verbose=0
    )


def torch_epochs(turns: Turns, name: str, folder: str, epochs: int, threads: int, seed: int) -> None:
    """Train the same network with PyTorch."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    import pydl

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    pydl.manual_seed(seed)
    data = _shared.images(folder)
    example, network = EXAMPLES[name], EXAMPLES[name].network(data)
    model = torch_network(name, data)
    weights = {key: torch.from_numpy(value.numpy().copy()) for key, value in network.state_dict().items()}
    model.load_state_dict({key: weights[key] for key in model.state_dict()})
    mean, scale = float(data.x_train.mean()), float(data.x_train.std())

    def loader(x: Any, y: Any, shuffle: bool) -> Any:
        images = torch.from_numpy((x.astype(np.float32) - mean) / scale)
        return DataLoader(TensorDataset(images, torch.from_numpy(y)), example.BATCH, shuffle=shuffle)

    train, test = loader(data.x_train, data.y_train, True), loader(data.x_test, data.y_test, False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=example.RATE, weight_decay=example.DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, example.RATE, total_steps=epochs * len(train))
    turns.wait()
    for _ in range(epochs):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in test)
        turns.epoch(right / len(data.y_test))


def torch_network(name: str, data: _shared.Images) -> Any:
    """The example's network in PyTorch's layers, under the same names."""
    from torch import nn

    if name == "mlp":
        return nn.Sequential(
            nn.Identity(), nn.Flatten(),
            nn.Linear(data.pixels, 256), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(128, data.classes),
        )  # fmt: skip
    blocks = [
        layer
        for channels, filters in ((1, 32), (32, 64), (64, 128))
        for layer in (
            nn.Conv2d(channels, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
    ]
    height, width = (size // 8 for size in data.x_train.shape[2:])
    return nn.Sequential(
        nn.Identity(), *blocks, nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(128 * height * width, 128), nn.ReLU(), nn.Linear(128, data.classes),
    )  # fmt: skip


SIDES = {"pydl": pydl_epochs, "torch": torch_epochs}


def compare(name: str, folder: str, epochs: int, threads: int, seed: int) -> dict[str, list[Epoch]]:
    """Both sides' epochs, taken in turn."""
    found: dict[str, list[Epoch]] = {side: [] for side in SIDES}
    command = [sys.executable, "-m", __spec__.name, "--data", folder, "--only", name, "--epochs", str(epochs)]
    command += ["--threads", str(threads), "--seed", str(seed), "--side"]
    children = {
        side: subprocess.Popen([*command, side], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for side in SIDES
    }
    for epoch in range(epochs):
        for side, child in children.items():
            assert child.stdin is not None
            assert child.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write("\n")
                child.stdin.flush()
            line = child.stdout.readline().split()
            if not line:
                raise SystemExit(f"{name}: the process of {side} ended; see above")
            found[side].append(Epoch(*map(float, line)))
        pydl, torch = (found[side][-1] for side in SIDES)
        print(
            f"{name}, epoch {epoch + 1}: pydl {pydl.seconds:.1f} s, {pydl.accuracy:.2%}; "
            f"PyTorch {torch.seconds:.1f} s, {torch.accuracy:.2%}",
            flush=True,
        )
    for child in children.values():
        child.communicate()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--data", metavar="FOLDER", required=True, help="of Fashion-MNIST's IDX files, or its like")
    parser.add_argument("--epochs", type=int, default=10, help="default 10")
    parser.add_argument("--threads", type=int, default=machine.pin(1 << 16), help="of both sides; default all")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--only", choices=list(EXAMPLES), help="default both")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)  # in a process of compare
    chosen = parser.parse_args()
    if chosen.epochs < 1 or chosen.threads < 1:
        parser.error("--epochs and --threads must be 1 or more")
    if chosen.side:
        SIDES[chosen.side](Turns(), chosen.only, chosen.data, chosen.epochs, chosen.threads, chosen.seed)
        return
    machine.pin(chosen.threads)
    rows = []
    for name in [chosen.only] if chosen.only else EXAMPLES:
        found = compare(name, chosen.data, chosen.epochs, chosen.threads, chosen.seed)
        pydl, torch = (math.fsum(epoch.seconds for epoch in found[side]) for side in SIDES)
        row = {"network": name, "pydl, s": f"{pydl:.1f}", "PyTorch, s": f"{torch:.1f}", "ratio": f"{pydl / torch:.2f}"}
        right = {f"{side}, accuracy": f"{found[side][-1].accuracy:.2%}" for side in SIDES}
        rows.append({**row, "goal": f"<= {GOAL}", **right})
    print(f"{machine.cpu_name()}, {chosen.threads} threads, {chosen.epochs} epochs, training and validation")
    print(_shared.table(rows))


if __name__ == "__main__":
    main()
