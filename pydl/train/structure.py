"""Batches and what is in them: tensors alone, or tuples, lists and dicts of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["as_batch", "batch_size", "call_model", "leaves", "map_leaves"]


def leaves(x: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays of a structure with their places in it, such as ``[0]`` or ``['image']``."""
    if isinstance(x, (tuple, list)):
        for i, part in enumerate(x):
            yield from leaves(part, f"{path}[{i}]")
    elif isinstance(x, dict):
        for key, part in x.items():
            yield from leaves(part, f"{path}[{key!r}]")
    elif x is not None:
        yield path, x


def map_leaves(f: Callable[[Any], Any], x: Any) -> Any:
    """The same structure with ``f`` of each of its arrays; None stays None."""
    if x is None:
        return None
    if isinstance(x, (tuple, list)):
        parts = [map_leaves(f, part) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    if isinstance(x, dict):
        return {key: map_leaves(f, part) for key, part in x.items()}
    return f(x)


def as_batch(batch: Any) -> tuple[Any, Any, Any]:
    """What came from a loader as (x, y, weight); y and weight may be None."""
    if isinstance(batch, (tuple, list)):
        count = len(batch)
        if count == 2:
            return batch[0], batch[1], None
        if count == 1:
            return batch[0], None, None
        if count == 3:
            return batch[0], batch[1], batch[2]
        raise ValueError(
            f"[Trainer] got a batch of {count} parts, expected (x,), (x, y) or (x, y, weight); "
            "put several inputs into one tuple: ((x1, x2), y)"
        )
    return batch, None, None


def batch_size(x: Any) -> int:
    """Samples in a structure: the first axis of its first array."""
    while isinstance(x, (tuple, list, dict)):
        x = next(iter(x.values())) if isinstance(x, dict) else x[0]
    shape = x.shape
    return shape[0] if shape else 1


def call_model(model: Any, x: Any) -> Any:
    """``model(x)``, ``model(*x)`` for a tuple or list, ``model(**x)`` for a dict."""
    if isinstance(x, pydl.Tensor):
        return model(x)
    if isinstance(x, dict):
        return model(**x)
    if isinstance(x, (tuple, list)):
        return model(*x)
    return model(x)
