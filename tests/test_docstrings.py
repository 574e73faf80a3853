"""The examples in the docstrings of the packages that have many, and of the figures."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import pydl
from pydl import callbacks, metrics, models, nn, text, train

PACKAGES = (callbacks, metrics, models, nn, text, train)
MODULES = [m.name for package in PACKAGES for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
MODULES += [package.__name__ for package in PACKAGES]


@pytest.mark.parametrize("name", [*MODULES, "pydl.plots"])
def test_examples_give_what_they_show(name: str) -> None:
    if name == "pydl.plots":
        pytest.importorskip("matplotlib")
    failed, _ = doctest.testmod(importlib.import_module(name), extraglobs={"pydl": pydl})
    assert failed == 0
