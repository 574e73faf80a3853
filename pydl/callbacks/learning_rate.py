"""Reading and changing an optimizer's learning rate, where groups may have rates of their own."""

from __future__ import annotations

from typing import Any

__all__ = ["get_learning_rate", "set_learning_rate"]


def get_learning_rate(optimizer: Any) -> float:
    """The rate of the first group."""
    return float(optimizer.param_groups[0]["lr"])


def set_learning_rate(optimizer: Any, rate: float) -> None:
    """Give the first group this rate; other groups keep their rates' ratios to it (if it was 0: the same rate).

    >>> from pydl import nn, optim
    >>> a, b = nn.Linear(1, 1), nn.Linear(1, 1)
    >>> groups = [{"params": a.parameters()}, {"params": b.parameters(), "lr": 0.5}]
    >>> optimizer = optim.SGD(groups, lr=1.0)
    >>> set_learning_rate(optimizer, 0.1)
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.1, 0.05]
    """
    first = get_learning_rate(optimizer)
    for group in optimizer.param_groups:
        own = float(group["lr"])
        group["lr"] = rate if own == first or first == 0 else rate * (own / first)
