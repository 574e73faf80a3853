"""What a run of CharLMTrainer does with a text: its options, their ranges, and which of them may change on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["DEFAULT_EPOCHS", "TrainingOptions"]

DEFAULT_EPOCHS = 10

_GOAL = ("epochs", "max_iters", "save_every")  # how far and how safely; what may change when a run goes on


@dataclass(frozen=True)
class TrainingOptions:
    """What a run does with a text. The names are those of the command line's flags.

    Args:
        cell, hidden, layers, embed, dropout: the model, see `CharLM`.
        seq_length: characters in a chunk: how far gradients reach back.
        batch_size: rows of text walked along together.
        epochs: passes over the text; default 10, or as many as `max_iters` takes.
        max_iters: chunks trained on, at most.
        lr: Adam's learning rate.
        lr_decay: a factor for the learning rate after each epoch.
        grad_clip: gradients are cut off elementwise at plus and minus this; 0 is never.
        val_frac: the last part of the text, held back for validation; 0 is none.
        seed: of the first weights, dropout and samples.
        eval_every, sample_every: iterations from one evaluation, or sample, to the next; default an epoch.
        save_every: iterations from one checkpoint to the next.

    Raises:
        ValueError: an option is outside its range.
    """

    cell: str = "lstm"
    hidden: int = 128
    layers: int = 2
    embed: int | None = None
    dropout: float = 0.0
    seq_length: int = 50
    batch_size: int = 50
    epochs: int | None = None
    max_iters: int | None = None
    lr: float = 2e-3
    lr_decay: float = 1.0
    grad_clip: float = 5.0
    val_frac: float = 0.05
    seed: int = 0
    eval_every: int | None = None
    sample_every: int | None = None
    save_every: int = 500

    def __post_init__(self) -> None:
        if self.embed is None:
            object.__setattr__(self, "embed", self.hidden)
        for name in ("hidden", "layers", "embed", "seq_length", "batch_size", "save_every"):
            self._expect(name, getattr(self, name) >= 1, "1 or more")
        for name in ("epochs", "max_iters", "eval_every", "sample_every"):
            self._expect(name, getattr(self, name) is None or getattr(self, name) >= 1, "1 or more")
        self._expect("cell", self.cell in ("lstm", "gru", "rnn"), "lstm, gru or rnn")
        self._expect("dropout", 0.0 <= self.dropout < 1.0, "0 <= dropout < 1")
        self._expect("lr", 0.0 < self.lr < math.inf, "a positive number")
        self._expect("lr_decay", 0.0 < self.lr_decay <= 1.0, "0 < lr_decay <= 1")
        self._expect("grad_clip", 0.0 <= self.grad_clip < math.inf, "0 (never) or more")
        self._expect("val_frac", 0.0 <= self.val_frac < 1.0, "0 <= val_frac < 1")
        self._expect("seed", 0 <= self.seed < 2**63, "0 <= seed < 2**63")

    def _expect(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"[TrainingOptions] got {name} {getattr(self, name)!r}, expected {expected}")

    def total_iterations(self, per_epoch: int) -> int:
        """The iterations of the whole run, where an epoch has `per_epoch`."""
        if self.epochs is None and self.max_iters is not None:
            return self.max_iters
        total = (self.epochs or DEFAULT_EPOCHS) * per_epoch
        return total if self.max_iters is None else min(total, self.max_iters)

    def contradictions(self, changes: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Those changes that make it another run: name -> (the new value, the value here)."""
        return {
            name: (value, getattr(self, name))
            for name, value in changes.items()
            if name not in _GOAL and value != getattr(self, name)
        }

    def with_goal(self, changes: Mapping[str, Any]) -> TrainingOptions:
        """The same run with another end: where `epochs` or `max_iters` is given, both are taken from the changes."""
        goal = {name: changes[name] for name in _GOAL if name in changes}
        if "epochs" in goal or "max_iters" in goal:
            goal = {"epochs": None, "max_iters": None, **goal}
        return replace(self, **goal)
