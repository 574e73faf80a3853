"""The benchmarks' cases at reduced sizes: what pydl would be timed on is right. Nothing is timed here."""

from __future__ import annotations

import dataclasses
import pathlib
import sys

import numpy as np
import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import pydl
from bench import machine, report, side_pydl, training_overheads
from bench.cases import CASES, CUDA_CASES, Case
from bench.process import Side, SideError
from bench.run import Outcome, Row, Timing, run_case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_results_are_those_of_the_reference(case: Case) -> None:
    case = case.reduced()
    work = side_pydl.BUILDERS[case.kind](case.inputs(), **case.sizes)
    case.check(work.results(), case.reference())
    assert work.measure is None or work.measure(1) > 0


@pytest.mark.skipif(not pydl.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", CUDA_CASES, ids=lambda case: case.name)
def test_results_on_a_gpu(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_pydl, "_device", "cuda")
    case = case.reduced()
    work = side_pydl.BUILDERS[case.kind](case.inputs(), **case.sizes)
    case.check(work.results(), case.reference())
    work.step()
    side_pydl.wait()


@pytest.mark.parametrize("case", CUDA_CASES, ids=lambda case: case.name)
def test_what_pytorch_is_timed_on_beside_it(case: Case) -> None:
    """On the CPU: that its side of the rows for a GPU runs and computes the same, autocast included."""
    pytest.importorskip("torch")
    from bench import side_torch

    case = case.reduced()
    work = side_torch.BUILDERS[case.kind](case.inputs(), **case.sizes)
    case.check(work.results(), case.reference())
    work.step()


def test_wrong_results_are_refused() -> None:
    case = CASES[0].reduced()
    reference = case.reference()
    wrong = {"y": reference["y"].copy()}
    wrong["y"][3, 5] += 1e-3
    with pytest.raises(ValueError, match="the error is"):
        case.check(wrong, reference)
    with pytest.raises(ValueError, match="shape"):
        case.check({"y": reference["y"][:1]}, reference)


def test_a_side_answers_from_its_own_process() -> None:
    case = next(case for case in CASES if case.name == "op_overhead_add_fwdbwd_1")
    side = Side("pydl", 1)
    try:
        assert side.info["version"]
        prepared = side.prepare(case)
        assert prepared is not None
        case.check(prepared[1], case.reference())
        assert 0 < side.measure(3) < 1
        side._process.kill()
        with pytest.raises(SideError, match="status -9"):
            side.measure(1)
        assert side.prepare(case) is not None
    finally:
        side.close()


def test_goals_and_table(tmp_path: pathlib.Path) -> None:
    case = dataclasses.replace(CASES[0], goal=0.5, limit=None, share=None)
    met = Row(case, {"pydl": Timing([1e-3, 2e-3, 3e-3]), "torch": Timing([5e-3]), "jax": Timing([4.1e-3])})
    missed = Row(case, {"pydl": Timing([1e-3]), "torch": Timing(error="broken"), "jax": Timing([1.5e-3])})
    assert met.ratio == pytest.approx(2 / 4.1)
    assert met.met is True
    assert missed.met is False
    assert Row(case, {"pydl": Timing([1e-3])}).met is None
    info = {name: {"version": "1"} for name in ("pydl", "torch", "jax")}
    outcome = Outcome([met, missed], 2, info, {"compile": "no compiler"}, 1e11, "a test", 2e10, 3, 0.0)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.replace_between_markers(readme, report.markdown(outcome))
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| 2.00 ms " in text
    assert "broken" in text
    assert '"ratio"' in report.as_json(outcome)


def test_overheads_of_training_are_measured() -> None:
    """That each way of measuring runs; how much it is depends on the machine."""
    tiny = training_overheads.NETWORKS[0]._replace(rows=320)
    found = training_overheads.watch(tiny, 0.02)
    assert 0 < found.own < found.step
    assert found.low <= found.ratio <= found.high
    alone, whole, without = training_overheads.loader_share(64, 3, 0.01)
    assert 0 < alone < whole
    assert without > 0
    assert training_overheads.predict_one(0.01) > 0
    assert training_overheads._median([float(i) for i in range(100)]) == (49.5, 39.0, 60.0)


def test_machine_code_of_the_probe() -> None:
    code = machine.fma_code(256)
    assert code.count(b"\x0d\xb8") == 12  # one opcode for each accumulator
    peak = machine.fma_peak(1, repeats=1)
    assert peak is None or (np.isfinite(peak) and peak > 1e8)


def test_the_peak_takes_turns_with_the_sides() -> None:
    class Fake:
        name = "pydl"
        measured = 0

        def prepare(self, case: Case) -> tuple[float, dict[str, np.ndarray]]:
            return 1.0, case.reference()

        def measure(self, n: int) -> float:
            self.measured += 1
            return 0.5

        def release(self) -> None:
            pass

    side, seen = Fake(), []

    def peak() -> float:
        seen.append(side.measured)
        return float(10**12 * len(seen))

    case = next(c for c in CASES if c.name == "gemm_64")
    row = run_case(case, {"pydl": side}, 3, 0.1, peak)
    assert seen == [1, 2, 3]
    assert row.peak == 2e12  # the middle one
    assert row.share == case.of.flops(**case.sizes) / 0.5 / 2e12
