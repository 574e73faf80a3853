"""What a checker of types says of programs that use pydl."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pydl

GOOD = """
from pydl import nn
from pydl.constraints import MaxNorm, NonNeg
from pydl.regularizers import L1, L1L2, L2

layers = [
    nn.Linear(3, 2, kernel_regularizer=L2(1e-3), bias_regularizer=None, kernel_constraint=MaxNorm(3.0)),
    nn.Conv2d(1, 2, 3, padding="same", kernel_regularizer=L1L2(1e-3, 1e-4), activity_regularizer=L1(1e-5)),
    nn.LSTM(3, 2, kernel_regularizer=L2(1e-3), recurrent_regularizer=L1(1e-3)),
    nn.GRUCell(3, 2, recurrent_regularizer=L1(1e-3), bias_constraint=NonNeg()),
    nn.Embedding(3, 2, embeddings_regularizer=L2(1e-3)),
    nn.BatchNorm1d(3, gamma_regularizer=L2(1e-3), beta_constraint=NonNeg()),
    nn.LazyLinear(3, kernel_regularizer=L2(1e-3)),
    nn.TransformerEncoderLayer(4, 2, kernel_regularizer=lambda w: w.square().sum()),
]
"""
BAD = """
from pydl import nn

nn.Linear(3, 2, kernel_regularizer=3)
nn.Linear(3, 2, biass=True)
nn.Linear(3, 2, embeddings_regularizer=None)
"""


@pytest.mark.slow
def test_regularizers_as_arguments(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "bad.py").write_text(BAD)
    environment = {**os.environ, "MYPYPATH": str(Path(pydl.__file__).parents[1])}
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "good.py", "bad.py"]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False).stdout
    lines = [line for line in found.splitlines() if ": error: " in line]
    assert [line.partition(": error:")[0] for line in lines] == ["bad.py:4", "bad.py:5", "bad.py:6"], found
