"""Samplers, against what they promise, counted."""

from __future__ import annotations

from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from pydl.data import (
    ArrayDataset,
    BatchSampler,
    BucketByLength,
    DataLoader,
    RandomSampler,
    Sampler,
    SequentialSampler,
    StratifiedSampler,
    SubsetSampler,
    WeightedSampler,
    pad_collate,
)


def test_random_sampler() -> None:
    sampler = RandomSampler(7, num_samples=17)
    order = sampler.order(3, 0)
    assert len(order) == len(sampler) == 17
    assert sorted(order[:7]) == sorted(order[7:14]) == list(range(7))
    assert order[:7].tolist() != order[7:14].tolist()
    assert len(set(order[14:])) == 3
    assert order.tolist() == sampler.order(3, 0).tolist() != sampler.order(3, 1).tolist()
    assert order.tolist() != sampler.order(4, 0).tolist()
    counts = np.bincount(RandomSampler(5, replacement=True, num_samples=50_000).order(0, 0), minlength=5)
    assert (abs(counts - 10_000) < 450).all()  # five deviations


def test_weighted_sampler_follows_the_weights() -> None:
    weights = np.array([0.0, 1.0, 2.0, 0.0, 5.0, 0.0])
    counts = np.bincount(WeightedSampler(weights, 80_000).order(1, 2), minlength=6)
    expected = weights / weights.sum() * 80_000
    assert counts[[0, 3, 5]].tolist() == [0, 0, 0]
    assert (abs(counts - expected)[[1, 2, 4]] < 5 * np.sqrt(expected[[1, 2, 4]])).all()


def test_weighted_sampler_without_replacement() -> None:
    """The first of a draw follows the weights; none comes twice."""
    sampler = WeightedSampler([1.0, 3.0, 0.0, 4.0], num_samples=3, replacement=False)
    orders = np.array([sampler.order(0, epoch) for epoch in range(4000)])
    assert all(sorted(order) == [0, 1, 3] for order in orders)
    first = np.bincount(orders[:, 0], minlength=4) / 4000
    assert abs(first - [1 / 8, 3 / 8, 0, 4 / 8]).max() < 0.04


@hypothesis.given(counts=st.lists(st.integers(1, 30), min_size=2, max_size=4), epoch=st.integers(0, 3))
def test_stratified_batches_have_the_proportions_of_the_whole(counts: list[int], epoch: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    order = StratifiedSampler(labels).order(5, epoch)
    n = len(labels)
    assert sorted(order) == list(range(n))
    for size in (4, 10):
        for start in range(0, n - size + 1, size):
            got = np.bincount(labels[order[start : start + size]], minlength=len(counts))
            assert (abs(got - size * np.array(counts) / n) <= len(counts)).all()


def test_stratified_takes_names_and_shuffles() -> None:
    sampler = StratifiedSampler(["cat", "dog", "cat", "cat", "dog", "cat"])
    orders = {tuple(sampler.order(0, epoch)) for epoch in range(20)}
    assert len(orders) > 10
    for order in orders:
        assert all(sum(i in (1, 4) for i in order[k : k + 3]) == 1 for k in (0, 3))


def test_subset_and_batch_samplers_in_a_loader() -> None:
    data = ArrayDataset(np.arange(100))
    loader = DataLoader(data, 2, sampler=SubsetSampler([7, 50, 3]), seed=1)
    assert sorted(i for (b,) in loader for i in b.tolist()) == [3, 7, 50]
    assert len(loader) == 2
    batches = BatchSampler(RandomSampler(data), 30, drop_last=True)
    first = [b.tolist() for (b,) in DataLoader(data, batch_sampler=batches, seed=1)]
    again = [b.tolist() for (b,) in DataLoader(data, 30, shuffle=True, drop_last=True, seed=1)]
    assert first == again
    assert len(batches) == len(first) == 3
    lists: list[Any] = [[1, 2], [3], [4, 5, 6]]
    assert [b.tolist() for (b,) in DataLoader(data, batch_sampler=lists)] == lists


def test_samplers_have_a_seed_of_their_own_or_the_loaders() -> None:
    data = ArrayDataset(np.arange(20))

    def order(seed: int, **options: Any) -> list[int]:
        return [i for (b,) in DataLoader(data, 20, seed=seed, **options) for i in b.tolist()]

    assert order(1, sampler=RandomSampler(data)) == order(1, shuffle=True)
    assert order(1, sampler=RandomSampler(data)) != order(2, sampler=RandomSampler(data))
    assert order(1, sampler=RandomSampler(data, seed=9)) == order(2, sampler=RandomSampler(data, seed=9))


class Rotation:
    """A sampler of a user: it knows set_epoch only."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Any:
        return iter([(i + self.epoch) % 3 for i in range(3)])


def test_a_sampler_of_ones_own_hears_of_the_epoch() -> None:
    loader = DataLoader(ArrayDataset(np.arange(3)), 3, sampler=Rotation())
    assert [[b.tolist() for (b,) in loader] for _ in range(3)] == [[[0, 1, 2]], [[1, 2, 0]], [[2, 0, 1]]]
    loader.load_state_dict({"epoch": 1, "batch": 0, "seed": 0})
    assert [b.tolist() for (b,) in loader] == [[1, 2, 0]]


class Backwards(Sampler):
    """As PyTorch's users write one."""

    def __init__(self, data_source: Any) -> None:
        super().__init__(data_source)
        self.data_source = data_source

    def __iter__(self) -> Any:
        return iter(range(len(self.data_source) - 1, -1, -1))

    def __len__(self) -> int:
        return len(self.data_source)


class Pairs(BatchSampler):
    """Other batches from the same sampler."""

    def __iter__(self) -> Any:
        for i in self.sampler:
            yield [i, i]


def test_subclasses_that_only_iterate() -> None:
    data = ArrayDataset(np.arange(4))
    assert [b.tolist() for (b,) in DataLoader(data, 3, sampler=Backwards(data))] == [[3, 2, 1], [0]]
    loader = DataLoader(data, batch_sampler=Pairs(Backwards(data), 1))
    assert [b.tolist() for (b,) in loader] == [[3, 3], [2, 2], [1, 1], [0, 0]]


@hypothesis.given(n=st.integers(1, 300), size=st.integers(1, 9), drop=st.booleans(), shuffle=st.booleans())
def test_buckets_visit_everything_once(n: int, size: int, drop: bool, shuffle: bool) -> None:
    lengths = np.random.default_rng(n).integers(1, 100, n)
    sampler = BucketByLength(lengths, size, drop_last=drop, shuffle=shuffle, window=4)
    for epoch in (0, 1):
        batches = sampler.batches(0, epoch)
        assert len(batches) == len(sampler)
        flat = [int(i) for b in batches for i in b]
        assert len(set(flat)) == len(flat) == (n // size * size if drop else n)
        assert sum(len(b) != size for b in batches) <= (0 if drop else 1)


def test_buckets_pad_little() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 2000)
    sampler = BucketByLength(lengths, 20)

    def padded(batches: Any) -> int:
        return sum(int(lengths[b].max()) * len(b) for b in batches)

    ours, plain = padded(sampler.batches(0, 0)), padded(BatchSampler(RandomSampler(2000), 20).batches(0, 0))
    assert ours < 1.1 * lengths.sum()
    assert plain > 1.7 * lengths.sum()
    means = [lengths[b].mean() for b in sampler.batches(0, 0)]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.4  # the batches do not come sorted
    assert [b.tolist() for b in sampler.batches(0, 0)] != [b.tolist() for b in sampler.batches(0, 1)]


def test_padding_and_lengths_come_from_the_loader() -> None:
    sequences = [np.arange(1, n + 1, dtype=np.float32) for n in (5, 1, 3, 2)]
    samples = [(s, i) for i, s in enumerate(sequences)]
    sampler = BucketByLength([len(s) for s in sequences], 2, shuffle=False)
    batches = list(DataLoader(samples, batch_sampler=sampler, collate_fn=pad_collate))
    assert [y.tolist() for _, y in batches] == [[1, 3], [2, 0]]
    assert [x[1].tolist() for x, _ in batches] == [[1, 2], [3, 5]]
    assert batches[1][0][0].tolist() == [[1, 2, 3, 0, 0], [1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SequentialSampler([]), ValueError, "got 0 samples"),
        (lambda: RandomSampler(3.5), TypeError, "got float, expected a dataset or its number"),
        (lambda: RandomSampler(3, num_samples=0), ValueError, "got 0 samples"),
        (lambda: WeightedSampler([1.0, -1.0]), ValueError, r"weight 1 is -1\.0"),
        (lambda: WeightedSampler([1.0, np.nan]), ValueError, "weight 1 is nan"),
        (lambda: WeightedSampler([0.0, 0.0]), ValueError, "0 weights above 0, expected at least 1"),
        (lambda: WeightedSampler([1.0, 0.0], 2, replacement=False), ValueError, "pass replacement=True"),
        (lambda: WeightedSampler([[1.0]]), ValueError, r"shape \(1, 1\), expected one weight for each sample"),
        (lambda: StratifiedSampler([0.5, 1.0]), ValueError, "labels of float64"),
        (lambda: SubsetSampler([]), ValueError, "indices of float64"),
        (lambda: BatchSampler(SequentialSampler(3), 0), ValueError, "batch_size 0"),
        (lambda: BucketByLength([], 2), ValueError, "lengths"),
        (lambda: BucketByLength([1], 0), ValueError, "batch_size 0"),
    ],
)
def test_what_is_wrong_is_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
