"""Datasets: something with a length whose samples are read by index. What is slow to read belongs into a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from pydl import _C
from pydl._interop import to_tensor
from pydl._tensor import Tensor
from pydl.data.collate import collate_named, map_leaves, named_leaves

__all__ = [
    "ArrayDataset",
    "CachedDataset",
    "ConcatDataset",
    "Dataset",
    "FunctionDataset",
    "MapDataset",
    "Subset",
    "TensorDataset",
    "random_split",
]

Indices = npt.NDArray[np.int64]


class Dataset:
    """What has ``len(dataset)`` samples, read as ``dataset[i]``: subclass it, or use any object with these two.

    A sample is usually a tuple ``(x, y)`` of arrays and numbers. A subclass may define ``batch(indices)`` for an int64
    array of indices, which returns the batch of all of them at once; loaders then use it instead of one call a sample.

    >>> class Squares(Dataset):
    ...     def __len__(self):
    ...         return 4
    ...     def __getitem__(self, index):
    ...         return float(index), index * index
    >>> Squares()[3]
    (3.0, 9)
    >>> len(Squares() + Squares())
    8
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"[{type(self).__name__}] a dataset defines __len__")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"[{type(self).__name__}] a dataset defines __getitem__")

    def __class_getitem__(cls, item: Any) -> Any:
        return cls  # Dataset[Sample], as PyTorch's is written in annotations

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])

    def map(self, f: Callable[..., Any]) -> MapDataset:
        """This dataset with ``f`` of each sample in its place; see MapDataset."""
        return MapDataset(self, f)

    def cache(self) -> CachedDataset:
        """This dataset with samples that are kept once they were read; see CachedDataset."""
        return CachedDataset(self)


def fetch(dataset: Any, indices: Indices) -> Any:
    """The batch of these samples."""
    batch = getattr(dataset, "batch", None)
    if batch is not None:
        return batch(indices)
    return collate_named(fetch_samples(dataset, indices), cast("Sequence[int]", indices))


def fetch_samples(dataset: Any, indices: Indices) -> list[Any]:
    """The samples one by one; what a sample raises carries its index as ``sample_index``."""
    many = getattr(dataset, "__getitems__", None)
    if many is not None:
        return list(many(indices.tolist()))
    samples = []
    for index in indices.tolist():
        try:
            samples.append(dataset[index])
        except Exception as error:
            if not hasattr(error, "sample_index"):
                error.sample_index = index  # type: ignore[attr-defined]
                if hasattr(error, "add_note"):  # from Python 3.11 on
                    error.add_note(f"[DataLoader] raised by sample {index}")
            raise
    return samples


def check_index(name: str, index: Any, length: int) -> int:
    """The index counted from the front, as sequences have it."""
    i = int(index)
    if not -length <= i < length:
        raise IndexError(f"[{name}] got index {i}, expected {-length} <= index < {length}")
    return i + length if i < 0 else i


def checked_length(name: str, dataset: Any) -> int:
    """len(dataset), or an error that says what a dataset is."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__") or isinstance(dataset, (str, Mapping)):
        raise TypeError(
            f"[{name}] got {type(dataset).__name__}, expected a dataset: an object with __len__ and __getitem__;"
            " arrays go through pydl.data.ArrayDataset(x, y)"
        )
    return len(dataset)


def leaf_tensor(name: str, data: Any) -> Tensor:
    """A leaf of an array dataset: the memory is shared where it can be."""
    if isinstance(data, Tensor):
        tensor = data.detach()
    else:
        kind = type(data).__name__
        array = data if isinstance(data, np.ndarray) else None
        if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data):
            raise ValueError(
                f"[ArrayDataset] {name}: got an array of which {np.ma.count_masked(data)} values are masked, expected"
                " values; fill them with filled(value), or leave out their rows"
            )
        if array is None and (hasattr(data, "__array__") or not isinstance(data, (str, bytes))):
            try:
                array = np.asarray(data)
            except ValueError:
                raise ValueError(
                    f"[ArrayDataset] {name}: got rows of different lengths, expected an array; see pad_collate"
                ) from None
        if array is None or array.dtype.kind not in "biuf":
            if array is not None:
                kind = {"O": "objects", "U": "strings", "S": "bytes"}.get(array.dtype.kind, str(array.dtype))
            shown = "" if array is None or not array.size else f" (the first is {array.reshape(-1)[0]!r})"
            raise TypeError(
                f"[ArrayDataset] {name}: got {kind}{shown}, expected numbers or booleans; turn labels into integers,"
                " for example with numpy.unique(labels, return_inverse=True)"
            )
        tensor = to_tensor(array, None, None)
    if tensor.ndim == 0:
        raise ValueError(
            f"[ArrayDataset] {name}: got a single number, expected an array with one row a sample; numbers in a tuple"
            " are taken for several arrays, in a list for one"
        )
    return tensor


class ArrayDataset(Dataset):
    """Arrays in memory, one row a sample: ``ArrayDataset(x, y)[i]`` is ``(x[i], y[i])``. Also called TensorDataset.

    Args:
        *arrays: arrays, tensors or nested lists of numbers with the same number of rows, or tuples, lists and dicts
            of arrays (a model with several inputs). NumPy arrays and tensors are shared, not copied; dtypes are kept.

    Raises:
        ValueError: no arrays; numbers of rows that differ; a single number.
        TypeError: strings, objects, ragged lists. Messages name the array.

    >>> data = ArrayDataset(np.arange(6.0).reshape(3, 2), [0, 1, 0])
    >>> len(data), data[1][0].tolist(), data[1][1].item()
    (3, [2.0, 3.0], 1)
    >>> x, y = data.batch(np.array([2, 0]))
    >>> x.tolist(), y.tolist()
    ([[4.0, 5.0], [0.0, 1.0]], [0, 0])
    """

    def __init__(self, *arrays: Any) -> None:
        if not arrays:
            raise ValueError("[ArrayDataset] got no arrays, expected at least one")
        names = ("x", "y", "weight") if len(arrays) <= 3 else tuple(f"array {i}" for i in range(len(arrays)))
        fields = []
        for name, array in zip(names, arrays):
            container = isinstance(array, (tuple, Mapping)) or _list_of_arrays(array)
            leaves = named_leaves(array, name) if container else [(name, array)]
            tensors = iter([leaf_tensor(leaf_name, leaf) for leaf_name, leaf in leaves])
            fields.append(map_leaves(lambda _: next(tensors), array) if container else next(tensors))  # noqa: B023
        self.arrays: tuple[Any, ...] = tuple(fields)
        flat = all(isinstance(f, Tensor) and f.is_contiguous() for f in fields)
        self.plain: tuple[Tensor, ...] | None = self.arrays if flat else None  # what take_batches can gather
        named = [leaf for name, field in zip(names, fields) for leaf in named_leaves(field, name)]
        self._length = named[0][1].shape[0] if named else 0
        for leaf_name, tensor in named:
            if tensor.shape[0] != self._length:
                raise ValueError(
                    f"[ArrayDataset] {leaf_name} has {tensor.shape[0]} rows (shape {tensor.shape}), {named[0][0]} has"
                    f" {self._length} (shape {named[0][1].shape}); expected as many, one row a sample"
                    + "; a list of arrays is several inputs, numpy.stack makes one array of rows"
                    * ("[" in named[0][0])
                )

    @property
    def tensors(self) -> tuple[Any, ...]:
        """The arrays, under PyTorch's name."""
        return self.arrays

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        if isinstance(index, (slice, list)) or (isinstance(index, (np.ndarray, Tensor)) and index.ndim > 0):
            return tuple(map_leaves(lambda t: t[index], field) for field in self.arrays)
        i = check_index("ArrayDataset", index, self._length)
        return tuple(map_leaves(lambda t: _C.select(t, 0, i), field) for field in self.arrays)

    def batch(self, indices: Any) -> tuple[Any, ...]:
        """The rows of these indices, gathered into new tensors; ``indices`` is an int64 array or tensor, (N,)."""
        at = indices if isinstance(indices, Tensor) else to_tensor(np.ascontiguousarray(indices), _C.int64, None)
        if self.plain is not None:
            return tuple([_C.take(t, at, 0) for t in self.plain])
        return tuple([map_leaves(lambda t: _C.take(t, at, 0), field) for field in self.arrays])


TensorDataset = ArrayDataset


def _list_of_arrays(value: Any) -> bool:
    """Whether a list stands for several inputs, as in Keras, and not for rows of numbers."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, (np.ndarray, Tensor)) for v in value)


class FunctionDataset(Dataset):
    """The samples are ``f(0)`` ... ``f(length - 1)``.

    Args:
        f: a function of an index; with spawned workers it must be importable (no lambda).
        length: how many samples, not negative.

    >>> FunctionDataset(lambda i: (float(i), i % 2), 10)[3]
    (3.0, 1)
    """

    def __init__(self, f: Callable[[int], Any], length: int) -> None:
        if not callable(f):
            raise TypeError(f"[FunctionDataset] got {type(f).__name__}, expected a function of an index")
        if isinstance(length, bool) or not isinstance(length, (int, np.integer)) or length < 0:
            raise ValueError(f"[FunctionDataset] got the length {length!r}, expected an integer of 0 or more")
        self.f = f
        self.length = int(length)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.f(check_index("FunctionDataset", index, self.length))


class Subset(Dataset):
    """Some samples of a dataset, in the order given.

    Args:
        dataset: where they come from.
        indices: integers, or a boolean mask with one entry a sample.

    Raises:
        IndexError: an index that the dataset lacks.
        TypeError: indices that are no integers.

    >>> Subset(ArrayDataset(np.arange(5)), [4, 2])[0][0].item()
    4
    """

    def __init__(self, dataset: Any, indices: Any) -> None:
        n = checked_length("Subset", dataset)
        at = np.asarray(indices.cpu().numpy() if isinstance(indices, Tensor) else list_of(indices))
        if at.dtype == bool:
            if at.shape != (n,):
                raise ValueError(f"[Subset] got a mask of shape {at.shape}, expected ({n},): one entry a sample")
            at = np.flatnonzero(at)
        if at.size == 0:
            at = at.astype(np.int64)
        if at.ndim != 1 or at.dtype.kind not in "iu":
            raise TypeError(f"[Subset] got indices of {at.dtype} and shape {at.shape}, expected integers of shape (N,)")
        wrong = (at < -n) | (at >= n)
        if wrong.any():
            raise IndexError(f"[Subset] got index {at[wrong][0]}, expected {-n} <= index < {n}, the dataset's samples")
        self.dataset = dataset
        self.indices: Indices = np.where(at < 0, at + n, at).astype(np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[check_index("Subset", index, len(self.indices))])]

    def batch(self, indices: Any) -> Any:
        """The batch of these samples of the subset."""
        return fetch(self.dataset, self.indices[np.asarray(indices)])


def list_of(values: Any) -> Any:
    """Ranges, iterators and lists as a list; arrays as they are."""
    if isinstance(values, np.ndarray) or not isinstance(values, Iterable):
        return values
    return list(values)


class ConcatDataset(Dataset):
    """Datasets one after the other; also ``a + b``.

    Raises:
        ValueError: no datasets.

    >>> both = ConcatDataset([ArrayDataset([1, 2]), ArrayDataset([3])])
    >>> [sample[0].item() for sample in (both[0], both[2], both[-1])]
    [1, 3, 3]
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("[ConcatDataset] got no datasets, expected at least one")
        self.ends = np.cumsum([checked_length("ConcatDataset", d) for d in self.datasets])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def _place(self, i: int) -> tuple[int, int]:
        k = int(np.searchsorted(self.ends, i, side="right"))
        return k, i - (int(self.ends[k - 1]) if k else 0)

    def __getitem__(self, index: int) -> Any:
        k, i = self._place(check_index("ConcatDataset", index, len(self)))
        return self.datasets[k][i]

    def batch(self, indices: Any) -> Any:
        """The batch of these samples, gathered from each dataset at once where it can be."""
        at = np.asarray(indices)
        of = np.searchsorted(self.ends, at, side="right")
        used = np.unique(of)
        if len(used) == 1 or all(hasattr(self.datasets[k], "batch") for k in used):
            starts = np.concatenate([[0], self.ends])
            parts = [fetch(self.datasets[k], at[of == k] - starts[k]) for k in used]
            if len(parts) == 1:
                return parts[0]
            back = to_tensor(np.argsort(np.argsort(of, kind="stable"), kind="stable"), None, None)
            return map_leaves(lambda *leaves: _C.take(_C.concat(list(leaves), 0), back, 0), *parts)
        return collate_named([self[int(i)] for i in at], cast("Sequence[int]", at))


class MapDataset(Dataset):
    """A dataset with ``f`` of each sample in its place.

    Args:
        dataset: where the samples come from.
        f: called with the fields of a tuple as arguments, ``f(x, y)``, and with anything else as it is.

    >>> halves = MapDataset(FunctionDataset(lambda i: (float(i), i), 4), lambda x, y: (x / 2, y))
    >>> halves[3]
    (1.5, 3)
    """

    def __init__(self, dataset: Any, f: Callable[..., Any]) -> None:
        checked_length("MapDataset", dataset)
        if not callable(f):
            raise TypeError(f"[MapDataset] got {type(f).__name__}, expected a function of a sample's fields")
        self.dataset = dataset
        self.f = f

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        sample = self.dataset[index]
        return self.f(*sample) if type(sample) is tuple else self.f(sample)


class CachedDataset(Dataset):
    """A dataset whose samples are kept in memory once they were read.

    Workers keep what they read for themselves, and end with the epoch; call ``load()`` first to read everything once,
    in this process.

    >>> reads = []
    >>> data = CachedDataset(FunctionDataset(lambda i: reads.append(i) or i, 3))
    >>> data[1], data[1], reads
    (1, 1, [1])
    """

    def __init__(self, dataset: Any) -> None:
        checked_length("CachedDataset", dataset)
        self.dataset = dataset
        self._samples: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        i = check_index("CachedDataset", index, len(self.dataset))
        if i not in self._samples:
            self._samples[i] = self.dataset[i]
        return self._samples[i]

    def load(self) -> CachedDataset:
        """Reads all samples that are not there yet; returns itself."""
        for i in range(len(self)):
            self[i]
        return self


def random_split(dataset: Any, lengths: Sequence[float], *, seed: int = 0, generator: Any = None) -> list[Subset]:
    """Splits a dataset at random into parts that do not overlap.

    Args:
        dataset: what is split.
        lengths: numbers of samples that sum to ``len(dataset)``, or fractions that sum to 1 (what rounding leaves over
            goes to the first parts, one each).
        seed: of the shuffle; the same seed gives the same parts.
        generator: a pydl.Generator that is drawn from instead.

    Raises:
        ValueError: lengths that are negative or do not sum to the dataset's, or a part that would be empty.

    >>> train, test = random_split(ArrayDataset(np.arange(10)), [0.8, 0.2])
    >>> len(train), len(test), sorted([*train.indices.tolist(), *test.indices.tolist()]) == list(range(10))
    (8, 2, True)
    """
    from pydl.data.sampler import permutation

    n = checked_length("random_split", dataset)
    sizes = split_sizes("random_split", n, lengths)
    order = permutation(n, seed, 0, "split") if generator is None else _C.randperm(n, generator).cpu().numpy()
    ends = np.cumsum(sizes)
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends)]


def split_sizes(name: str, n: int, lengths: Sequence[float]) -> list[int]:
    """Numbers of samples from numbers or fractions."""
    values = [float(v) for v in lengths]
    if not values or any(not v >= 0 for v in values):
        raise ValueError(f"[{name}] got the lengths {list(lengths)}, expected numbers of samples or fractions")
    fractions = any(v != int(v) for v in values) or (abs(sum(values) - 1) < 1e-9 and n != 1)
    if not fractions:
        sizes = [int(v) for v in values]
        if sum(sizes) != n:
            raise ValueError(f"[{name}] got lengths {sizes} that sum to {sum(sizes)}, expected {n}, the dataset's")
        return sizes
    if abs(sum(values) - 1) > 1e-6:
        raise ValueError(f"[{name}] got fractions {values} that sum to {sum(values):g}, expected 1")
    sizes = [int(v * n + 1e-9) for v in values]
    for i in range(n - sum(sizes)):
        sizes[i % len(sizes)] += 1
    for v, size in zip(values, sizes):
        if v > 0 and size == 0:
            raise ValueError(f"[{name}] the fraction {v:g} of {n} samples leaves a part empty; use more samples")
    return sizes
