"""Tensor's methods that are found when they are first asked for."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest

import pydl
from pydl._method_names import COMPOSITION_METHODS, FUNCTION_METHODS, IN_PLACE_METHODS


@pytest.mark.parametrize("name", sorted(FUNCTION_METHODS | COMPOSITION_METHODS | IN_PLACE_METHODS))
def test_every_name_leads_to_a_method(name: str) -> None:
    assert callable(getattr(pydl.Tensor, name))
    assert name in dir(pydl.ones(2))
    if name in FUNCTION_METHODS | COMPOSITION_METHODS:
        assert getattr(pydl.Tensor, name).__doc__ == getattr(pydl, name).__doc__


def test_compositions_that_torch_has_as_methods_are_methods_here() -> None:
    torch = pytest.importorskip("torch")
    from pydl import _compositions

    both = {name for name in _compositions.__all__ if hasattr(torch.Tensor, name)}
    assert len(both) > 50
    assert sorted(name for name in both if not hasattr(pydl.Tensor, name)) == []


def test_what_does_not_exist_is_an_attribute_error() -> None:
    x = pydl.ones(2)
    with pytest.raises(AttributeError, match="'Tensor' object has no attribute 'cosy'"):
        _ = x.cosy
    assert not hasattr(x, "sum_")
    assert not hasattr(x, "__array_struct__")


def test_looking_up_names_imports_nothing() -> None:
    code = """if True:
        import sys, pydl
        assert "cumsum" in dir(pydl.ones(2)) and not hasattr(pydl.ones(2), "cosy")
        assert "pydl._compositions" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_backward_takes_its_arguments_by_place_and_by_name() -> None:
    x = pydl.asarray([1.0, 2.0], requires_grad=True)
    y = x * x
    y.backward(pydl.asarray([1.0, 10.0]), True)
    y.backward(gradient=pydl.asarray([1.0, 10.0]), retain_graph=False, create_graph=False)
    assert x.grad is not None
    assert x.grad.tolist() == [4.0, 80.0]
    with pytest.raises(RuntimeError, match="freed by an earlier backward"):
        y.backward(pydl.ones(2))
    with pytest.raises(TypeError, match="unknown argument 'retain'"):
        (x * x).sum().backward(retain=True)
    with pytest.raises(TypeError, match="two values for 'gradient'"):
        (x * x).backward(pydl.ones(2), gradient=pydl.ones(2))
    with pytest.raises(TypeError, match="gradient must be a tensor or None, got float"):
        (x * x).sum().backward(1.0)
    with pytest.raises(TypeError, match="at most 3 arguments, got 4"):
        (x * x).sum().backward(None, None, False, None)


@pytest.mark.parametrize("kind", ["tensor", "parameter", "subclass"])
def test_attributes_weak_references_and_cycles(kind: str) -> None:
    class Named(pydl.Tensor):
        pass

    make = {"tensor": pydl.ones, "parameter": lambda n: pydl.nn.Parameter(pydl.ones(n)), "subclass": Named}[kind]
    x = make(3)
    assert vars(x) == {}
    x.name = "x"
    assert vars(x) == {"name": "x"}
    with pytest.raises(AttributeError):
        _ = x.title
    gone = weakref.ref(x)
    del x
    assert gone() is None
    cycle = make(3)
    cycle.itself = cycle
    gone = weakref.ref(cycle)
    del cycle
    gc.collect()
    assert gone() is None
