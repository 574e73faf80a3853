"""The examples in the docstrings of pydl.nn and of the figures."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import pydl.nn

MODULES = [m.name for m in pkgutil.walk_packages(pydl.nn.__path__, "pydl.nn.")]


@pytest.mark.parametrize("name", [*MODULES, "pydl.plots"])
def test_examples_give_what_they_show(name: str) -> None:
    if name == "pydl.plots":
        pytest.importorskip("matplotlib")
    failed, _ = doctest.testmod(importlib.import_module(name), extraglobs={"pydl": pydl})
    assert failed == 0
