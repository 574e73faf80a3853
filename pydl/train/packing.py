"""Nested states as tensors and one JSON text: what state_dict methods give, without loss and without pickle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import pydl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl import Tensor

__all__ = ["pack", "unpack"]

_MARK = "\x00"  # begins the key of what JSON has no word for; no state of ours has such a key


def pack(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """A tree for JSON, and the tensors of the state under dotted names.

    Dicts (with any simple keys), lists, tuples, numbers (NaN and infinities too), texts, None, tensors and arrays.

    Raises:
        TypeError: anything else; names its place.

    >>> tree, tensors = pack({"w": pydl.ones((2,)), "betas": (0.9, 0.999)})
    >>> list(tensors), unpack(tree, tensors)["betas"]
    (['w'], (0.9, 0.999))
    """
    tensors: dict[str, Tensor] = {}

    def put(value: Any, path: str) -> Any:
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, (int, np.integer)):
            return int(value)
        if isinstance(value, (float, np.floating)):
            number = float(value)
            return number if math.isfinite(number) else {f"{_MARK}float": repr(number)}
        if isinstance(value, np.ndarray):
            return {f"{_MARK}array": put(pydl.asarray(np.ascontiguousarray(value)), path)[f"{_MARK}tensor"]}
        if isinstance(value, pydl.Tensor):
            name, number = path, 0
            while name in tensors:
                number += 1
                name = f"{path}#{number}"
            tensors[name] = value.detach()
            return {f"{_MARK}tensor": name}
        if isinstance(value, (list, tuple)):
            parts = [put(part, f"{path}.{i}") for i, part in enumerate(value)]
            return parts if isinstance(value, list) else {f"{_MARK}tuple": parts}
        if isinstance(value, dict):
            if all(isinstance(key, str) and not key.startswith(_MARK) for key in value):
                return {key: put(part, f"{path}.{key}" if path else key) for key, part in value.items()}
            pairs = [[put(key, path), put(part, f"{path}.{key}")] for key, part in value.items()]
            return {f"{_MARK}items": pairs}
        raise TypeError(
            f"[save] the state has a {type(value).__name__} at {path or 'its top'}, expected numbers, texts, "
            "tensors, and lists and dicts of them"
        )

    return put(state, ""), tensors


def unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The reverse of :func:`pack`.

    Raises:
        KeyError: a tensor is missing.
        ValueError: the tree is none of ours.
    """
    if isinstance(tree, list):
        return [unpack(part, tensors) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1:
        ((key, value),) = tree.items()
        if key.startswith(_MARK):
            kind = key[1:]
            if kind == "tensor":
                return tensors[value]
            if kind == "array":
                return tensors[value].cpu().numpy()
            if kind == "float":
                return float(value)
            if kind == "tuple":
                return tuple(unpack(part, tensors) for part in value)
            if kind == "items":
                return {unpack(name, tensors): unpack(part, tensors) for name, part in value}
            raise ValueError(f"[load] the state has an entry of the unknown kind {kind!r}")
    return {key: unpack(part, tensors) for key, part in tree.items()}
