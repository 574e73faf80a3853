"""Packed and padded sequences against PyTorch's, and recurrent layers that take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.nn.utils import rnn
from tolerances import assert_near

LENGTHS = [[4, 4, 2, 1], [2, 4, 1, 3], [1], [3, 3]]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
def test_packing_is_pytorchs(lengths: list[int], batch_first: bool, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(len(lengths), 5, 3) if batch_first else (5, len(lengths), 3))
    options = {"batch_first": batch_first, "enforce_sorted": lengths == sorted(lengths, reverse=True)}
    ours = rnn.pack_padded_sequence(pydl.asarray(x), pydl.asarray(lengths), **options)
    theirs = torch.nn.utils.rnn.pack_padded_sequence(torch.from_numpy(x), torch.tensor(lengths), **options)
    for got, wanted in zip(ours, theirs, strict=True):
        assert (got is None) == (wanted is None)
        if got is not None:
            np.testing.assert_array_equal(got.numpy(), wanted.numpy())
    for total in (None, 7):
        back = rnn.pad_packed_sequence(ours, batch_first, -1.5, total)
        expected = torch.nn.utils.rnn.pad_packed_sequence(theirs, batch_first, -1.5, total)
        np.testing.assert_array_equal(back[0].numpy(), expected[0].numpy())
        assert back[1].tolist() == expected[1].tolist() == lengths


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_back(side: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    arrays = [rng.normal(size=(n, 2)) for n in (3, 1, 4)]
    ours = rnn.pad_sequence([pydl.asarray(a) for a in arrays], True, 0.25, side)
    theirs = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(a) for a in arrays], True, 0.25, side)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    if side == "right":
        for got, wanted in zip(rnn.unpad_sequence(ours, [3, 1, 4], True), arrays, strict=True):
            np.testing.assert_array_equal(got.numpy(), wanted)
    packed = rnn.pack_sequence([pydl.asarray(a) for a in arrays], enforce_sorted=False)
    for got, wanted in zip(rnn.unpack_sequence(packed), arrays, strict=True):
        np.testing.assert_array_equal(got.numpy(), wanted)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_recurrent_layers_take_and_return_them(kind: str, batch_first: bool, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    options = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first}
    theirs = getattr(torch.nn, kind)(3, 4, **options).double()
    ours = getattr(nn, kind)(3, 4, **options, dtype=pydl.float64)
    ours.load_state_dict({k: v.numpy().copy() for k, v in theirs.state_dict().items()})
    x, lengths = rng.normal(size=(5, 4, 3)), [2, 5, 1, 3]
    h = rng.normal(size=(4, 4, 4))

    def run(library: Any, layer: Any, tensor: Any) -> list[Any]:
        leaf = tensor(x).requires_grad_()
        packed = library.nn.utils.rnn.pack_padded_sequence(leaf, tensor(np.array(lengths)), enforce_sorted=False)
        state = (tensor(h), tensor(-h)) if kind == "LSTM" else tensor(h)
        out, last = layer(packed, state)
        last = last if kind == "LSTM" else (last,)
        (sum((s**2).sum() for s in last) + (out.data * out.data).sum()).backward()
        return [out.data, out.batch_sizes, *last, leaf.grad, layer.weight_hh_l0.grad]

    wanted, got = run(torch, theirs, torch.from_numpy), run(pydl, ours, pydl.asarray)
    for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert_near(a.detach().numpy(), b.detach().numpy(), 1e-9, 1e-10, str(i))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: rnn.pack_padded_sequence(x, [1, 3]), ValueError, "enforce_sorted=False"),
        (lambda x: rnn.pack_padded_sequence(x, [5, 3]), ValueError, "from 1 to 4"),
        (lambda x: rnn.pack_padded_sequence(x, [3]), ValueError, "2 sequences of 4 steps"),
        (lambda x: rnn.pack_padded_sequence(x, [2.0, 1.0]), TypeError, "expected whole numbers"),
        (lambda x: rnn.pad_packed_sequence(rnn.pack_padded_sequence(x, [3, 2]), total_length=2), ValueError,
         "3 or more"),
        (lambda x: rnn.pad_sequence([]), ValueError, "no sequences"),
        (lambda x: nn.GRU(3, 2)(rnn.pack_padded_sequence(x, [3, 2]), lengths=[3, 2]), ValueError,
         r"^\[GRU\] got lengths"),
    ],
)  # fmt: skip
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(pydl.ones((4, 2, 3)))
