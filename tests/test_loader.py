"""DataLoader in this process: order, batches, position, errors."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import pydl
from pydl.data import ArrayDataset, DataLoader, Dataset, FunctionDataset, Subset


def seen(loader: Any) -> list[list[int]]:
    """The first field of each batch of one epoch."""
    return [batch[0].tolist() for batch in loader]


@hypothesis.given(
    n=st.integers(1, 40),
    size=st.integers(1, 12),
    shuffle=st.booleans(),
    last=st.sampled_from(["keep", "drop", "merge"]),
)
def test_batches_are_the_samples_in_order(n: int, size: int, shuffle: bool, last: str) -> None:
    options: dict[str, Any] = {"drop_last": last == "drop", "merge_last": last == "merge", "shuffle": shuffle}
    data = ArrayDataset(np.arange(n), np.arange(n) * 0.5)
    if last == "drop" and n < size:
        with pytest.raises(ValueError, match="no full batch"):
            DataLoader(data, size, **options)
        return
    loader = DataLoader(data, size, **options)
    batches = seen(loader)
    assert len(batches) == len(loader)
    flat = [i for batch in batches for i in batch]
    expected = [size] * (n // size) + ([n % size] if n % size and last != "drop" else [])
    if last == "merge" and n > size > 1 == n % size:
        expected[-2:] = [size + 1]
    assert [len(b) for b in batches] == expected
    assert len(set(flat)) == len(flat) == sum(expected)
    if not shuffle:
        assert flat == list(range(len(flat)))
    for x, y in loader:
        assert (y.numpy() == x.numpy() * 0.5).all()


def test_order_depends_on_seed_and_epoch_alone() -> None:
    data = ArrayDataset(np.arange(50))
    first = DataLoader(data, 7, shuffle=True, seed=3)
    epochs = [seen(first) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    pydl.manual_seed(99)
    before = pydl.default_generator().get_state().tolist()
    again = DataLoader(data, 7, shuffle=True, seed=3)
    assert [seen(again) for _ in range(3)] == epochs
    assert pydl.default_generator().get_state().tolist() == before
    assert seen(DataLoader(data, 7, shuffle=True, seed=4)) != epochs[0]
    flat = [[i for batch in epoch for i in batch] for epoch in epochs]
    assert all(sorted(f) == list(range(50)) for f in flat)


def test_shuffle_is_uniform() -> None:
    """Each sample stands at each place about equally often: chi-squared over 8 x 8 cells and 4,000 epochs."""
    loader = DataLoader(ArrayDataset(np.arange(8)), 8, shuffle=True)
    orders = np.array([seen(loader)[0] for _ in range(4000)])
    counts = np.array([np.bincount(orders[:, place], minlength=8) for place in range(8)])
    chi2 = ((counts - 500.0) ** 2 / 500).sum()
    assert 20 < chi2 < 95  # 49 degrees of freedom: mean 49, deviation 10


def test_each_iteration_is_the_next_epoch() -> None:
    loader = DataLoader(ArrayDataset(np.arange(6)), 2, shuffle=True)
    reference = DataLoader(ArrayDataset(np.arange(6)), 2, shuffle=True)
    epochs = [seen(reference) for _ in range(4)]
    assert loader.epoch == 0
    assert seen(loader) == epochs[0]
    assert loader.epoch == 1
    for batch in loader:
        assert batch[0].tolist() == epochs[1][0]
        assert loader.epoch == 1
        break
    assert seen(loader) == epochs[2]  # an epoch that was broken off is over
    both = [(a[0].tolist(), b[0].tolist()) for a, b in zip(loader, loader)]  # two iterators are two epochs
    reference.load_state_dict({"epoch": 3, "batch": 0, "seed": 0})
    assert both == list(zip(seen(reference), seen(reference)))


@pytest.mark.parametrize("read", range(9))
def test_goes_on_from_a_saved_position(read: int) -> None:
    def make() -> DataLoader:
        return DataLoader(ArrayDataset(np.arange(10)), 3, shuffle=True, seed=5)

    reference = make()
    whole = [batch for _ in range(3) for batch in seen(reference)]
    loader = make()
    got: list[Any] = []
    while len(got) < read:
        for batch in loader:
            got.append(batch[0].tolist())
            if len(got) == read:
                break
    state = json.loads(json.dumps(loader.state_dict()))
    other = DataLoader(ArrayDataset(np.arange(10)), 3, shuffle=True, seed=77)
    other.load_state_dict(state)
    while len(got) < len(whole):
        got += seen(other)
    assert got == whole


def test_a_state_of_another_loader_is_refused() -> None:
    state = DataLoader(ArrayDataset(np.arange(10)), 3).state_dict()
    with pytest.raises(ValueError, match="10 samples, this one has 11"):
        DataLoader(ArrayDataset(np.arange(11)), 3).load_state_dict(state)
    with pytest.raises(ValueError, match="4 batches, this one has 5"):
        DataLoader(ArrayDataset(np.arange(10)), 2).load_state_dict(state)
    with pytest.raises(ValueError, match="batch 9"):
        DataLoader(ArrayDataset(np.arange(10)), 3).load_state_dict({**state, "batch": 9})
    with pytest.raises(KeyError):
        DataLoader(ArrayDataset(np.arange(10)), 3).load_state_dict({"position": 1})


class Pairs(Dataset):
    """As a user of PyTorch writes it."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        return np.full((2, 3), index, np.float32), index % 2


def test_samples_of_a_dataset_of_ones_own() -> None:
    x, y = next(iter(DataLoader(Pairs(5), batch_size=4)))
    assert isinstance(x, pydl.Tensor)
    assert (x.shape, x.dtype, y.dtype) == ((4, 2, 3), pydl.float32, pydl.int64)
    assert x[:, 0, 0].tolist() == [0, 1, 2, 3]
    assert y.tolist() == [0, 1, 0, 1]
    batch = next(iter(DataLoader(FunctionDataset(lambda i: {"x": [i, i + 1.5], "y": i}, 3), batch_size=3)))
    assert batch["y"].tolist() == [0, 1, 2]
    assert batch["x"][1].tolist() == [1.5, 2.5, 3.5]
    (bare,) = list(DataLoader([1.5, 2.5], batch_size=2))
    assert bare.tolist() == [1.5, 2.5]
    pair = next(iter(DataLoader([[1, 2.0], [3, 4.0]])))
    assert isinstance(pair, tuple)
    assert [field.tolist() for field in pair] == [[1, 3], [2.0, 4.0]]


def test_collate_fn_gets_the_samples() -> None:
    loader = DataLoader(Pairs(5), 2, collate_fn=lambda samples: [y for _, y in samples])
    assert list(loader) == [(0, 1), (0, 1), (0,)]
    loader = DataLoader(ArrayDataset(np.arange(3)), 2, collate_fn=lambda samples: {"n": len(samples)})
    assert list(loader) == [{"n": 2}, {"n": 1}]


class Noise:
    """A transform: adds what the keys give."""

    def apply(self, batch: Any, keys: Any) -> Any:
        x, *rest = batch
        return (x + pydl.asarray(keys.uniform("noise")), *rest)


def test_transform_gets_keys_of_the_samples() -> None:
    pytest.importorskip("pydl.data.keys")
    from pydl.data.keys import SampleKeys

    loader = DataLoader(ArrayDataset(np.zeros(10)), 4, shuffle=True, seed=2, transform=Noise())
    order = DataLoader(ArrayDataset(np.arange(10)), 4, shuffle=True, seed=2)
    for epoch in range(2):
        for (x,), (indices,) in zip(loader, order):
            assert x.tolist() == SampleKeys(2, epoch, indices.numpy()).uniform("noise").tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_drawn_twice_is_transformed_in_two_ways(workers: int) -> None:
    picks = [3, 1, 3, 3, 0, 1]

    def numbers(indices: list[int], **options: Any) -> list[float]:
        loader = DataLoader(ArrayDataset(np.zeros(5)), transform=Noise(), seed=4, num_workers=workers, **options)
        return [value for (x,) in loader for value in x.tolist()]

    drawn = numbers(picks, sampler=picks, batch_size=2)
    assert len(set(drawn)) == len(picks)
    assert drawn == numbers(picks, sampler=picks, batch_size=5)
    assert drawn == numbers(picks, batch_sampler=[picks[:1], picks[1:]])
    plain = DataLoader(ArrayDataset(np.zeros(5)), 5, transform=Noise(), seed=4)
    first = next(iter(plain))[0].tolist()
    assert drawn[0] == first[3]  # the first time has the numbers that it always had
    assert drawn[1] == first[1]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DataLoader(ArrayDataset(np.zeros((0, 3)))), ValueError, "ArrayDataset. is empty"),
        (lambda: DataLoader([]), ValueError, "list. is empty"),
        (lambda: DataLoader(Pairs(3), 0), ValueError, "batch_size 0, expected at least 1"),
        (lambda: DataLoader(Pairs(3), -2), ValueError, "batch_size -2"),
        (lambda: DataLoader(Pairs(3), 2.0), TypeError, "batch_size 2.0, expected an integer"),
        (lambda: DataLoader(Pairs(3), num_workers=-1), ValueError, "num_workers -1"),
        (lambda: DataLoader(Pairs(3), drop_last=True, merge_last=True), ValueError, "drop_last and merge_last"),
        (lambda: DataLoader(Pairs(3), shuffle=True, sampler=[0]), ValueError, "shuffle and a sampler"),
        (lambda: DataLoader(Pairs(3), shuffle=True, batch_sampler=[[0]]), ValueError, "expected it alone"),
        (lambda: DataLoader(Pairs(3), transform=lambda x: x), TypeError, "apply.batch, keys."),
        (lambda: DataLoader(Pairs(3), collate_fn=3), TypeError, "collate_fn int"),
        (lambda: DataLoader(Pairs(3), batchsize=3), TypeError, "unexpected option 'batchsize'"),
        (lambda: DataLoader("text"), TypeError, "got str, expected a dataset"),
        (lambda: DataLoader(iter([1])), TypeError, "expected a dataset"),
        (lambda: list(DataLoader(Pairs(3), sampler=[0, 3])), IndexError, "index 3, expected 0 <= index < 3"),
        (lambda: list(DataLoader(Pairs(3), sampler=[0.5])), TypeError, "sampler gave float64"),
        (lambda: list(DataLoader(Pairs(3), batch_sampler=[0, 1])), TypeError, "list"),
        (lambda: list(DataLoader(["a", "b"])), TypeError, "sample 0: got str .'a'."),
        (lambda: list(DataLoader([(1.0, None)])), TypeError, r"sample 0, field \[1\]: got NoneType"),
        (lambda: list(DataLoader([np.zeros(2), np.zeros(3)])), ValueError, r"sample 1: got the shape \(3,\), expected"),
        (lambda: list(DataLoader([(1, 2), (1,)])), ValueError, "sample 1: got 1 fields, expected 2"),
        (lambda: list(DataLoader([{"a": 1}, {"b": 1}])), ValueError, r"sample 1: got \['b'\], expected .*\['a'\]"),
    ],
)
def test_what_is_wrong_is_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_options_of_pytorch() -> None:
    data = ArrayDataset(np.arange(20))
    generator = pydl.Generator(8)
    loader = DataLoader(
        data, batch_size=5, shuffle=True, pin_memory=True, generator=generator, prefetch_factor=4,
        multiprocessing_context="fork",
    )  # fmt: skip
    assert (loader.prefetch, loader.context) == (4, "fork")
    assert seen(loader) == seen(DataLoader(data, 5, shuffle=True, seed=8))


def test_subsets_of_arrays(rng: np.random.Generator) -> None:
    x, y = rng.random((50, 3)), np.arange(50)
    outer = Subset(ArrayDataset(x, y), rng.permutation(50)[:30])
    inner = Subset(outer, range(0, 30, 2))
    (batch,) = list(DataLoader(inner, 100))
    assert batch[1].tolist() == outer.indices[::2].tolist()
    for bx, by in DataLoader(inner, 4, shuffle=True):
        assert (bx.numpy() == x[by.numpy()]).all()
        assert set(by.tolist()) <= set(outer.indices[::2].tolist())


def test_a_sample_that_fails_is_known() -> None:
    def fail(index: int) -> int:
        if index == 3:
            raise ZeroDivisionError("nothing there")
        return index

    with pytest.raises(ZeroDivisionError) as raised:
        list(DataLoader(FunctionDataset(fail, 5), 2))
    assert raised.value.sample_index == 3  # type: ignore[attr-defined]
    assert "raised by sample 3" in getattr(raised.value, "__notes__", ["raised by sample 3"])[0]


def test_rows_gathered_for_several_batches(rng: np.random.Generator, threads: None) -> None:
    order = rng.integers(0, 200, 150)
    sources = [rng.random((200, *shape)).astype(dtype) for shape, dtype in (((), "f4"), ((7,), "f8"), ((900,), "u1"))]
    sources.append(np.zeros((200, 0)))
    stops = [3, 40, 40, 41, 150]
    for count in (1, 2, 3):
        pydl.set_num_threads(count)
        batches = pydl._C.take_batches([pydl.asarray(s) for s in sources], pydl.asarray(order), stops)
        assert len(batches) == 4
        for batch, begin, end in zip(batches, stops, stops[1:]):
            for got, source in zip(batch, sources):
                assert got.dtype == source.dtype.name
                assert got.shape == (end - begin, *source.shape[1:])
                assert (got.numpy() == source[order[begin:end]]).all()


@pytest.mark.parametrize(
    ("source", "order", "stops", "error", "message"),
    [
        (np.zeros((4, 2)), [0, 4], [0, 2], IndexError, "index 4 is out of range for 4 rows"),
        (np.zeros((4, 2)), [0, -1], [0, 2], IndexError, "index -1"),
        (np.zeros((4, 2)).T, [0], [0, 1], ValueError, "contiguous"),
        (np.zeros(()), [0], [0, 1], ValueError, "one contiguous row"),
        (np.zeros(4), [0, 1], [0, 3], ValueError, "stops"),
        (np.zeros(4), [0, 1], [1, 0], ValueError, "stops"),
        (np.zeros(4), [0, 1], [-1, 1], ValueError, "stops"),
        (np.zeros(4), [0, 1], [], ValueError, "stops"),
        (np.zeros(4), [0.0, 1], [0, 1], TypeError, "int64"),
        (np.zeros(4), [[0, 1]], [0, 1], TypeError, "int64"),
    ],
)
def test_what_cannot_be_gathered(
    source: Any, order: Any, stops: list[int], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pydl._C.take_batches([pydl.asarray(source)], pydl.asarray(np.array(order)), stops)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataLoader((np.zeros((4, 2)), np.zeros(4))), r"got a tuple of arrays.*ArrayDataset\(x, y\)"),
        (lambda: DataLoader(np.zeros((4, 2)), np.zeros(4)), r"got an array as batch_size.*ArrayDataset\(x, y\)"),
        (lambda: DataLoader(ArrayDataset(np.zeros(4)), transform=Noise), r"got the class Noise as transform"),
    ],
)
def test_what_beginners_give(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=rf"^\[DataLoader\] {message}"):
        make()
