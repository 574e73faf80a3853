"""An embedding that feeds a recurrent layer is projected row by row of the table: same numbers, same gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def run(
    cell: str,
    *,
    detour: bool,
    batch_first: bool = False,
    lengths: bool = False,
    padding: int | None = None,
    **options: Any,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outputs and gradients; the detour hides from the layer where its input comes from."""
    pydl.manual_seed(3)
    steps, batch, rows, width, hidden = 9, 5, 7, 6, 19
    table = nn.Embedding(rows, width, padding_idx=padding)
    layer = CELLS[cell](width, hidden, batch_first=batch_first, **options)
    module = nn.ModuleList([table, layer]).double()
    ids = pydl.randint(0, rows, (batch, steps) if batch_first else (steps, batch))
    x = table(ids)
    extra = {"lengths": pydl.asarray([9, 1, 4, 8, 3])} if lengths else {}
    y, state = layer(x * 1.0 if detour else x, **extra)
    h = state[0] if cell == "lstm" else state
    weight = pydl.asarray(np.cos(np.arange(y.size)).reshape(y.shape))
    ((y * weight).sum() + (h**2).sum()).backward()
    gradients = [p.grad.numpy() for p in module.parameters() if p.grad is not None]
    return [y.detach().numpy(), h.detach().numpy()], gradients


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_first": True},
        {"num_layers": 2, "bidirectional": True},
        {"lengths": True},
        {"lengths": True, "bidirectional": True, "batch_first": True},
        {"padding": 2},
        {"bias": False},
    ],
    ids=str,
)
def test_the_numbers_are_those_of_the_plain_product(cell: str, options: dict[str, Any]) -> None:
    got, expected = run(cell, detour=False, **options), run(cell, detour=True, **options)
    for part_got, part_expected in zip(got, expected, strict=True):
        assert len(part_got) == len(part_expected)
        for a, b in zip(part_got, part_expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def parts() -> tuple[nn.Embedding, nn.LSTM, pydl.Tensor]:
    pydl.manual_seed(1)
    return nn.Embedding(4, 3), nn.LSTM(3, 5), pydl.randint(0, 4, (8, 6))


def test_whoever_looks_at_the_gradient_of_the_rows_gets_it() -> None:
    table, layer, ids = parts()
    plain = table(ids) * 1.0
    expected = pydl.autograd.grad(layer(plain)[0].sum(), plain)[0].numpy()

    x = table(ids)
    np.testing.assert_allclose(pydl.autograd.grad(layer(x)[0].sum(), x)[0].numpy(), expected, rtol=1e-5, atol=1e-7)

    x = table(ids)
    x.retain_grad()
    layer(x)[0].sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-5, atol=1e-7)

    x, seen = table(ids), []
    y = layer(x)[0].sum()
    x.register_hook(lambda g: seen.append(g.numpy()))
    y.backward()
    np.testing.assert_allclose(seen[0], expected, rtol=1e-5, atol=1e-7)


def test_a_table_changed_before_backward_is_not_read_again() -> None:
    table, layer, ids = parts()
    layer(table(ids) * 1.0)[0].sum().backward()
    expected = {name: p.grad.numpy().copy() for name, p in [*layer.named_parameters(), *table.named_parameters()]}
    layer.zero_grad()
    table.zero_grad()
    y = layer(table(ids))[0].sum()
    with pydl.no_grad():
        table.weight.fill_(100.0)
    y.backward()
    for name, p in [*layer.named_parameters(), *table.named_parameters()]:
        np.testing.assert_allclose(p.grad.numpy(), expected[name], rtol=1e-5, atol=1e-6)


def test_rows_changed_in_place_are_what_the_layer_reads() -> None:
    table, layer, ids = parts()
    with pydl.no_grad():
        x = table(ids)
        x += 1.0
        np.testing.assert_array_equal(layer(x)[0].numpy(), layer(x.clone())[0].numpy())
        x = table(ids)
        table.weight.zero_()
        np.testing.assert_array_equal(layer(x)[0].numpy(), layer(x.clone())[0].numpy())


def test_a_frozen_table_gets_no_gradient() -> None:
    table, layer, ids = parts()
    table.weight.requires_grad = False
    layer(table(ids))[0].sum().backward()
    assert table.weight.grad is None
    assert layer.weight_ih_l0.grad is not None


def test_the_rows_themselves_can_be_the_leaf() -> None:
    table, layer, ids = parts()
    with pydl.no_grad():
        x = table(ids)
    x.requires_grad_()
    layer(x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert table.weight.grad is None


@pytest.mark.parametrize("cell", CELLS)
def test_same_bits_for_any_number_of_threads(cell: str) -> None:
    before = pydl.get_num_threads()

    def bits(threads: int) -> list[bytes]:
        pydl.set_num_threads(threads)
        pydl.manual_seed(0)
        table, layer = nn.Embedding(11, 70), CELLS[cell](70, 90)
        layer(table(pydl.randint(0, 11, (20, 13))))[0].sum().backward()
        return [p.grad.numpy().tobytes() for p in (*table.parameters(), *layer.parameters())]

    try:
        assert bits(1) == bits(2) == bits(3)
    finally:
        pydl.set_num_threads(before)
