"""From samples to a batch: what a dataset gives one at a time is stacked here, or padded where lengths differ.

A sample is a tuple, list, dict or named tuple of arrays, tensors and numbers, nested as one likes; a batch has the same
structure with one axis more in front of every leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pydl import _C
from pydl._interop import to_tensor
from pydl._tensor import Tensor

__all__ = ["default_collate", "pad_collate"]

_SCALARS = (bool, int, float, np.generic)


def map_leaves(f: Callable[..., Any], *trees: Any) -> Any:
    """The structure of the first tree (tuples, lists, dicts) with ``f`` of the leaves that stand at the same place."""
    first = trees[0]
    if isinstance(first, Mapping):
        return {key: map_leaves(f, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(map_leaves(f, *column) for column in zip(*trees)))
    if isinstance(first, (tuple, list)):
        return type(first)(map_leaves(f, *column) for column in zip(*trees))
    return f(*trees)


def named_leaves(tree: Any, name: str) -> list[tuple[str, Any]]:
    """The leaves in order, each with what it is called in Python: ``x[0]['image']``."""
    if isinstance(tree, Mapping):
        return [leaf for key, value in tree.items() for leaf in named_leaves(value, f"{name}[{key!r}]")]
    if isinstance(tree, (tuple, list)):
        return [leaf for i, value in enumerate(tree) for leaf in named_leaves(value, f"{name}[{i}]")]
    return [(name, tree)]


def default_collate(samples: Sequence[Any]) -> Any:
    """Samples of the same structure and shapes as one batch.

    Arrays and tensors are stacked along a new first axis and keep their dtype; Python floats become float32, integers
    int64, booleans bool. Tuples, named tuples, lists and dicts keep their structure.

    Args:
        samples: the samples, one or more.

    Returns:
        The batch; its leaves are tensors of shape (N, ...).

    Raises:
        ValueError: no samples; shapes or structures that differ. The message names the sample and its field.
        TypeError: strings, objects, None.

    >>> x, y = default_collate([([1.0, 2.0], 3), ([4.0, 5.0], 6)])
    >>> x[0].tolist(), y.tolist()
    ([1.0, 4.0], [3, 6])
    """
    return collate_named(samples, None)


def collate_named(samples: Sequence[Any], indices: Sequence[int] | None) -> Any:
    """default_collate whose errors name the samples by their indices in the dataset."""
    if not isinstance(samples, (list, tuple)):
        raise TypeError(f"[default_collate] got {type(samples).__name__}, expected a list of samples")
    if not samples:
        raise ValueError("[default_collate] got no samples, expected at least one")
    return _collate(list(samples), "", indices if indices is not None else range(len(samples)))


def _where(field: str, index: Any) -> str:
    return f"sample {int(index)}" + (f", field {field}" if field else "")


def _collate(values: list[Any], field: str, indices: Sequence[int]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return _stack([v.detach() if isinstance(v, Tensor) else v for v in values], field, indices)
    if isinstance(first, (np.ndarray, *_SCALARS)):
        return _stack(values, field, indices)
    if isinstance(first, Mapping):
        for i, value in enumerate(values):
            if not isinstance(value, Mapping) or value.keys() != first.keys():
                got = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
                raise ValueError(
                    f"[default_collate] {_where(field, indices[i])}: got {got}, expected a dict with the keys"
                    f" {sorted(map(str, first))} of sample {int(indices[0])}"
                )
        return {key: _collate([v[key] for v in values], f"{field}[{key!r}]", indices) for key in first}
    if isinstance(first, (tuple, list)):
        for i, value in enumerate(values):
            if not isinstance(value, (tuple, list)) or len(value) != len(first):
                got = f"{len(value)} fields" if isinstance(value, (tuple, list)) else type(value).__name__
                raise ValueError(
                    f"[default_collate] {_where(field, indices[i])}: got {got}, expected {len(first)} fields as in"
                    f" sample {int(indices[0])}; for sequences of different lengths return arrays and use pad_collate"
                )
        columns = [_collate([v[k] for v in values], f"{field}[{k}]", indices) for k in range(len(first))]
        if hasattr(first, "_fields"):
            return type(first)(*columns)
        return tuple(columns) if isinstance(first, tuple) else columns
    return _stack(values, field, indices)


def _stack(values: list[Any], field: str, indices: Sequence[int]) -> Tensor:
    first = values[0]
    if isinstance(first, _SCALARS):
        if all(isinstance(v, _SCALARS) for v in values):
            numbers: Tensor = to_tensor(values, None, None)
            return numbers
        arrays = [as_array(v, field, i) for v, i in zip(values, indices)]
    else:
        arrays = [v if isinstance(v, np.ndarray) else as_array(v, field, i) for v, i in zip(values, indices)]
    shape, dtype = arrays[0].shape, arrays[0].dtype
    for i, array in enumerate(arrays):
        if array.shape != shape:
            raise ValueError(
                f"[default_collate] {_where(field, indices[i])}: got the shape {array.shape}, expected {shape} as in"
                f" sample {int(indices[0])}; sequences of different lengths need collate_fn=pydl.data.pad_collate"
            )
        if array.dtype != dtype:
            dtype = np.result_type(dtype, array.dtype)
    if dtype.kind not in "biuf":
        as_array(arrays[0], field, indices[0])
    out: Tensor = _C.empty((len(arrays), *shape), dtype)
    np.stack(arrays, out=out.numpy())
    return out


def as_array(value: Any, field: str, index: Any) -> np.ndarray[Any, Any]:
    """The array of one field of a sample, or an error that says which one is no number."""
    if isinstance(value, Tensor):
        return value.detach().numpy()
    kind = type(value).__name__
    if not isinstance(value, (str, bytes)) and value is not None:
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            return array
        kind = {"O": "objects", "U": "strings", "S": "bytes"}.get(array.dtype.kind, str(array.dtype))
        kind = kind if array.ndim else type(value).__name__
    shown = repr(value)
    raise TypeError(
        f"[default_collate] {_where(field, index)}: got {kind} ({shown if len(shown) <= 40 else shown[:37] + '...'}),"
        " expected numbers, arrays or tensors; turn text and categories into integers, or give a collate_fn"
    )


def pad_collate(
    samples: Sequence[Any],
    *,
    padding_value: float = 0,
    target_padding: float | None = None,
    batch_first: bool = True,
    multiple_of: int = 1,
) -> Any:
    """Sequences of different lengths as one padded array with their lengths.

    A sample is a sequence of shape (T_i, ...), or a tuple that begins with one: ``(sequence, target, ...)``. Further
    fields that are sequences themselves are padded too; numbers are stacked.

    Args:
        samples: the samples, one or more.
        padding_value: stands behind the end of the first field. Default 0.
        target_padding: stands behind the end of further sequences. Default None: -100 for integers, which
            cross_entropy ignores (they become int64), and 0 for floats.
        batch_first: (N, T, ...), the default, or (T, N, ...).
        multiple_of: T is rounded up to a multiple of this.

    Returns:
        ``(padded, lengths)`` for bare sequences, ``((padded, lengths), target, ...)`` for tuples; lengths is int64,
        of shape (N,).

    Raises:
        ValueError: no samples; shapes that differ behind the first axis; samples with different numbers of fields.
        TypeError: something that is no sequence of numbers. Messages name the sample.

    >>> padded, lengths = pad_collate([np.array([1, 2, 3]), np.array([4])])
    >>> padded.tolist(), lengths.tolist()
    ([[1, 2, 3], [4, 0, 0]], [3, 1])
    """
    if multiple_of < 1:
        raise ValueError(f"[pad_collate] got multiple_of {multiple_of}, expected at least 1")
    if not samples:
        raise ValueError("[pad_collate] got no samples, expected at least one")
    if not isinstance(samples[0], tuple):
        return _pad(list(samples), "", padding_value, batch_first, multiple_of)
    width = len(samples[0])
    for i, sample in enumerate(samples):
        if not isinstance(sample, tuple) or len(sample) != width or width == 0:
            raise ValueError(
                f"[pad_collate] sample {i} of the batch: got {type(sample).__name__} of length {len(sample)},"
                f" expected a tuple of {max(width, 1)} fields"
            )
    fields: list[Any] = [_pad([s[0] for s in samples], "[0]", padding_value, batch_first, multiple_of)]
    for k in range(1, width):
        column = [s[k] for s in samples]
        leaf = column[0]
        if isinstance(leaf, (Tensor, np.ndarray, list)) and np.ndim(leaf) > 0:
            fields.append(_pad(column, f"[{k}]", target_padding, batch_first, multiple_of)[0])
        else:
            fields.append(_collate(column, f"[{k}]", range(len(column))))
    return tuple(fields)


def _pad(
    column: list[Any], field: str, value: float | None, batch_first: bool, multiple_of: int
) -> tuple[Tensor, Tensor]:
    arrays = [as_array(v, field, i) for i, v in enumerate(column)]
    for i, array in enumerate(arrays):
        if array.ndim == 0 or array.shape[1:] != arrays[0].shape[1:]:
            rest = "".join(f", {n}" for n in arrays[0].shape[1:])
            raise ValueError(
                f"[pad_collate] {_where(field, i)} of the batch: got the shape {array.shape}, expected (T{rest})"
            )
    dtype = np.result_type(*{a.dtype for a in arrays})
    if dtype == np.float64 and not any(isinstance(v, (np.ndarray, Tensor)) for v in column):
        dtype = np.dtype(np.float32)
    if value is None:
        value = 0 if dtype.kind == "f" else -100
        dtype = dtype if dtype.kind == "f" else np.dtype(np.int64)
    lengths = np.array([len(a) for a in arrays], np.int64)
    longest = -(-int(lengths.max()) // multiple_of) * multiple_of
    out: Tensor = _C.full((len(arrays), longest, *arrays[0].shape[1:]), value, dtype)
    view = out.numpy()
    for row, array in zip(view, arrays):
        row[: len(array)] = array
    return (out if batch_first else out.swap_axes(0, 1)), to_tensor(lengths, None, None)
