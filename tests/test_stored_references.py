"""Layers, functions, losses and optimizers against what PyTorch computed, kept in references.json: needs no PyTorch."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import pydl
from stored_references import FILE, all_names, numbers

REFERENCES = json.loads(FILE.read_text())
CASES = list(all_names())


def test_every_case_has_a_reference() -> None:
    assert sorted(REFERENCES) == sorted(name for name, _ in CASES)


@pytest.mark.parametrize(("name", "case"), CASES, ids=[name for name, _ in CASES])
def test_as_pytorch_computed(name: str, case: Any) -> None:
    got, wanted = numbers(pydl, name, case), REFERENCES[name]
    assert len(got) == len(wanted) > 0
    np.testing.assert_allclose(got, wanted, 1e-7, 1e-9 * max(1.0, *map(abs, wanted)))
