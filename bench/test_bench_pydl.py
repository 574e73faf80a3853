"""pydl alone through pytest-benchmark: `pytest bench/ --benchmark-only`. Every case is checked before it is timed."""

from __future__ import annotations

from typing import Any

import pytest

from bench import side_pydl
from bench.cases import CASES, Case

TIMED = [case for case in CASES if case.kind not in ("import_time", "installed_size")]


@pytest.mark.parametrize("case", TIMED, ids=lambda case: case.name)
def test_case(case: Case, benchmark: Any) -> None:
    work = side_pydl.BUILDERS[case.kind](case.inputs(), **case.sizes)
    case.check(work.results(), case.reference())
    benchmark(work.step)
