"""Two commits of pydl against each other: each is installed into a folder of its own, then they take turns."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import ROOT
from bench.cases import Case
from bench.process import Side
from bench.report import quantity
from bench.run import Row, run_case, say


def install(revision: str, folder: Path, isa: str | None) -> Path:
    """Builds a commit, for one ISA level if told so, and returns the folder that imports find it in.

    Raises:
        subprocess.CalledProcessError: there is no such commit, or it does not build.
    """
    source, target = folder / "source", folder / "installed"
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(source)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(source)]
    if all(importlib.util.find_spec(name) for name in ("scikit_build_core", "pybind11")):
        command.append("--no-build-isolation")
    if isa:
        command.append(f"--config-settings=cmake.define.PYDL_ISA_LEVELS={isa}")
    subprocess.run(command, check=True)
    return target


def _table(revisions: Sequence[str], rows: Sequence[Row]) -> str:
    a, b = revisions
    lines = [f"| workload | {a} | {b} | {b} / {a} | p10 – p90 of {b} |", "|---|---:|---:|---:|---|"]
    for row in rows:
        (old, new), unit = row.timings.values(), row.case.unit
        cells = [quantity(t.median, unit) if t.samples else f"failed: {t.error}" for t in (old, new)]
        ratio = f"{new.median / old.median:.3f}" if old.samples and new.samples else ""
        spread = f"{quantity(new.percentile(10), unit)} – {quantity(new.percentile(90), unit)}" if new.samples else ""
        lines.append("| " + " | ".join([row.case.name, *cells, ratio, spread]) + " |")
    return "\n".join(lines) + "\n"


def compare(
    revisions: Sequence[str], cases: Sequence[Case], threads: int, isa: str | None, rounds: int, budget: float
) -> str:
    """The table of two commits as Markdown: both medians and the second over the first.

    Raises:
        subprocess.CalledProcessError: as in `install`.
        SideError: an installed commit does not start.
    """
    sides: dict[str, Side] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for label, revision in zip("AB", revisions, strict=True):
                say(f"building {revision}")
                target = install(revision, Path(folder) / label, isa)
                sides[label] = Side("pydl", threads, isa, [target])
            rows = []
            for case in cases:
                rows.append(run_case(case, sides, rounds, budget))
                say(f"{case.name}: {', '.join(f'{t.median:.4g}' for t in rows[-1].timings.values())} {case.unit}")
        finally:
            for side in sides.values():
                side.close()
    return _table(revisions, [row for row in rows if len(row.timings) == 2])
