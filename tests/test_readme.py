"""The README's tour runs as it stands, and is no longer than promised."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def test_tour_runs(tmp_path: Path) -> None:
    match = re.search(r"<!-- tour:begin -->\n```python\n(.*?)```\n<!-- tour:end -->", README.read_text(), re.DOTALL)
    assert match
    code = match[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 40
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "(4, 3) (4,)"
    assert float(lines[1].split()[-1]) < 0.3
    epochs, accuracy, shape = lines[2].split(maxsplit=2)
    assert 0 < int(epochs) <= 50
    assert float(accuracy) > 0.9
    assert shape == "(1, 2)"
    assert lines[3] == "(3, 10, 32) (4, 3, 16) 0.0"
    assert (tmp_path / "model.safetensors").exists()
