"""`python -m bench`: pydl beside its peers. `python -m bench compare REV_A REV_B`: two commits of pydl.

Every case is checked against float64 before it is timed. The sides run in processes of their own on the same CPUs and
take turns; what counts is the median over the rounds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from bench import ROOT, machine, report
from bench.cases import select
from bench.compare import compare
from bench.process import SIDES, SideError
from bench.run import run, start


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("command", nargs="*", metavar="compare REV_A REV_B", help="two commits instead of the peers")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--threads", type=int, default=available, help=f"of every side; default all, {available}")
    parser.add_argument("--isa", choices=["v2", "v3", "v4", "neon"], help="pydl's ISA level; default the best")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where the cases run; default cpu")
    parser.add_argument("--only", metavar="WORDS", help="cases whose name has one of these words (comma-separated)")
    peers = [name for name in SIDES if name != "pydl"]
    parser.add_argument("--peers", default=",".join(peers), help="from: %(default)s; none is an empty string")
    parser.add_argument("--rounds", type=int, help="default 9, with --quick 3")
    parser.add_argument("--quick", action="store_true", help="short batches and few rounds, to see that all works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table and the machine")
    parser.add_argument("--update-readme", action="store_true", help="put them between the markers of README.md")
    return parser


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    rounds = arguments.rounds or (3 if arguments.quick else 9)
    budget = 0.05 if arguments.quick else 0.2
    peers = [name for name in arguments.peers.split(",") if name]
    unknown = sorted(set(peers) - (set(SIDES) - {"pydl"}))
    if unknown:
        parser.error(f"--peers: got {', '.join(unknown)}, expected some of: {', '.join(list(SIDES)[1:])}")
    if arguments.threads < 1 or rounds < 1:
        parser.error("--threads and --rounds must be 1 or more")
    try:
        cases = select(arguments.only, arguments.device)
        if arguments.update_readme:
            report.replace_between_markers(ROOT / "README.md", None)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    threads = machine.pin(arguments.threads)
    if arguments.command:
        if len(arguments.command) != 3 or arguments.command[0] != "compare":
            parser.error(f"got {' '.join(arguments.command)}, expected nothing or: compare REV_A REV_B")
        try:
            text = compare(arguments.command[1:], cases, threads, arguments.isa, rounds, budget)
        except (SideError, subprocess.CalledProcessError) as error:
            print(f"python -m bench compare: {error}", file=sys.stderr)
            return 1
        print(text)
        if arguments.markdown:
            arguments.markdown.write_text(text)
        return 0
    sides, missing = start(["pydl", *peers], threads, arguments.isa, arguments.device)
    try:
        if "pydl" not in sides:
            print(f"python -m bench: pydl does not start: {missing['pydl']}", file=sys.stderr)
            return 1
        outcome = run(cases, sides, missing, threads, rounds, budget)
    finally:
        for side in sides.values():
            side.close()
    text = report.markdown(outcome)
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text)
    if arguments.json:
        arguments.json.write_text(report.as_json(outcome))
    if arguments.update_readme:
        report.replace_between_markers(ROOT / "README.md", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
