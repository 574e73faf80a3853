"""Samplers: which samples an epoch visits, and in which order. The order depends on (seed, epoch) and nothing else.

A sampler of ours has ``order(seed, epoch)``, all indices of an epoch at once; a loader gives it its own seed. Any
iterable of integers serves as well; one whose order shall differ from epoch to epoch has ``set_epoch(epoch)``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sized
from typing import Any

import numpy as np
import numpy.typing as npt

from pydl import _C
from pydl._tensor import Tensor

__all__ = [
    "BatchSampler",
    "BucketByLength",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StratifiedSampler",
    "SubsetRandomSampler",
    "SubsetSampler",
    "WeightedRandomSampler",
    "WeightedSampler",
]

Indices = npt.NDArray[np.int64]


def stream(seed: int, epoch: int, purpose: str) -> _C.Generator:
    """A generator of its own for (seed, epoch, purpose): no number of it is one of the default generator's."""
    key = hashlib.blake2b(f"{purpose} {int(seed)} {int(epoch)}".encode(), digest_size=8).digest()
    return _C.Generator(int.from_bytes(key, "little") >> 1)


def permutation(n: int, seed: int, epoch: int, purpose: str = "shuffle") -> Indices:
    """0 ... n - 1 in the random order of this (seed, epoch)."""
    order: Indices = _C.randperm(n, stream(seed, epoch, purpose)).cpu().numpy()
    return order


def _uniform(n: int, seed: int, epoch: int, purpose: str) -> npt.NDArray[np.float64]:
    numbers: npt.NDArray[np.float64] = (
        _C.uniform((n,), 0.0, 1.0, _C.float64, stream(seed, epoch, purpose)).cpu().numpy()
    )
    return numbers


def _count(name: str, source: Any) -> int:
    if isinstance(source, (int, np.integer)) and not isinstance(source, bool):
        n = int(source)
    elif isinstance(source, Sized):
        n = len(source)
    else:
        raise TypeError(f"[{name}] got {type(source).__name__}, expected a dataset or its number of samples")
    if n < 1:
        raise ValueError(f"[{name}] got {n} samples, expected at least 1")
    return n


def _vector(name: str, what: str, values: Any, kinds: str) -> npt.NDArray[Any]:
    array = np.asarray(values.cpu().numpy() if isinstance(values, Tensor) else values)
    if array.ndim != 1 or array.dtype.kind not in kinds or array.size == 0:
        raise ValueError(
            f"[{name}] got {what} of {array.dtype} and shape {array.shape}, expected one {what[:-1]} for each sample,"
            " shape (N,) with N >= 1"
        )
    return array


class Sampler:
    """The indices of an epoch. Subclasses define ``__len__`` and ``order(seed, epoch)``, or ``__iter__`` as in PyTorch.

    Iterated over, a sampler gives the order of its own ``seed`` and of ``epoch``, which ``set_epoch`` sets.

    Args:
        data_source: not used; PyTorch's samplers pass it on.
        seed: None, the default, takes the loader's seed (0 when iterated over).
    """

    epoch = 0

    def __init__(self, data_source: Any = None, *, seed: int | None = None) -> None:
        self.seed = seed

    def __class_getitem__(cls, item: Any) -> Any:
        return cls

    def order(self, seed: int, epoch: int) -> Indices:
        """All indices of one epoch, int64, in order."""
        raise NotImplementedError(f"[{type(self).__name__}] a sampler defines order(seed, epoch)")

    def __len__(self) -> int:
        raise NotImplementedError(f"[{type(self).__name__}] a sampler defines __len__")

    def __iter__(self) -> Iterator[int]:
        return iter(self.order(self.seed or 0, self.epoch).tolist())

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order the next iteration gives."""
        self.epoch = int(epoch)


class SequentialSampler(Sampler):
    """0, 1, ... as they stand.

    >>> list(SequentialSampler([10, 20, 30]))
    [0, 1, 2]
    """

    def __init__(self, data_source: Any) -> None:
        super().__init__()
        self.n = _count("SequentialSampler", data_source)

    def order(self, seed: int, epoch: int) -> Indices:
        return np.arange(self.n, dtype=np.int64)

    def __len__(self) -> int:
        return self.n


class RandomSampler(Sampler):
    """All samples in random order, or ``num_samples`` of them, with or without replacement.

    Args:
        data_source: the dataset, or its number of samples.
        replacement: draw each time from all. Default False.
        num_samples: how many an epoch has; default all. Without replacement, more than there are begin again with
            another permutation.
        seed: see Sampler.

    >>> sorted(RandomSampler(range(4)))
    [0, 1, 2, 3]
    """

    def __init__(
        self, data_source: Any, replacement: bool = False, num_samples: int | None = None, seed: int | None = None
    ) -> None:
        super().__init__(seed=seed)
        self.n = _count("RandomSampler", data_source)
        self.replacement = replacement
        self.num_samples = self.n if num_samples is None else _count("RandomSampler", num_samples)

    def order(self, seed: int, epoch: int) -> Indices:
        if self.replacement:
            drawn: Indices = (
                _C.randint(0, self.n, (self.num_samples,), _C.int64, stream(seed, epoch, "shuffle")).cpu().numpy()
            )
            return drawn
        rounds = -(-self.num_samples // self.n)
        parts = [permutation(self.n, seed, epoch, "shuffle" + f" round {k}" * (k > 0)) for k in range(rounds)]
        return np.concatenate(parts)[: self.num_samples] if rounds > 1 else parts[0][: self.num_samples]

    def __len__(self) -> int:
        return self.num_samples


class WeightedSampler(Sampler):
    """Samples drawn with probabilities in proportion to their weights. Also called WeightedRandomSampler.

    Without replacement: the largest values of log(u)/w (Efraimidis and Spirakis, 2006).

    Args:
        weights: (N,), not negative, finite, their sum positive.
        num_samples: how many an epoch has; default N.
        replacement: default True. False needs as many positive weights as samples are drawn.
        seed: see Sampler.

    >>> set(WeightedSampler([0.0, 1.0, 0.0, 2.0], 50))
    {1, 3}
    """

    def __init__(
        self, weights: Any, num_samples: int | None = None, replacement: bool = True, seed: int | None = None
    ) -> None:
        super().__init__(seed=seed)
        self.weights = _vector("WeightedSampler", "weights", weights, "iufb").astype(np.float64)
        wrong = ~(np.isfinite(self.weights) & (self.weights >= 0))
        if wrong.any():
            i = int(wrong.argmax())
            raise ValueError(
                f"[WeightedSampler] weight {i} is {self.weights[i]}, expected a finite number of 0 or more"
            )
        self.num_samples = len(self.weights) if num_samples is None else _count("WeightedSampler", num_samples)
        self.replacement = replacement
        positive = int((self.weights > 0).sum())
        needed = 1 if replacement else self.num_samples
        if positive < needed:
            raise ValueError(
                f"[WeightedSampler] got {positive} weights above 0, expected at least {needed}"
                + ("" if replacement else " to draw from without replacement; pass replacement=True")
            )

    def order(self, seed: int, epoch: int) -> Indices:
        if not self.replacement:
            u = 1.0 - _uniform(len(self.weights), seed, epoch, "weighted")  # in (0, 1]
            with np.errstate(divide="ignore", invalid="ignore"):
                keys = np.where(self.weights > 0, np.log(u) / self.weights, -np.inf)
            return np.argsort(-keys, kind="stable")[: self.num_samples].astype(np.int64)
        ends = np.cumsum(self.weights)
        u = _uniform(self.num_samples, seed, epoch, "weighted") * ends[-1]
        last = int(np.flatnonzero(self.weights)[-1])  # rounding may have reached the sum
        return np.minimum(np.searchsorted(ends, u, side="right"), last).astype(np.int64)

    def __len__(self) -> int:
        return self.num_samples


WeightedRandomSampler = WeightedSampler


class StratifiedSampler(Sampler):
    """All samples in random order, classes spread evenly: each batch has them in the proportion of the whole.

    Args:
        labels: (N,) integers, booleans or strings, the classes.
        seed: see Sampler.

    >>> sampler = StratifiedSampler([0] * 6 + [1] * 3)
    >>> [sorted(i // 6 for i in list(sampler)[k : k + 3]) for k in (0, 3, 6)]
    [[0, 0, 1], [0, 0, 1], [0, 0, 1]]
    """

    def __init__(self, labels: Any, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        self.labels = np.unique(_vector("StratifiedSampler", "labels", labels, "iubUS"), return_inverse=True)[1]

    def order(self, seed: int, epoch: int) -> Indices:
        shuffled = permutation(len(self.labels), seed, epoch)
        of = self.labels[shuffled]
        counts = np.bincount(of)
        # The j-th sample of a class of n stands at (j + 1/2) / n of the epoch; ties go by the shuffle.
        by_class = np.argsort(of, kind="stable")
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        rank = np.empty(len(of))
        rank[by_class] = np.arange(len(of)) - starts[of[by_class]]
        return shuffled[np.argsort((rank + 0.5) / counts[of], kind="stable")]

    def __len__(self) -> int:
        return len(self.labels)


class SubsetSampler(Sampler):
    """The given indices, in random order or as they stand. Also called SubsetRandomSampler.

    >>> sorted(SubsetSampler([5, 3, 8])), list(SubsetSampler([5, 3, 8], shuffle=False))
    ([3, 5, 8], [5, 3, 8])
    """

    def __init__(self, indices: Any, shuffle: bool = True, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        self.indices = _vector("SubsetSampler", "indices", indices, "iu").astype(np.int64)
        self.shuffle = shuffle

    def order(self, seed: int, epoch: int) -> Indices:
        return self.indices[permutation(len(self.indices), seed, epoch)] if self.shuffle else self.indices

    def __len__(self) -> int:
        return len(self.indices)


SubsetRandomSampler = SubsetSampler


class BatchSampler:
    """Batches of indices from a sampler, for ``DataLoader(batch_sampler=...)``.

    Args:
        sampler: of ours, or any iterable of integers.
        batch_size: samples in a batch.
        drop_last: leave out a last batch that is not full.

    >>> [batch.tolist() for batch in BatchSampler(SequentialSampler(range(5)), 2, False)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool = False) -> None:
        if not isinstance(batch_size, (int, np.integer)) or isinstance(batch_size, bool) or batch_size < 1:
            raise ValueError(f"[BatchSampler] got batch_size {batch_size!r}, expected an integer of at least 1")
        self.sampler = sampler
        self.batch_size = int(batch_size)
        self.drop_last = drop_last

    def batches(self, seed: int, epoch: int) -> list[Indices]:
        """The batches of one epoch."""
        order = epoch_order(self.sampler, seed, epoch)
        stop = len(order) // self.batch_size * self.batch_size if self.drop_last else len(order)
        return [order[i : i + self.batch_size] for i in range(0, stop, self.batch_size)]

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose batches the next iteration gives."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Indices]:
        seed, epoch = getattr(self.sampler, "seed", None) or 0, getattr(self.sampler, "epoch", 0)
        return iter(self.batches(seed, epoch))

    def __len__(self) -> int:
        n = len(self.sampler)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


class BucketByLength:
    """Batches of sequences of about the same length, so that little is padded; for ``DataLoader(batch_sampler=...)``.

    The shuffled samples are cut into windows, each window is sorted by length and cut into batches, and the batches are
    shuffled. Use it with ``collate_fn=pad_collate``, which returns the padded sequences and their lengths.

    Args:
        lengths: (N,) integers, the length of each sample.
        batch_size: samples in a batch. Default 32.
        shuffle: False sorts everything by length, and the order is the same in all epochs.
        drop_last: leave out the last batch of the last window where it is not full.
        window: batches in a window; more means less padding and less chance. Default 50.
        seed: None, the default, takes the loader's.

    >>> sampler = BucketByLength([9, 1, 8, 2], batch_size=2)
    >>> sorted(sorted(batch.tolist()) for batch in sampler)
    [[0, 2], [1, 3]]
    """

    epoch = 0

    def __init__(
        self,
        lengths: Any,
        batch_size: int = 32,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
        window: int = 50,
        seed: int | None = None,
    ) -> None:
        self.lengths = _vector("BucketByLength", "lengths", lengths, "iu")
        if batch_size < 1 or window < 1:
            raise ValueError(f"[BucketByLength] got batch_size {batch_size}, window {window}, expected 1 or more")
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.window = int(window)
        self.seed = seed

    def batches(self, seed: int, epoch: int) -> list[Indices]:
        """The batches of one epoch."""
        n, size = len(self.lengths), self.batch_size
        order = permutation(n, seed, epoch) if self.shuffle else np.arange(n, dtype=np.int64)
        span = size * self.window if self.shuffle else n
        found: list[Indices] = []
        for start in range(0, n, span):
            part = order[start : start + span]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            found += [part[i : i + size] for i in range(0, len(part), size)]
        if self.drop_last and len(found[-1]) < size:
            found.pop()
        if self.shuffle:
            found = [found[i] for i in permutation(len(found), seed, epoch, "buckets")]
        return found

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose batches the next iteration gives."""
        self.epoch = int(epoch)

    def __iter__(self) -> Iterator[Indices]:
        return iter(self.batches(self.seed or 0, self.epoch))

    def __len__(self) -> int:
        n = len(self.lengths)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


def _has_own(sampler: Any, method: str) -> bool:
    """Whether the method says what the sampler gives; a subclass that has only a new __iter__ means that."""
    for cls in type(sampler).__mro__:
        if method in vars(cls):
            return True
        if "__iter__" in vars(cls):
            return False
    return False


def epoch_order(sampler: Any, seed: int, epoch: int) -> Indices:
    """The indices that a sampler, ours or any iterable, gives for an epoch."""
    if _has_own(sampler, "order"):
        own = getattr(sampler, "seed", None)
        return np.ascontiguousarray(sampler.order(seed if own is None else own, epoch), dtype=np.int64)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    return _integers("sampler", sampler)


def epoch_batches(sampler: Any, seed: int, epoch: int) -> list[Indices]:
    """The batches of indices that a batch sampler gives for an epoch."""
    if _has_own(sampler, "batches"):
        own = getattr(sampler, "seed", None)
        return list(sampler.batches(seed if own is None else own, epoch))
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    return [_integers("batch_sampler", batch) for batch in sampler]


def list_or_value(values: Any) -> Any:
    """Iterables as a list, anything else as it is."""
    return list(values) if isinstance(values, Iterable) else values


def _integers(name: str, values: Iterable[Any]) -> Indices:
    array = values if isinstance(values, np.ndarray) else np.asarray(list_or_value(values))
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(
            f"[DataLoader] the {name} gave {array.dtype} of shape {array.shape}, expected "
            + ("integers" if name == "sampler" else "lists of integers, one list a batch")
        )
    return array.astype(np.int64)
