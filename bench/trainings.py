"""`python -m bench.trainings [--images FOLDER] [--text FILE]`: whole trainings beside PyTorch's, epoch by epoch.

Of a folder of Fashion-MNIST's IDX files, the examples `mlp` and `cnn`; of a text, what `pydl charlm train` does.
PyTorch trains the same networks from the same first weights with the same optimizer, rates and threads, as tutorials
do: images, normalized before, by a shuffled DataLoader over a TensorDataset; text in rows that are walked along, with
the state handed on. Both validate after each epoch; pydl's text side saves and samples besides. The sides are processes
of their own that take turns, so that a busy machine disturbs both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pydl
from bench import ROOT, machine
from pydl.examples import _shared, cnn, mlp
from pydl.text.stream import ChunkStream
from pydl.train import CharLMTrainer, TrainingObserver, TrainingOptions

SIDES = {"pydl": "pydl", "torch": "PyTorch"}

EXAMPLES = {"mlp": mlp, "cnn": cnn}
CASES = {"mlp": ("accuracy", 0.5), "cnn": ("accuracy", 0.5), "charlm": ("nats", 1.0)}  # what is told, goal of the ratio


class Epoch(NamedTuple):
    """Wall seconds of training and validation, and what validation said."""

    seconds: float
    figure: float


class Task(NamedTuple):
    """What both sides do."""

    case: str
    path: str
    epochs: int
    threads: int
    seed: int


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


def pydl_images(turns: Turns, task: Task) -> None:
    """Train an example's network."""
    data = _shared.images(task.path)
    example = EXAMPLES[task.case]
    trainer = _shared.classifier(example.network(data), data, example.RATE, task.epochs, task.seed)
    told = pydl.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: turns.epoch(logs["val_accuracy"]))
    test = (data.x_test, data.y_test)
    turns.wait()
    trainer.fit(
        data.x_train, data.y_train, _shared.BATCH, task.epochs, validation_data=test, callbacks=[told], verbose=0
    )


def torch_images(turns: Turns, task: Task) -> None:
    """Train the same network with PyTorch."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    data = _shared.images(task.path)
    example = EXAMPLES[task.case]
    model = torch_network(task.case, data)
    _hand_over(example.network(data), model)
    mean, scale = float(data.x_train.mean()), float(data.x_train.std())

    def loader(x: Any, y: Any, shuffle: bool) -> Any:
        images = torch.from_numpy((x.astype(np.float32) - mean) / scale)
        return DataLoader(TensorDataset(images, torch.from_numpy(y)), _shared.BATCH, shuffle=shuffle)

    train, test = loader(data.x_train, data.y_train, True), loader(data.x_test, data.y_test, False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=example.RATE, weight_decay=_shared.DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, example.RATE, total_steps=task.epochs * len(train))
    turns.wait()
    for _ in range(task.epochs):
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


def pydl_text(turns: Turns, task: Task) -> None:
    """Train the command line's character model."""

    class Told(TrainingObserver):
        def on_evaluation(self, trainer: CharLMTrainer, row: Mapping[str, float | None]) -> None:
            turns.epoch(row["val_loss"] or math.nan)

    text = Path(task.path).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingOptions(epochs=task.epochs, seed=task.seed)
        trainer = CharLMTrainer(text, Path(folder, "run"), options, observer=Told())
        turns.wait()
        trainer.fit()


def torch_text(turns: Turns, task: Task) -> None:
    """Train the same model with PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    text = Path(task.path).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        twin = CharLMTrainer(text, Path(folder, "run"), TrainingOptions(seed=task.seed))
    options, characters = twin.options, len(twin.model.vocabulary)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(characters, options.hidden)
            self.rnn = nn.LSTM(options.hidden, options.hidden, options.layers, batch_first=True)
            self.output = nn.Linear(options.hidden, characters)

        def forward(self, x: Any, state: Any) -> Any:
            y, state = self.rnn(self.embedding(x), state)
            return self.output(y), state

    model = Model()
    _hand_over(twin.model, model)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)

    def loss_of(chunk: Any, state: Any) -> Any:
        x, y = (torch.from_numpy(part.astype(np.int64)) for part in chunk)
        scores, state = model(x, state)
        return functional.cross_entropy(scores.flatten(0, 1), y.flatten()), tuple(part.detach() for part in state)

    turns.wait()
    for _ in range(task.epochs):
        model.train()
        state = None
        for chunk in twin.stream:
            optimizer.zero_grad()
            loss, state = loss_of(chunk, state)
            loss.backward()
            nn.utils.clip_grad_value_(model.parameters(), options.grad_clip)
            optimizer.step()
        model.eval()
        total, count, state = 0.0, 0, None
        rows = max(1, min(options.batch_size, twin.validation.size // 5_000))
        with torch.no_grad():
            for chunk in ChunkStream(twin.validation, rows, options.seq_length, drop_last=False):
                loss, state = loss_of(chunk, state)
                total += loss.item() * chunk.inputs.size
                count += chunk.inputs.size
        turns.epoch(total / count)


def _hand_over(model: pydl.nn.Module, twin: Any) -> None:
    """Give PyTorch's network the weights of pydl's."""
    import torch

    weights = {key: torch.from_numpy(value.numpy().copy()) for key, value in model.state_dict().items()}
    twin.load_state_dict({key: weights[key] for key in twin.state_dict()})


def run_side(side: str, task: Task) -> None:
    """The work of a child process."""
    pydl.set_num_threads(task.threads)
    pydl.manual_seed(task.seed)
    if side == "torch":
        import torch

        torch.set_num_threads(task.threads)
        torch.manual_seed(task.seed)
    text = task.case == "charlm"
    runs = {"pydl": pydl_text if text else pydl_images, "torch": torch_text if text else torch_images}
    runs[side](Turns(), task)


def compare(task: Task) -> dict[str, list[Epoch]]:
    """Both sides' epochs, taken in turn."""
    found: dict[str, list[Epoch]] = {side: [] for side in SIDES}
    command = [sys.executable, "-m", __spec__.name, "--task", json.dumps(task)]
    children = {
        side: subprocess.Popen([*command, side], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for side in SIDES
    }
    for epoch in range(task.epochs):
        for side, child in children.items():
            assert child.stdin is not None
            assert child.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write("\n")
                child.stdin.flush()
            line = child.stdout.readline().split()
            if not line:
                raise SystemExit(f"{task.case}: the process of {side} ended; see above")
            found[side].append(Epoch(*map(float, line)))
        told = (f"{SIDES[side]} {row[-1].seconds:.1f} s, {_figure(task.case, row[-1])}" for side, row in found.items())
        print(f"{task.case}, epoch {epoch + 1}: {'; '.join(told)}", flush=True)
    for child in children.values():
        child.communicate()
    return found


def _figure(case: str, epoch: Epoch) -> str:
    return f"{epoch.figure:.2%}" if CASES[case][0] == "accuracy" else f"{epoch.figure:.4f} {CASES[case][0]}"


def main() -> None:
    parser = argparse.ArgumentParser(f"python -m {__spec__.name}", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--images", metavar="FOLDER", help="IDX files of Fashion-MNIST or its like: mlp and cnn")
    parser.add_argument("--text", metavar="FILE", help="charlm")
    parser.add_argument("--only", metavar="WORDS", help=f"some of {', '.join(CASES)}; default all that have data")
    parser.add_argument("--epochs", type=int, default=10, help="default 10")
    parser.add_argument("--threads", type=int, default=machine.pin(1 << 16), help="of both sides; default all")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)  # in a process of compare
    chosen = parser.parse_args()
    if chosen.task:
        return run_side(chosen.task[1], Task(*json.loads(chosen.task[0])))
    paths = {"mlp": chosen.images, "cnn": chosen.images, "charlm": chosen.text}
    cases = [case for case in CASES if paths[case] and (not chosen.only or case in chosen.only.split(","))]
    if not cases:
        parser.error("give --images or --text, and cases that have data")
    if chosen.epochs < 1 or chosen.threads < 1:
        parser.error("--epochs and --threads must be 1 or more")
    machine.pin(chosen.threads)
    rows = []
    for case in cases:
        found = compare(Task(case, os.path.abspath(paths[case]), chosen.epochs, chosen.threads, chosen.seed))
        seconds = {side: math.fsum(epoch.seconds for epoch in found[side]) for side in SIDES}
        row = {"training": case, **{f"{SIDES[side]}, s": f"{seconds[side]:.1f}" for side in SIDES}}
        row |= {"ratio": f"{seconds['pydl'] / seconds['torch']:.2f}", "goal": f"<= {CASES[case][1]}"}
        rows.append(row | {f"{SIDES[side]}, last": _figure(case, found[side][-1]) for side in SIDES})
    print(f"{machine.cpu_name()}, {chosen.threads} threads, {chosen.epochs} epochs, training and validation")
    print(_shared.table(rows))
    return None


if __name__ == "__main__":
    main()
