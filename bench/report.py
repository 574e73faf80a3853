"""An outcome as a table in Markdown, as JSON, and between the markers of the README."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.process import SIDES
from bench.run import Outcome, Row, Timing

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def quantity(value: float, unit: str) -> str:
    """Three digits in the unit that suits: 12.3 ms, 8.00 MB."""
    scales = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")) if unit == "s" else ((1e6, "MB"), (1e3, "kB"))
    scale, name = next((s for s in scales if value >= s[0]), scales[-1])
    scaled = value / scale
    return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f} {name}"


def _cell(timing: Timing | None, unit: str) -> str:
    if timing is None:
        return "–"
    return quantity(timing.median, unit) if timing.samples else "failed"


def _spread(timing: Timing | None, unit: str) -> str:
    if timing is None or len(timing.samples) < 2:
        return ""
    return f"{quantity(timing.percentile(10), unit)} – {quantity(timing.percentile(90), unit)}"


def _goal(row: Row) -> str:
    case, parts = row.case, []
    if case.goal is not None:
        parts.append(f"≤ {case.goal:g}")
    if case.limit is not None:
        parts.append(f"≤ {quantity(case.limit, case.unit)}")
    if case.share is not None:
        parts.append(f"≥ {case.share:.0%} of peak")
    return ", ".join(parts)


def _share(row: Row) -> str:
    if row.share is None:
        return ""
    return f"{row.share:.0%} of {'FMA' if row.case.of.flops(**row.case.sizes) else 'copy'}"


def table(outcome: Outcome) -> str:
    """The rows as a Markdown table: medians, spread, ratio, goal, share of the machine's peak."""
    names = list(outcome.info)
    header = [
        "workload",
        *(SIDES[n][2] for n in names),
        "pydl p10 – p90",
        "pydl / best",
        "goal",
        "met",
        "share of peak",
    ]
    lines = [header, ["---", *["---:"] * len(names), "---", "---:", "---", "---", "---:"]]
    for row in outcome.rows:
        ratio, unit = row.ratio, row.case.unit
        lines.append(
            [
                row.case.name,
                *(_cell(row.timings.get(n), unit) for n in names),
                _spread(row.timings.get("pydl"), unit),
                "" if ratio is None else f"{ratio:.2f}",
                _goal(row),
                {True: "yes", False: "no", None: "–"}[row.met],
                _share(row),
            ]
        )
    return _aligned(lines)


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = []
    for line in lines:
        cells = [
            cell[:-1].ljust(w - 1, "-") + ":" if cell == "---:" else cell.ljust(w, "-" if cell == "---" else " ")
            for cell, w in zip(line, widths, strict=True)
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def heading(outcome: Outcome) -> str:
    """Where and with what the run was made, in a few lines."""
    versions = [f"{SIDES[n][2]} {info['version']}" for n, info in outcome.info.items() if n != "compile"]
    isa = outcome.info.get("pydl", {}).get("isa", "–")
    flops = "not measured" if outcome.flops is None else f"{outcome.flops / 1e9:.0f} GFLOP/s ({outcome.flops_source})"
    device = outcome.info.get("pydl", {}).get("device")
    lines = [
        *([f"On {device}."] if device else []),
        f"{outcome.cpu}, {outcome.threads} threads, pydl's ISA level {isa}, {outcome.system}, {outcome.date}.",
        f"Python {outcome.python}, {', '.join(versions)}.",
        f"Medians of {outcome.rounds} rounds in which the sides take turns; results were checked first.",
        f"Peaks take turns too, with each row: {flops}, {outcome.bytes / 1e9:.1f} GB/s copied (read and written).",
    ]
    if outcome.load > 0.3 * outcome.threads:
        busy = (
            f"The machine was busy (load {outcome.load:.1f}): no ratio counts, and waiting threads that spin look slow."
        )
        lines.append(busy)
    lines += [f"Without {SIDES[name][2]}: {why}." for name, why in outcome.missing.items()]
    return "\n".join(lines)


def markdown(outcome: Outcome) -> str:
    """Heading, table, and what failed."""
    failed = [
        f"- {row.case.name}, {SIDES[name][2]}: {timing.error}"
        for row in outcome.rows
        for name, timing in row.timings.items()
        if timing.error
    ]
    return "\n\n".join([heading(outcome), table(outcome), *(["\n".join(failed)] if failed else [])]) + "\n"


def as_json(outcome: Outcome) -> str:
    """Everything that was measured, each batch of each side included."""
    fields: dict[str, Any] = {k: v for k, v in vars(outcome).items() if k != "rows"}
    fields["rows"] = [
        {
            "name": row.case.name,
            "unit": row.case.unit,
            "sizes": dict(row.case.sizes),
            "goal": row.case.goal,
            "limit": row.case.limit,
            "goal_share": row.case.share,
            "ratio": row.ratio,
            "share": row.share,
            "met": row.met,
            "sides": {
                name: {"error": t.error}
                if t.error
                else {"median": t.median, "p10": t.percentile(10), "p90": t.percentile(90), "samples": t.samples}
                for name, t in row.timings.items()
            },
        }
        for row in outcome.rows
    ]
    return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"


def replace_between_markers(path: Path, text: str | None) -> None:
    """Puts the text between the markers of a file; None only looks whether that can be done.

    Raises:
        OSError: it cannot be read or written.
        ValueError: it has not both markers.
    """
    old = path.read_text()
    head, begin, rest = old.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"[bench] {path} has no lines {BEGIN} and {END}; add them where the table shall be")
    if text is not None:
        path.write_text(f"{head}{BEGIN}\n{text.strip()}\n{END}{tail}")
