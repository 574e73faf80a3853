"""DataLoader: the batches of an epoch, in an order that depends on (seed, epoch) alone, with a position to be saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pydl import _C
from pydl._interop import to_tensor
from pydl._tensor import Tensor
from pydl.data.dataset import ArrayDataset, Subset, checked_length, fetch, fetch_samples
from pydl.data.sampler import epoch_batches, epoch_order, permutation

__all__ = ["DataLoader"]

Indices = npt.NDArray[np.int64]
_TOGETHER = 16  # batches gathered by one call,
_TOGETHER_BYTES = 512 << 10  # as far as they stay in the cache


def make_batch(
    dataset: Any,
    indices: Indices,
    collate_fn: Callable[[list[Any]], Any] | None,
    transform: Any,
    seed: int,
    epoch: int,
    again: Indices | None,
) -> Any:
    """One batch: read, collated, transformed. Workers and the loader itself do just this."""
    batch = fetch(dataset, indices) if collate_fn is None else collate_fn(fetch_samples(dataset, indices))
    if isinstance(batch, list):
        batch = tuple(batch)
    if transform is None:
        return batch
    from pydl.data.keys import SampleKeys

    keys = SampleKeys(seed, epoch, indices, again)
    bare = not isinstance(batch, tuple)
    batch = transform.apply((batch,) if bare else batch, keys)
    return batch[0] if bare and isinstance(batch, tuple) and len(batch) == 1 else batch


class _Plan:
    """Which samples each batch of one epoch has."""

    def __init__(self, order: Indices | None, stops: list[int], batches: list[Indices]) -> None:
        self.order = order
        self.stops = stops  # with an order: batch b ends at stops[b + 1]
        self._batches = batches
        self._again: list[Indices] | None = None

    def __len__(self) -> int:
        return len(self._batches) if self.order is None else len(self.stops) - 1

    def __getitem__(self, b: int) -> Indices:
        if self.order is None:
            return self._batches[b]
        return self.order[self.stops[b] : self.stops[b + 1]]

    def count_again(self) -> None:
        """Note which samples come several times, so that a transform can treat each time in its own way."""
        parts = [self[b] for b in range(len(self))]
        again = _occurrences(np.concatenate(parts)) if parts else None
        if again is not None and again.any():
            self._again = np.split(again, np.cumsum([len(part) for part in parts])[:-1])

    def again(self, b: int) -> Indices | None:
        """How often each sample of a batch came before in the epoch; None where none comes twice."""
        return None if self._again is None else self._again[b]


def _occurrences(indices: Indices) -> Indices:
    """How often each of the indices stands before itself."""
    order = np.argsort(indices, kind="stable")
    ordered = indices[order]
    fresh = np.ones(len(ordered), bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    places = np.arange(len(ordered))
    counts = np.empty(len(ordered), np.int64)
    counts[order] = places - np.maximum.accumulate(np.where(fresh, places, 0))
    return counts


def _stops(n: int, size: int, drop_last: bool, merge_last: bool) -> list[int]:
    stops = list(range(0, n + 1, size))
    if stops[-1] != n and not drop_last:
        stops.append(n)
    if merge_last and size > 1 and len(stops) > 2 and stops[-1] - stops[-2] == 1:
        del stops[-2]
    return stops


def _gathered(sources: tuple[Tensor, ...], order: Indices, stops: list[int], first: int) -> Iterator[list[Any]]:
    """The batches of arrays in memory, some at a time; the allocator reuses the buffers of those that are done with."""
    at: Tensor = to_tensor(order, None, None)
    row_bytes = sum(source.nbytes // max(source.shape[0], 1) for source in sources)
    several = max(1, min(_TOGETHER, _TOGETHER_BYTES // max(1, row_bytes * (stops[1] - stops[0]))))
    for b in range(first, len(stops) - 1, several):
        yield _C.take_batches(sources, at, stops[b : b + several + 1])


class DataLoader:
    """The batches of a dataset. Each ``iter(loader)`` is the next epoch.

    A batch has the structure of a sample, a tuple ``(x, y)`` for most datasets, with tensors of shape (N, ...) as
    leaves. The order of an epoch depends on ``(seed, epoch)`` alone: not on the default generator, the number of
    workers, or what was read before.

    Args:
        dataset: an object with ``len`` and ``[i]``, see pydl.data.Dataset; arrays go through ArrayDataset.
        batch_size: samples in a batch. Default 32.
        shuffle: a new order each epoch. Default False.
        sampler: indices in an order of its own, in place of shuffle.
        batch_sampler: lists of indices, one a batch, in place of batch_size, shuffle, sampler, drop_last, merge_last.
        drop_last: leave out a last batch that is not full.
        merge_last: a last batch of one sample goes into the one before it (batch normalization needs two).
        num_workers: processes that read ahead; 0, the default, reads in this one.
        prefetch: batches that each worker reads ahead. Default 2.
        collate_fn: makes a batch of a list of samples. Default: the dataset's own ``batch(indices)`` where it has one,
            otherwise pydl.data.default_collate.
        transform: an object with ``apply(batch, keys)``, see pydl.data.transforms; runs in the workers.
        seed: of the order and of the transform's random numbers. Default 0.
        context: how workers start, "fork", "spawn" or "forkserver" (or a multiprocessing context). Default: Python's.
        persistent_workers: keep the workers from one epoch to the next; they do not see changes of the dataset.
        timeout: seconds to wait for a worker's batch. Default 0: for ever, as long as the worker lives.
        worker_init_fn: called with the worker's number at its start.
        torch_options: PyTorch's names are understood: prefetch_factor, multiprocessing_context, generator (its seed is
            taken), pin_memory and pin_memory_device (there is nothing to pin).

    Raises:
        ValueError: an empty dataset or epoch, a batch size below 1, options that exclude each other.
        TypeError: no dataset, or a batch size or number of workers that is no integer.

    >>> from pydl.data import ArrayDataset
    >>> loader = DataLoader(ArrayDataset(np.arange(5), np.arange(5) % 2), batch_size=2)
    >>> [(x.tolist(), y.tolist()) for x, y in loader]
    [([0, 1], [0, 1]), ([2, 3], [0, 1]), ([4], [0])]
    >>> loader.epoch
    1
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 32,
        shuffle: bool = False,
        *,
        sampler: Any = None,
        batch_sampler: Any = None,
        drop_last: bool = False,
        merge_last: bool = False,
        num_workers: int = 0,
        prefetch: int = 2,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        transform: Any = None,
        seed: int = 0,
        context: Any = None,
        persistent_workers: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        **torch_options: Any,
    ) -> None:
        if torch_options:
            theirs = _from_torch(torch_options)
            prefetch, context = theirs.get("prefetch", prefetch), theirs.get("context", context)
            seed = theirs.get("seed", seed)
        _refuse_arrays(dataset, batch_size)
        n = checked_length("DataLoader", dataset)
        if n == 0:
            raise ValueError(f"[DataLoader] the dataset ({type(dataset).__name__}) is empty, expected samples")
        self.dataset = dataset
        self.batch_size = _integer("batch_size", batch_size, 1)
        self.num_workers = _integer("num_workers", num_workers, 0)
        self.prefetch = _integer("prefetch", prefetch, 1)
        self.seed = _integer("seed", seed, None)
        if drop_last and merge_last:
            raise ValueError("[DataLoader] got drop_last and merge_last, expected at most one of them")
        if sampler is not None and shuffle:
            raise ValueError(
                "[DataLoader] got shuffle and a sampler, expected one of them; a sampler has its own order"
            )
        if batch_sampler is not None and (sampler is not None or shuffle or drop_last or merge_last):
            raise ValueError(
                "[DataLoader] got a batch_sampler beside sampler, shuffle, drop_last or merge_last, expected it alone"
            )
        if isinstance(transform, type):
            raise TypeError(f"[DataLoader] got the class {transform.__name__} as transform; make one of it first")
        if transform is not None and not hasattr(transform, "apply"):
            raise TypeError(
                f"[DataLoader] got the transform {type(transform).__name__}, expected an object with apply(batch, keys)"
                " (pydl.data.transforms); a function of a sample goes through MapDataset, one of a batch through"
                " collate_fn"
            )
        for name, f in (("collate_fn", collate_fn), ("worker_init_fn", worker_init_fn)):
            if f is not None and not callable(f):
                raise TypeError(f"[DataLoader] got {name} {type(f).__name__}, expected a function")
        self.shuffle = bool(shuffle)
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.drop_last = bool(drop_last)
        self.merge_last = bool(merge_last)
        self.collate_fn = collate_fn
        self.transform = transform
        self.context = context
        self.persistent_workers = bool(persistent_workers)
        self.timeout = float(timeout)
        self.worker_init_fn = worker_init_fn
        self._epoch = 0
        self._batch = 0  # batches of the running epoch that were handed out
        self._entered = False  # whether the epoch was begun, so that the next iter() is the one after
        self._pool: Any = None
        if drop_last and self._samples() < self.batch_size:
            raise ValueError(
                f"[DataLoader] {self._samples()} samples make no full batch of {self.batch_size}, and drop_last leaves"
                " out the rest; use a smaller batch or drop_last=False"
            )

    def __class_getitem__(cls, item: Any) -> Any:
        return cls  # DataLoader[Batch] in annotations

    # ---- what an epoch is

    @property
    def epoch(self) -> int:
        """The running epoch from 0; once it has ended, the next one."""
        return self._epoch

    def _samples(self) -> int:
        return len(self.dataset) if self.sampler is None else len(self.sampler)

    def __len__(self) -> int:
        """Batches in an epoch."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)
        return len(_stops(self._samples(), self.batch_size, self.drop_last, self.merge_last)) - 1

    def _plan(self, epoch: int) -> _Plan:
        n = len(self.dataset)
        if self.batch_sampler is not None:
            batches = epoch_batches(self.batch_sampler, self.seed, epoch)
            for batch in batches:
                _check_range(batch, n)
            return _Plan(None, [], batches)
        if self.sampler is not None:
            order = epoch_order(self.sampler, self.seed, epoch)
            _check_range(order, n)
        else:
            order = permutation(n, self.seed, epoch) if self.shuffle else np.arange(n, dtype=np.int64)
        return _Plan(order, _stops(len(order), self.batch_size, self.drop_last, self.merge_last), [])

    # ---- iteration

    def __iter__(self) -> Iterator[Any]:
        if self._entered:
            self._epoch, self._batch = self._epoch + 1, 0
        self._entered = True
        return self._run(self._epoch, self._batch)

    def _run(self, epoch: int, first: int) -> Iterator[Any]:
        plan = self._plan(epoch)
        if self.transform is not None and (self.sampler is not None or self.batch_sampler is not None):
            plan.count_again()
        count = len(plan)
        if count == 0:
            raise ValueError("[DataLoader] the sampler gave no batch for this epoch, expected at least one")
        b = first
        for several in self._batches(plan, epoch, first):
            for batch in several:
                b += 1
                if self._epoch == epoch:
                    self._batch = b
                yield batch
        if self._epoch == epoch and self._entered:
            self._epoch, self._batch, self._entered = epoch + 1, 0, False

    def _batches(self, plan: _Plan, epoch: int, first: int) -> Iterator[Iterable[Any]]:
        """The batches, some at a time: each generator between them and the training loop would cost."""
        if self.num_workers > 0 and first < len(plan):
            from pydl.data.workers import WorkerPool

            return iter([WorkerPool.epoch(self, plan, epoch, first)])
        if plan.order is not None and self.collate_fn is None and self.transform is None:
            dataset, order = self.dataset, plan.order
            while type(dataset) is Subset:
                dataset, order = dataset.dataset, dataset.indices[order]
            if type(dataset) is ArrayDataset and dataset.plain is not None:
                return _gathered(dataset.plain, order, plan.stops, first)
        return (
            (make_batch(self.dataset, plan[b], self.collate_fn, self.transform, self.seed, epoch, plan.again(b)),)
            for b in range(first, len(plan))
        )

    # ---- the position

    def state_dict(self) -> dict[str, int]:
        """The position behind the last batch that was handed out, and what it counts in; for JSON."""
        return {
            "epoch": self._epoch,
            "batch": self._batch,
            "seed": self.seed,
            "samples": len(self.dataset),
            "batches": len(self),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to a saved position: the next ``iter(loader)`` gives the batches of that epoch which are left.

        Raises:
            ValueError: the state is of a loader with another number of samples or batches.
            KeyError: it is no loader's state.
        """
        epoch, batch, seed = int(state["epoch"]), int(state["batch"]), int(state["seed"])
        ours = {"samples": len(self.dataset), "batches": len(self)}
        for name, value in ours.items():
            if int(state.get(name, value)) != value:
                raise ValueError(
                    f"[DataLoader.load_state_dict] the state is of a loader with {state[name]} {name}, this one has"
                    f" {value}; expected the same dataset, batch_size and sampler"
                )
        if epoch < 0 or not 0 <= batch <= len(self):
            raise ValueError(
                f"[DataLoader.load_state_dict] got epoch {epoch}, batch {batch}, expected 0 <= batch <= {len(self)}"
            )
        self._epoch, self._batch, self.seed, self._entered = epoch, batch, seed, False

    def __repr__(self) -> str:
        return (
            f"DataLoader({type(self.dataset).__name__} of {len(self.dataset)} samples, {len(self)} batches of"
            f" {self.batch_size}, shuffle={self.shuffle}, num_workers={self.num_workers})"
        )


def _from_torch(options: dict[str, Any]) -> dict[str, Any]:
    """Our options from PyTorch's that have another name here."""
    ours: dict[str, Any] = {}
    for name, value in options.items():
        if name not in ("prefetch_factor", "multiprocessing_context", "generator", "pin_memory", "pin_memory_device"):
            raise TypeError(f"[DataLoader] got an unexpected option {name!r}; see help(pydl.data.DataLoader)")
        if value is None or name.startswith("pin_memory"):
            continue
        if name == "generator":
            ours["seed"] = value.initial_seed()
        else:
            ours["prefetch" if name == "prefetch_factor" else "context"] = value
    return ours


def _refuse_arrays(dataset: Any, batch_size: Any) -> None:
    """DataLoader(x, y) and DataLoader((x, y)) mean something else than they look like."""
    pair = isinstance(dataset, tuple) and all(isinstance(part, (Tensor, np.ndarray)) for part in dataset)
    if (pair and dataset) or isinstance(batch_size, (Tensor, np.ndarray)):
        what = "a tuple of arrays" if pair else "an array as batch_size"
        raise TypeError(f"[DataLoader] got {what}, expected a dataset: DataLoader(ArrayDataset(x, y), batch_size=32)")


def _integer(name: str, value: Any, least: int | None) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"[DataLoader] got {name} {value!r}, expected an integer")
    if least is not None and value < least:
        raise ValueError(f"[DataLoader] got {name} {value}, expected at least {least}")
    return int(value)


def _check_range(indices: Indices, n: int) -> None:
    if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= n):
        wrong = indices[(indices < 0) | (indices >= n)][0]
        raise IndexError(
            f"[DataLoader] the sampler gave index {wrong}, expected 0 <= index < {n}, the dataset's samples"
        )
