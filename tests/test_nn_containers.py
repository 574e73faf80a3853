"""Sequential, ModuleList, ModuleDict, ParameterList and ParameterDict."""

from __future__ import annotations

import numpy as np
import pytest

import pydl
from pydl import nn


def linears(*sizes: int) -> list[nn.Linear]:
    return [nn.Linear(1, n) for n in sizes]


def test_sequential_calls_in_order() -> None:
    a, b = nn.Linear(3, 4), nn.Linear(4, 2)
    x = pydl.ones((5, 3))
    np.testing.assert_array_equal(
        nn.Sequential(a, nn.Tanh(), b)(x).detach().numpy(), b(pydl.tanh(a(x))).detach().numpy()
    )
    assert nn.Sequential()(x) is x


def test_sequential_names_slices_and_edits() -> None:
    a, b, c = linears(1, 2, 3)
    named = nn.Sequential({"in": a, "out": b})
    assert list(named.state_dict()) == ["in.weight", "in.bias", "out.weight", "out.bias"]
    assert named[-1] is b
    assert list(named[1:].named_children()) == [("out", b)]
    named.append(c)
    assert [name for name, _ in named.named_children()] == ["in", "out", "2"]
    del named[0]
    assert [name for name, _ in named.named_children()] == ["out", "2"]
    row = nn.Sequential(a, b)
    row.insert(1, c)
    assert list(row) == [a, c, b]
    assert [name for name, _ in row.named_children()] == ["0", "1", "2"]
    del row[0]
    assert dict(row.named_children()) == {"0": c, "1": b}
    row[0] = a
    assert list(row.extend([c])) == [a, b, c]
    assert row.pop() is c
    assert len(row) == 2
    with pytest.raises(IndexError, match="index 5 is out of range, it has 2"):
        row[5]
    with pytest.raises(TypeError, match=r"\[Sequential\] got a int, expected a Module"):
        nn.Sequential(a, 3)


def test_sequential_may_hold_one_module_twice() -> None:
    shared = nn.Linear(2, 2)
    twice = nn.Sequential(shared, nn.ReLU(), shared)
    assert len(list(twice.parameters())) == 2
    assert list(twice.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    x = pydl.ones((1, 2))
    np.testing.assert_array_equal(twice(x).detach().numpy(), shared(pydl.maximum(shared(x), 0.0)).detach().numpy())


def test_module_list() -> None:
    a, b, c = linears(1, 2, 3)
    entries = nn.ModuleList([a, b])
    assert (len(entries), entries[0], entries[-1]) == (2, a, b)
    assert list(entries[::-1]) == [b, a]
    assert list(entries.__add__([c])) == [a, b, c]
    entries += [c]
    assert c in entries
    assert list(entries.state_dict())[-1] == "2.bias"
    del entries[:2]
    assert dict(entries.named_children()) == {"0": c}
    with pytest.raises(NotImplementedError):
        entries(1)
    with pytest.raises(TypeError):
        entries.append(None)


def test_module_dict() -> None:
    a, b, c = linears(1, 2, 3)
    heads = nn.ModuleDict({"x": a})
    heads["y"] = b
    heads.update([("x", c)])
    assert list(heads.items()) == [("x", c), ("y", b)]
    assert list(heads.keys()) == list(heads) == ["x", "y"]
    assert "y" in heads
    assert heads.pop("y") is b
    assert list(heads.values()) == [c]
    with pytest.raises(KeyError, match=r"\[ModuleDict\] has no 'y'; it has: x"):
        heads["y"]
    with pytest.raises(KeyError, match="attribute 'keys' already"):
        heads["keys"] = a
    heads.clear()
    assert len(heads) == 0
    assert not heads.state_dict()


def test_parameter_list_and_dict() -> None:
    row = nn.ParameterList([pydl.zeros((2,)), nn.Parameter(pydl.ones((3,)))])
    row.append(pydl.zeros((1,)))
    assert [tuple(p.shape) for p in row] == [(2,), (3,), (1,)]
    assert [name for name, _ in row.named_parameters()] == ["0", "1", "2"]
    assert all(p.requires_grad for p in row.parameters())
    assert "(1): Parameter of shape (3,)" in repr(row)
    named = nn.ParameterDict({"a": pydl.zeros((2,))})
    named["b"] = pydl.ones(())
    assert list(named.state_dict()) == ["a", "b"]
    with pytest.raises(TypeError, match="expected a Tensor"):
        named["c"] = 3


def test_sequentials_add_and_multiply() -> None:
    a, b = nn.Linear(2, 2), nn.Tanh()
    assert list(nn.Sequential(a) + nn.Sequential(b)) == [a, b]
    assert list(nn.Sequential(a, b) * 2) == list(2 * nn.Sequential(a, b)) == [a, b, a, b]
    model = nn.Sequential(a)
    model += nn.Sequential(b)
    model *= 2
    assert list(model) == [a, b, a, b]
    with pytest.raises(TypeError, match=r"\[Sequential\] got a Tanh"):
        model + b
    with pytest.raises(ValueError, match=r"\[Sequential\] got 0 times"):
        model * 0


def test_parameter_dicts_are_dicts() -> None:
    x, y = nn.Parameter(pydl.zeros((1,))), nn.Parameter(pydl.ones((2,)))
    d = nn.ParameterDict({"x": x})
    assert d.get("x") is x
    assert d.get("y") is None
    assert d.setdefault("y", y) is y
    assert d.setdefault("x", y) is x
    assert list(reversed(d)) == ["y", "x"]
    assert dict((d | {"z": x}).items()) == {"x": x, "y": y, "z": x}
    assert dict(({"x": y} | d).items()) == {"x": x, "y": y}
    d |= {"w": y}
    assert d.popitem() == ("w", y)
    assert list(d.copy().keys()) == ["x", "y"]
    assert list(d.fromkeys(["a", "b"], x).keys()) == ["a", "b"]
    values = nn.ParameterList([x])
    values += [y]
    assert list(values) == [x, y]
