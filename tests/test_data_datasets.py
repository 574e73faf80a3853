"""Datasets and how they are combined; stacking and padding of samples."""

from __future__ import annotations

import doctest
import importlib
from collections import namedtuple
from typing import Any

import numpy as np
import pytest

import pydl
from pydl.data import (
    ArrayDataset,
    CachedDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    FunctionDataset,
    MapDataset,
    Subset,
    TensorDataset,
    TextDataset,
    default_collate,
    pad_collate,
    random_split,
    toy,
)


@pytest.mark.parametrize(
    "name", ["collate", "csv", "dataset", "idx", "images", "loader", "sampler", "text", "toy", "workers"]
)
def test_examples_give_what_they_show(name: str) -> None:
    if name == "toy":
        pytest.importorskip("sklearn")
    if name == "images":
        pytest.importorskip("PIL")
    assert doctest.testmod(importlib.import_module(f"pydl.data.{name}"), extraglobs={"pydl": pydl}).failed == 0


def test_package_example() -> None:
    assert doctest.testmod(pydl.data).failed == 0


@pytest.mark.parametrize("dtype", ["float64", "float32", "int8", "uint8", "int64", "bool", "float16"])
def test_array_dataset_keeps_dtypes_and_memory(dtype: str, rng: np.random.Generator) -> None:
    x = (rng.random((6, 2, 3)) * 4).astype(dtype)
    data = ArrayDataset(x)
    assert data.tensors[0].dtype.name == dtype
    (got,) = data.batch(np.array([5, 0, 5]))
    assert (got.numpy() == x[[5, 0, 5]]).all()
    assert (data[-1][0].numpy() == x[5]).all()
    assert (data[1:3][0].numpy() == x[1:3]).all()
    x[2] = x[4]
    assert (data[2][0].numpy() == x[4]).all()
    assert TensorDataset is ArrayDataset


def test_batches_of_arrays_are_copies(rng: np.random.Generator) -> None:
    x = rng.random((40, 3)).astype(np.float32)
    kept = [batch for (batch,) in DataLoader(ArrayDataset(x), 4)]
    for batch in kept:
        batch += 1.0
    assert (x <= 1).all()
    assert np.allclose(np.concatenate([b.numpy() for b in kept]), x + 1)


@pytest.mark.parametrize("layout", ["C", "F", "reversed", "columns", "scalar"])
def test_arrays_of_any_layout(layout: str, rng: np.random.Generator) -> None:
    x = rng.random((50, 8))
    x = {"C": x, "F": np.asfortranarray(x), "reversed": x[::-1], "columns": x[:, 1:5], "scalar": x[:, 0]}[layout]
    y = np.arange(50)
    for batch_x, batch_y in DataLoader(ArrayDataset(x, y), 7, shuffle=True):
        assert (batch_x.numpy() == x[batch_y.numpy()]).all()


def test_several_inputs() -> None:
    a, b, y = np.arange(6.0).reshape(6, 1), np.arange(6) * 2, np.arange(6) * 3
    for x in ((a, b), {"a": a, "b": b}, [a, b]):
        for (batch,) in DataLoader(ArrayDataset(x), 4):
            assert type(batch) is type(x)
        for batch, target in DataLoader(ArrayDataset(x, y), 4, shuffle=True):
            first, second = batch.values() if isinstance(batch, dict) else batch
            assert (first.numpy()[:, 0] * 3 == target.numpy()).all()
            assert (second.numpy() * 1.5 == target.numpy()).all()


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ((), ValueError, "got no arrays"),
        ((np.zeros((3, 2)), np.zeros(4)), ValueError, r"y has 4 rows .* x has 3 .shape \(3, 2\)."),
        ((np.zeros(3), [np.zeros(3), np.zeros(2)]), ValueError, r"y\[1\] has 2 rows"),
        (({"left": np.zeros(3), "right": np.zeros(4)},), ValueError, r"x\['right'\] has 4 rows"),
        ((np.zeros(3), np.array(["a", "b", "c"])), TypeError, "y: got strings .the first is .*'a'.*unique"),
        ((np.array([1, None], dtype=object),), TypeError, "x: got objects"),
        ((np.zeros(2), ["a", "b"]), TypeError, "y: got strings"),
        (("text",), TypeError, "x: got str"),
        (([[1, 2], [3]],), ValueError, "x: got rows of different lengths"),
        ((np.array(["2020-01-01"], "M8[D]"),), TypeError, "x: got datetime64"),
        ((3.0,), ValueError, "x: got a single number"),
        ((None,), TypeError, "x: got objects"),
        ((np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(1)), ValueError, "array 3 has 1 rows"),
    ],
)
def test_bad_arrays_are_named(arrays: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ArrayDataset(*arrays)


def test_subset() -> None:
    data = ArrayDataset(np.arange(10) * 10)
    mask = np.arange(10) % 3 == 0
    assert [s[0].item() for s in (Subset(data, mask)[i] for i in range(4))] == [0, 30, 60, 90]
    nested = Subset(Subset(data, range(5, 10)), [-1, 0])
    assert nested.batch(np.array([0, 1, 0]))[0].tolist() == [90, 50, 90]
    assert len(Subset(data, [])) == 0
    for wrong, error, message in (
        ([10], IndexError, "index 10"),
        ([-11], IndexError, "index -11"),
        ([0.5], TypeError, "float64"),
        (mask[:4], ValueError, r"mask of shape \(4,\)"),
        ([[1]], TypeError, r"shape \(1, 1\)"),
    ):
        with pytest.raises(error, match=message):
            Subset(data, wrong)
    with pytest.raises(IndexError, match="index 2"):
        nested[2]


@pytest.mark.parametrize("fast", [True, False])
def test_concat(fast: bool) -> None:
    parts: list[Any] = [ArrayDataset(np.arange(3), np.zeros(3)), ArrayDataset(np.arange(3, 8), np.ones(5))]
    if not fast:
        parts[1] = FunctionDataset(lambda i: (np.int64(i + 3), 1.0), 5)
    data = parts[0] + parts[1]
    assert isinstance(data, ConcatDataset)
    assert len(data) == 8
    order = np.array([7, 0, 3, 2, 2, 4])
    x, y = data.batch(order)
    assert x.tolist() == order.tolist()
    assert y.tolist() == (order > 2).tolist()
    assert data[-1][0].item() == 7
    assert [int(i) for x, _ in DataLoader(data, 3, shuffle=True) for i in x.tolist()] != list(range(8))
    with pytest.raises(IndexError):
        data[8]
    with pytest.raises(ValueError, match="no datasets"):
        ConcatDataset([])


def test_map_and_cache() -> None:
    reads: list[int] = []

    def read(index: int) -> tuple[float, int]:
        reads.append(index)
        return float(index), index

    data = FunctionDataset(read, 4).cache().map(lambda x, y: (x * 2, y))
    assert isinstance(data, MapDataset)
    for _ in range(3):
        (batch,) = list(DataLoader(data, 4))
        assert batch[0].tolist() == [0, 2, 4, 6]
    assert sorted(reads) == [0, 1, 2, 3]
    reads.clear()
    cached = CachedDataset(FunctionDataset(read, 3)).load()
    assert reads == [0, 1, 2]
    assert cached[-1] == (2.0, 2)
    assert reads == [0, 1, 2]
    with pytest.raises(IndexError, match="index 3"):
        cached[3]
    with pytest.raises(TypeError, match="got int, expected a function"):
        MapDataset(cached, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="length -1"):
        FunctionDataset(read, -1)


def test_map_over_a_dataset_with_batches_is_applied() -> None:
    data = ArrayDataset(np.arange(4.0), np.arange(4)).map(lambda x, y: (x + 100, y))
    (batch,) = list(DataLoader(data, 4))
    assert batch[0].tolist() == [100, 101, 102, 103]


def test_a_dataset_says_what_it_lacks() -> None:
    with pytest.raises(NotImplementedError, match="defines __len__"):
        DataLoader(Dataset())
    assert Dataset[int] is Dataset


def test_random_split() -> None:
    data = ArrayDataset(np.arange(103))
    for lengths, sizes in (([100, 3], [100, 3]), ([0.7, 0.3], [73, 30]), ([0.6, 0.2, 0.2], [62, 21, 20])):
        parts = random_split(data, lengths, seed=4)
        assert [len(p) for p in parts] == sizes
        assert sorted(i for p in parts for i in p.indices.tolist()) == list(range(103))
    first, again = random_split(data, [0.5, 0.5]), random_split(data, [0.5, 0.5])
    assert first[0].indices.tolist() == again[0].indices.tolist() != list(range(52))
    other = random_split(data, [0.5, 0.5], seed=1)
    assert other[0].indices.tolist() != first[0].indices.tolist()
    drawn = random_split(data, [0.5, 0.5], generator=pydl.Generator(3))
    assert sorted(i for p in drawn for i in p.indices.tolist()) == list(range(103))
    for wrong, message in (
        ([50, 50], "sum to 100, expected 103"),
        ([0.5, 0.4], "sum to 0.9, expected 1"),
        ([-1, 104], "expected numbers of samples or fractions"),
        ([0.999, 0.001], "leaves a part empty"),
        ([], "expected numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            random_split(data if wrong != [0.999, 0.001] else ArrayDataset(np.arange(5)), wrong)


def test_default_collate_keeps_structures_and_dtypes() -> None:
    point = namedtuple("point", "x y")
    batch = default_collate(
        [
            {"p": point(1, 2.5), "flag": True, "a": np.float64(1), "t": pydl.ones((2,)), "l": [np.int8(1), (1,)]},
            {"p": point(3, 4.5), "flag": False, "a": np.float64(2), "t": pydl.zeros((2,)), "l": [np.int8(2), (2,)]},
        ]
    )
    assert type(batch["p"]) is point
    assert batch["p"].y.tolist() == [2.5, 4.5]
    dtypes = (batch["p"].x.dtype, batch["p"].y.dtype, batch["flag"].dtype, batch["a"].dtype, batch["l"][0].dtype)
    assert dtypes == (pydl.int64, pydl.float32, pydl.bool, pydl.float64, pydl.int8)
    assert batch["t"].tolist() == [[1, 1], [0, 0]]
    assert isinstance(batch["l"], list)
    assert batch["l"][1][0].tolist() == [1, 2]
    with pytest.raises(ValueError, match="no samples"):
        default_collate([])
    with pytest.raises(TypeError, match=r"sample 1, field \[0\]: got str"):
        default_collate([(1.0, 2), ("x", 3)])


def test_default_collate_against_torch() -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    samples: list[Any] = [(np.full((2, 2), i, np.float32), i, {"w": np.float64(i), "flag": i > 1}) for i in range(3)]
    theirs = torch_data.default_collate(samples)
    ours = default_collate(samples)
    for a, b in zip((*ours[:2], *ours[2].values()), (*theirs[:2], *theirs[2].values()), strict=True):
        assert str(a.dtype).split(".")[-1] == str(b.dtype).split(".")[-1]
        assert (a.numpy() == b.numpy()).all()


def test_pad_collate() -> None:
    sequences = [np.ones((n, 2), np.float32) * n for n in (3, 1, 2)]
    padded, lengths = pad_collate(sequences, padding_value=-1)
    assert padded.shape == (3, 3, 2)
    assert lengths.tolist() == [3, 1, 2]
    for row, sequence in zip(padded.numpy(), sequences):
        assert (row[: len(sequence)] == sequence).all()
        assert (row[len(sequence) :] == -1).all()
    assert pad_collate(sequences, multiple_of=8)[0].shape == (3, 8, 2)
    assert pad_collate(sequences, batch_first=False)[0].shape == (3, 3, 2)
    assert pad_collate(sequences[1:], batch_first=False)[0].shape == (2, 2, 2)
    tags = [np.arange(len(s), dtype=np.uint8) for s in sequences]
    (x, n), y, label = pad_collate(list(zip(sequences, tags, ["012"] and [5, 6, 7])))
    assert (x.shape, n.tolist(), label.tolist()) == ((3, 3, 2), [3, 1, 2], [5, 6, 7])
    assert y.tolist() == [[0, 1, 2], [0, -100, -100], [0, 1, -100]]
    assert y.dtype == pydl.int64
    assert pad_collate([[1, 2], [3]])[0].tolist() == [[1, 2], [3, 0]]
    assert pad_collate([[0.5], []])[0].dtype == pydl.float32
    for wrong, error, message in (
        ([], ValueError, "no samples"),
        (
            [np.ones((2, 2)), np.ones((2, 3))],
            ValueError,
            r"sample 1 of the batch: got the shape \(2, 3\), expected \(T, 2",
        ),
        ([np.ones(2), np.float64(1)], ValueError, r"sample 1 of the batch: got the shape \(\)"),
        ([(np.ones(2), 1), (np.ones(2),)], ValueError, "expected a tuple of 2 fields"),
        (["text"], TypeError, "sample 0.*got str"),
    ):
        with pytest.raises(error, match=message):
            pad_collate(wrong)


def test_text_windows() -> None:
    text = "abcdefghij"
    data = TextDataset(text, 3, stride=2)
    assert len(data) == 4
    for i in range(4):
        inputs, targets = data[i]
        assert data.vocabulary.decode(inputs) == text[2 * i : 2 * i + 3]
        assert data.vocabulary.decode(targets) == text[2 * i + 1 : 2 * i + 4]
    x, y = data.batch(np.array([3, 1]))
    assert (x.tolist(), y.tolist()) == ([[6, 7, 8], [2, 3, 4]], [[7, 8, 9], [3, 4, 5]])
    assert x.dtype == pydl.int64
    assert len(TextDataset(np.arange(7), 3)) == 2
    assert len(TextDataset(np.arange(6), 3)) == 1
    for wrong, error, message in (
        (("abc", 3), ValueError, "text of 3 characters, expected at least 4"),
        (("", 3), ValueError, "text of 0 characters"),
        (("abc", 0), ValueError, "seq_length 0"),
        ((np.zeros(9), 3), TypeError, "float64"),
    ):
        with pytest.raises(error, match=message):
            TextDataset(*wrong)
    with pytest.raises(ValueError, match="'z'"):
        TextDataset("xyz", 2, vocabulary=pydl.text.CharVocabulary("xy"))


def test_text_from_files(tmp_path: Any) -> None:
    (tmp_path / "a.txt").write_text("hello world")
    assert TextDataset.from_files(tmp_path / "a.txt", 4)[0][0].tolist() == TextDataset("hello world", 4)[0][0].tolist()
    assert len(TextDataset.from_files([tmp_path], 4, stride=1)) == 7


def test_small_sets() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    for name in ("digits", "iris", "wine", "breast_cancer", "diabetes"):
        x, y = getattr(toy, name)()
        theirs_x, theirs_y = getattr(datasets, f"load_{name}")(return_X_y=True)
        scale = 16 if name == "digits" else 1
        assert np.allclose(x.reshape(len(x), -1) * scale, theirs_x, rtol=1e-6)
        assert (y == theirs_y).all()
        assert x.dtype == np.float32
        assert y.dtype == (np.float32 if name == "diabetes" else np.int64)
