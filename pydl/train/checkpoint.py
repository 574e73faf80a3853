"""Checkpoints: one safetensors file with everything that a training goes on from, and a folder of them.

A file has the tensors under dotted names, ``model.0.weight`` and the like, and in its metadata

    format    "pydl.checkpoint 1"
    state     the whole state as JSON, with the tensors' names in their places
    checksum  CRC-32 of each tensor's bytes and of the state, as JSON

so other readers of safetensors see the weights, a file of another kind is noticed, and so is a flipped bit. No pickle.
Files are replaced as a whole (pydl._atomic): a kill at any moment leaves the one before.
"""

from __future__ import annotations

import json
import os
import re
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl._atomic import atomic_write, remove_leftovers
from pydl.serialization import load_file, load_metadata, save_file
from pydl.train.arguments import whole_number
from pydl.train.packing import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydl import Generator, Tensor
    from pydl.nn import Module
    from pydl.train.fitting import Fitting
    from pydl.train.trainer import Trainer

__all__ = ["Checkpoint", "read_checkpoint", "restore_training", "training_state", "write_checkpoint"]

FORMAT = "pydl.checkpoint 1"
BEST = "best.safetensors"
_NAME = re.compile(r"step-(\d+)\.safetensors")


def write_checkpoint(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a state (see :func:`pydl.train.packing.pack`) to one file, atomically.

    Raises:
        TypeError: the state holds something that is no number, text or tensor.
        OSError: whatever the system says; the old file stays.
    """
    tree, tensors = pack(dict(state))
    text = json.dumps(tree, separators=(",", ":"))
    sums = {name: _checksum(tensor) for name, tensor in tensors.items()}
    metadata = {
        "format": FORMAT,
        "state": text,
        "checksum": json.dumps({"state": zlib.crc32(text.encode()), "tensors": sums}, separators=(",", ":")),
    }
    save_file(tensors, path, metadata)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state in a file.

    Raises:
        ValueError: it is damaged, or no checkpoint; names the file.
        OSError: it cannot be read.
    """
    if os.path.isdir(path):
        raise ValueError(
            f"[load] {os.fspath(path)} is a folder, expected a file; fit(checkpoint=folder, resume='last')"
        )
    metadata = load_metadata(path)
    found = metadata.get("format", "")
    if found != FORMAT:
        kind = f"of format {found!r}" if found else "a safetensors file without a training's state"
        raise ValueError(
            f"[load] {os.fspath(path)} is {kind}, expected a checkpoint of Trainer ({FORMAT!r}); weights alone are "
            "loaded with model.load_state_dict(pydl.load(path))"
        )
    tensors = load_file(path)
    try:
        sums = json.loads(metadata["checksum"])
        if zlib.crc32(metadata["state"].encode()) != sums["state"]:
            raise ValueError("its state does not fit its checksum")
        for name, tensor in tensors.items():
            if _checksum(tensor) != sums["tensors"][name]:
                raise ValueError(f"tensor {name!r} does not fit its checksum")
        state = unpack(json.loads(metadata["state"]), tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"[load] {os.fspath(path)} is damaged: {error}") from None
    if not isinstance(state, dict):
        raise ValueError(f"[load] {os.fspath(path)} is damaged: its state is a {type(state).__name__}")
    return state


def _checksum(tensor: Tensor) -> int:
    if tensor.dtype == pydl.bfloat16:
        return zlib.crc32(tensor.numpy_bytes())
    return zlib.crc32(np.ascontiguousarray(tensor.detach().cpu().numpy()).reshape(-1).view(np.uint8).data)


# ---- a trainer's state


def generators(model: Module) -> Iterator[tuple[str, Generator]]:
    """Every source of random numbers of a training: the default one and those that modules keep."""
    yield "default", pydl.default_generator()
    for path, module in model.named_modules():
        for name, value in module.__dict__.items():
            if isinstance(value, pydl.Generator):
                yield f"{path}.{name}" if path else name, value


def training_state(trainer: Trainer) -> dict[str, Any]:
    """Everything that decides how a training goes on."""
    trainer.read_steps()
    fitting = trainer._fitting
    average = trainer.average
    state: dict[str, Any] = {
        "model": dict(average.own_state() if average is not None else trainer.model.state_dict()),
        "optimizer": {"name": type(trainer.optimizer).__name__, **trainer.optimizer.state_dict()},
        "schedulers": [scheduler.state_dict() for scheduler in trainer.schedulers],
        "average": None if average is None else dict(average.averaged.state_dict()),
        "generators": {name: generator.get_state() for name, generator in generators(trainer.model)},
        "progress": {
            "epoch": trainer.epoch,
            "step": trainer.step,
            "epochs_trained": trainer.epochs_trained,
        },
        "tracker": trainer.tracker.state_dict(),
        "metrics": trainer.metrics.state_dict(),
        "carried": trainer.state,
    }
    if fitting is not None:
        state["fitting"] = fitting.state_dict()
    return state


def restore_training(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Give a trainer a state; that of a running fit is restored by Fitting.

    Raises:
        ValueError: it is of another model, optimizer or set of schedules.
    """
    for name in ("model", "optimizer", "schedulers", "generators", "progress"):
        if name not in state:
            raise ValueError(f"[load] the checkpoint has no {name}")
    if trainer.optimizer is not None:  # so that nothing is changed by what does not fit
        _check_fits(trainer, state)
    trainer.model.load_state_dict(state["model"])
    trainer.build()
    _check_fits(trainer, state)
    trainer.optimizer.load_state_dict({key: value for key, value in state["optimizer"].items() if key != "name"})
    for scheduler, entry in zip(trainer.schedulers, state["schedulers"]):
        scheduler.load_state_dict(entry)
    if trainer.average is not None:
        trainer.average.averaged.load_state_dict(state["average"])
        trainer.average.forget()
    known = dict(generators(trainer.model))
    for path, position in state["generators"].items():
        if path in known:
            known[path].set_state(position)
    progress = state["progress"]
    trainer.epoch, trainer.step = progress["epoch"], progress["step"]
    trainer.epochs_trained = progress["epochs_trained"]
    trainer.tracker.load_state_dict(state["tracker"])
    trainer.metrics.load_state_dict(state["metrics"])
    trainer.state = state["carried"]


def _check_fits(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Raise ValueError where a state is of another optimizer, schedules or average."""
    name = state["optimizer"].get("name")
    if name != type(trainer.optimizer).__name__:
        raise ValueError(f"[load] the checkpoint is of {name}, expected {type(trainer.optimizer).__name__}")
    if len(state["schedulers"]) != len(trainer.schedulers):
        raise ValueError(
            f"[load] the checkpoint has {len(state['schedulers'])} schedules, expected {len(trainer.schedulers)}"
        )
    if (trainer.average is None) != (state["average"] is None):
        raise ValueError("[load] the checkpoint and the trainer differ in ema; use the run's own value")


class Checkpoint:
    """A folder of checkpoints: the newest ones and the best.

    Args:
        folder: made where it is missing. Files are ``step-00000120.safetensors`` and ``best.safetensors``.
        keep: how many of the newest are kept; default 2.
        monitor: what tells the best epoch, a name in the logs; default ``"val_loss"``, or ``"loss"`` without
            validation.
        mode: ``"min"``, ``"max"`` or ``"auto"`` (default), by the name.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Checkpoint(folder).newest()
    []
    """

    def __init__(
        self, folder: str | os.PathLike[str], keep: int = 2, monitor: str | None = None, mode: str = "auto"
    ) -> None:
        keep = whole_number("Checkpoint", "keep", keep, 1)
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"[Checkpoint] got mode={mode!r}, expected 'auto', 'min' or 'max'")
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"[Checkpoint] {self.folder} is a file, expected a folder")
        self.keep, self.monitor, self.mode = keep, monitor, mode
        self.best: float | None = None

    def newest(self) -> list[Path]:
        """The files of the last steps, newest first."""
        if not self.folder.is_dir():
            return []
        found = [(int(match[1]), path) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, reverse=True)]

    def prepare(self) -> None:
        """Make the folder, and clear away what a killed process left half written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder, "*.safetensors")

    def save(self, state: Mapping[str, Any], step: int, best: bool = False) -> None:
        """Write a state under its step (and as the best), then drop what is older than the ``keep`` newest."""
        path = self.folder / f"step-{step:08d}.safetensors"
        write_checkpoint(state, path)
        if best:
            with atomic_write(self.folder / BEST) as file:
                file.write(path.read_bytes())
        for old in self.newest()[self.keep :]:
            old.unlink(missing_ok=True)

    def improves(self, logs: Mapping[str, Any]) -> bool:
        """Whether these logs are the best so far; remembers the value."""
        from pydl.callbacks.monitor import Monitor

        name = self.monitor or ("val_loss" if "val_loss" in logs else "loss")
        if name not in logs:
            if self.monitor is not None and not name.startswith("val_"):
                raise ValueError(f"[Checkpoint] got monitor={name!r}, expected one of {', '.join(logs)}")
            return False
        value = float(logs[name])
        if not Monitor("Checkpoint", name, self.mode).improves(value, self.best):
            return False
        self.best = value
        return True

    def load(self, which: Any) -> dict[str, Any] | None:
        """The state that ``resume`` names; None for ``"last"`` where there is none yet.

        A damaged newest file is passed over with a warning, and the one before it is taken.

        Raises:
            ValueError: all files are damaged, or the file that was asked for is.
            FileNotFoundError: there is no best one.
        """
        if which != "last":
            path = self.folder / BEST if which == "best" else Path(which)
            if not path.exists():
                raise FileNotFoundError(2, "There is no such checkpoint", str(path))
            return read_checkpoint(path)
        damaged = []
        for path in self.newest():
            try:
                state = read_checkpoint(path)
            except (ValueError, OSError) as error:
                damaged.append(str(error))
                continue
            for fault in damaged:
                warnings.warn(f"{fault}; going on from {path.name}, which is older", UserWarning, stacklevel=5)
            return state
        if damaged:
            raise ValueError("[resume] no checkpoint can be read:\n  " + "\n  ".join(damaged))
        return None


def as_checkpoint(given: Any) -> Checkpoint:
    """A :class:`Checkpoint`, or one for a folder's path."""
    if isinstance(given, Checkpoint):
        return given
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"[fit] got checkpoint={given!r}, expected the path of a folder, or pydl.train.Checkpoint")
    return Checkpoint(given)


def restore_fitting(fitting: Fitting, state: Mapping[str, Any], where: str) -> None:
    """Give a trainer and its running fit a state.

    Raises:
        ValueError: it does not fit; names what.
    """
    if "fitting" not in state:
        raise ValueError(f"[fit] {where} was saved outside of a fit; load it with trainer.load(path)")
    try:
        saved, own = (list(each) for each in (state["metrics"], fitting.trainer.metrics.state_dict()))
        if saved != own:
            raise ValueError(f"[load] the checkpoint has the metrics {saved}, expected {own}")
        restore_training(fitting.trainer, state)
        fitting.load_state_dict(state["fitting"])
    except ValueError as error:
        error.args = (f"{error}\n  in fit(resume={where!r}): the run that goes on must be the same",)
        raise
