"""The command line as a user meets it: what is said, where, with which exit status, and that nothing is overwritten."""

from __future__ import annotations

import os
import pathlib
import pty
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

import pydl
from pydl.cli import main
from pydl.models.char_lm import CharLM
from pydl.train.progress import format_count, format_seconds

_FLAGS = "--hidden 12 --layers 1 --seq-length 8 --batch-size 4 --max-iters 20 --eval-every 10 --sample-every 10"
QUICK = _FLAGS.split()
TEXT = "it was the best of times, it was the worst of times, it was the age of wisdom, " * 8


@pytest.fixture
def text(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "times.txt"
    path.write_text(TEXT)
    return str(path)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process -> exit status, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # --help and --version
            status = int(stop.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return call


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pydl", *map(str, arguments)]


def test_info_and_version(run: Run) -> None:
    status, out, err = run("info")
    assert (status, err) == (0, "")
    rows = dict(line.split("  ", 1) for line in out.splitlines())
    assert rows["pydl"].strip() == pydl.__version__
    assert any("threads" in key for key in rows)
    status, out, _ = run("--version")
    assert (status, out) == (0, f"pydl {pydl.__version__}\n")


def test_every_command_has_help(run: Run) -> None:
    for arguments in ([], ["charlm"], ["charlm", "train"], ["charlm", "sample"], ["charlm", "inspect"], ["info"]):
        status, out, err = run(*arguments, "--help")
        assert (status, err) == (0, "")
        assert out.startswith("usage: pydl")


def test_train_then_sample(run: Run, text: str, tmp_path: pathlib.Path) -> None:
    out_dir = tmp_path / "deep" / "run"
    status, out, err = run("charlm", "train", text, "--out", out_dir, *QUICK)
    assert status == 0, err
    assert f"{len(TEXT):,} characters" in out
    assert out.count("bits/char") == 2
    assert "done after iteration 20" in out
    assert sorted(contents(out_dir)) == ["checkpoint.safetensors", "history.csv", "samples.txt"]

    status, out, err = run("charlm", "sample", out_dir, "--start", "it was", "--length", "40", "--seed", "3")
    assert (status, err) == (0, "")
    model = CharLM.load(out_dir / "checkpoint.safetensors")
    assert out.rstrip("\n") == ("it was" + model.generate("it was", 40, seed=3)).rstrip("\n")
    again = run("charlm", "sample", out_dir, "--start", "it was", "--length", "40", "--seed", "3", "--threads", "1")
    assert again == (0, out, "")
    greedy = run("charlm", "sample", out_dir, "--start", "it", "--greedy", "--length", "9")
    assert greedy == run("charlm", "sample", out_dir, "--start", "it", "--temperature", "0", "--length", "9")
    options = ["--top-k", "5", "--top-p", "0.9", "--temperature", "0.7", "--length", "9"]
    expected = model.generate(length=9, top_k=5, top_p=0.9, temperature=0.7)
    assert run("charlm", "sample", out_dir, *options)[1].rstrip("\n") == expected.rstrip("\n")
    expected = pydl.nn.quantize_dynamic(model).generate(length=30, seed=3)
    assert run("charlm", "sample", out_dir, "--int8", "--length", "30", "--seed", "3")[1].rstrip() == expected.strip()


def test_a_folder_and_the_default_text(run: Run, text: str, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT)
    (folder / "b.bin").write_bytes(b"\0\1")
    status, out, _ = run("charlm", "train", folder, text, "--out", tmp_path / "run", *QUICK)
    assert status == 0
    assert "2 files" in out
    assert "passed over" in out
    assert "b.bin" in out
    status, out, _ = run("charlm", "train", "--out", tmp_path / "python", *QUICK, "--max-iters", "2", "--val-frac", "0")
    assert status == 0
    assert "Python's standard library" in out


def test_resume_to_go_further(run: Run, text: str, tmp_path: pathlib.Path) -> None:
    assert run("charlm", "train", text, "--out", tmp_path / "run", *QUICK)[0] == 0
    status, out, _ = run("charlm", "train", "--out", tmp_path / "run", "--resume")
    assert status == 0
    assert "finished after 20 iterations" in out
    status, out, _ = run("charlm", "train", "--out", tmp_path / "run", "--resume", "--max-iters", "30")
    assert status == 0
    assert "goes on after iteration 20" in out
    run("charlm", "train", text, "--out", tmp_path / "whole", *QUICK, "--max-iters", "30")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_resume_where_nothing_was_saved_yet_begins(run: Run, text: str, tmp_path: pathlib.Path) -> None:
    assert run("charlm", "train", text, "--out", tmp_path / "a", "--resume", *QUICK)[0] == 0
    assert run("charlm", "train", text, "--out", tmp_path / "b", *QUICK)[0] == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    status, _, err = run("charlm", "train", "--out", tmp_path / "missing", "--resume")
    assert status == 2
    assert "nothing to go on with" in err


WRONG = {
    "no command": ([], "required: COMMAND"),
    "unknown command": (["fly"], "invalid choice: 'fly'"),
    "unknown flag": (["charlm", "train", "TEXT", "--out", "NEW", "--hiden", "3"], "--hiden"),
    "abbreviated flag": (["charlm", "train", "TEXT", "--out", "NEW", "--hid", "3"], "--hid"),
    "no out": (["charlm", "train", "TEXT"], "required: --out"),
    "no number": (["charlm", "train", "TEXT", "--out", "NEW", "--hidden", "many"], "--hidden: invalid int value"),
    "out of range": (["charlm", "train", "TEXT", "--out", "NEW", "--seq-length", "0"], "--seq-length 0, expected 1"),
    "unknown cell": (["charlm", "train", "TEXT", "--out", "NEW", "--cell", "brain"], "invalid choice: 'brain'"),
    "no threads": (["charlm", "train", "TEXT", "--out", "NEW", "--threads", "0"], "--threads 0"),
    "missing file": (["charlm", "train", "MISSING", "--out", "NEW"], "missing: No such file"),
    "empty file": (["charlm", "train", "EMPTY", "--out", "NEW"], "is empty"),
    "binary file": (["charlm", "train", "BINARY", "--out", "NEW"], "is binary"),
    "short text": (["charlm", "train", "SHORT", "--out", "NEW"], "at least 2501"),
    "out is a file": (["charlm", "train", "TEXT", "--out", "TEXT", *QUICK], "expected a folder"),
    "out below a file": (["charlm", "train", "TEXT", "--out", "TEXT/run", *QUICK], "Not a directory"),
    "out is taken": (["charlm", "train", "TEXT", "--out", "RUN", *QUICK], "add --resume"),
    "other flags": (["charlm", "train", "--out", "RUN", "--resume", "--hidden", "99"], "--hidden 99 (it has 12)"),
    "other text": (["charlm", "train", "OTHER", "--out", "RUN", "--resume"], "text is not the one"),
    "nothing to resume": (["charlm", "train", "--out", "NEW", "--resume"], "nothing to go on with"),
    "damaged run": (["charlm", "train", "--out", "DAMAGED", "--resume"], "checkpoint.safetensors"),
    "foreign run": (["charlm", "train", "--out", "FOREIGN", "--resume"], "no state of a training"),
    "sample without a run": (["charlm", "sample", "MISSING"], "missing: No such file"),
    "sample an empty folder": (["charlm", "sample", "FOLDER"], "No such file"),
    "sample a damaged file": (["charlm", "sample", "DAMAGED"], "checkpoint.safetensors"),
    "sample a foreign file": (["charlm", "sample", "FOREIGN"], "another kind"),
    "sample a text": (["charlm", "sample", "TEXT"], "times.txt"),
    "unknown character": (["charlm", "sample", "RUN", "--start", "it w#s"], "'#' (U+0023) at position 4"),
    "cold": (["charlm", "sample", "RUN", "--temperature", "-1"], "temperature -1"),
    "two temperatures": (["charlm", "sample", "RUN", "--temperature", "1", "--greedy"], "not allowed with"),
    "top-p": (["charlm", "sample", "RUN", "--top-p", "1.5"], "top_p 1.5"),
    "negative length": (["charlm", "sample", "RUN", "--length", "-5"], "length -5"),
    "negative seed": (["charlm", "sample", "RUN", "--seed", "-5"], "seed -5"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_one_line_and_change_nothing(case: str, run: Run, text: str, tmp_path: pathlib.Path) -> None:
    arguments, message = WRONG[case]
    names = {
        name: str(tmp_path / name.lower()) for name in ("MISSING", "EMPTY", "BINARY", "SHORT", "OTHER", "NEW", "FOLDER")
    }
    names |= {name: str(tmp_path / name.lower()) for name in ("RUN", "DAMAGED", "FOREIGN")} | {"TEXT": text}
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "binary").write_bytes(b"\x7fELF\0\0")
    (tmp_path / "short").write_text("short")
    (tmp_path / "other").write_text(TEXT + "!")
    for folder in ("folder", "damaged", "foreign"):
        (tmp_path / folder).mkdir()
    if set(arguments) & {"RUN", "DAMAGED"}:
        assert run("charlm", "train", text, "--out", names["RUN"], *QUICK)[0] == 0
        data = (tmp_path / "run/checkpoint.safetensors").read_bytes()
        (tmp_path / "damaged/checkpoint.safetensors").write_bytes(data[: len(data) // 2])
    pydl.serialization.save_file({"w": pydl.zeros((2,))}, tmp_path / "foreign/checkpoint.safetensors")
    before = contents(tmp_path)
    used = [next((a.replace(n, path) for n, path in names.items() if a.split("/")[0] == n), a) for a in arguments]
    status, _, err = run(*used)
    assert status == 2, err
    assert message in err
    assert err.count("\n") == 1
    assert err.startswith("pydl: ")
    assert contents(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_full_disk(text: str, tmp_path: pathlib.Path) -> None:
    def limit(size: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    out = tmp_path / "run"
    train = command("charlm", "train", text, "--out", out, *QUICK, "--save-every", "1")
    done = subprocess.run(train, capture_output=True, text=True, preexec_fn=limit(4096), check=False)
    assert done.returncode in (1, 2)
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("pydl: ")
    assert contents(tmp_path).keys() == {"times.txt"}

    # With room for the first checkpoint and none for those that come later, the last good one stays.
    subprocess.run(
        command("charlm", "train", text, "--out", out, *QUICK, "--max-iters", "1"), check=True, capture_output=True
    )
    before = contents(out)
    room = len(before["checkpoint.safetensors"]) + 8
    train = command("charlm", "train", text, "--out", out, "--resume", "--max-iters", "2000")
    done = subprocess.run(train, capture_output=True, text=True, preexec_fn=limit(room), check=False)
    assert done.returncode == 1, done.stderr
    assert f"{out}/checkpoint.safetensors: File too large; the checkpoint before it is whole" in done.stderr
    after = contents(out)
    assert after.keys() == before.keys()
    assert after["checkpoint.safetensors"] == before["checkpoint.safetensors"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(run: Run, text: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    status, _, err = run("charlm", "train", text, "--out", tmp_path / "closed" / "run", *QUICK)
    assert status == 2
    assert "Permission denied" in err


def test_output_that_nobody_reads(text: str, tmp_path: pathlib.Path) -> None:
    subprocess.run(command("charlm", "train", text, "--out", tmp_path / "run", *QUICK), check=True, capture_output=True)
    sample = subprocess.Popen(
        command("charlm", "sample", tmp_path / "run", "--length", "1000000"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert sample.stdout is not None
    assert sample.stderr is not None
    sample.stdout.read(10)
    sample.stdout.close()
    assert sample.stderr.read() == b""
    sample.stderr.close()
    assert sample.wait() == 141


def start_long_run(text: str, out: pathlib.Path, *more: str) -> subprocess.Popen[str]:
    """A run of many iterations, once its first checkpoint is there and steps are being taken."""
    long = [*QUICK, "--max-iters", "1000000", "--eval-every", "1000000", "--sample-every", "1000000", *more]
    process = subprocess.Popen(
        command("charlm", "train", text, "--out", out, *long), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("run:"):
            time.sleep(0.2)
            return process
    raise AssertionError(process.communicate())


def test_ctrl_c_saves_and_says_how_to_go_on(text: str, tmp_path: pathlib.Path) -> None:
    process = start_long_run(text, tmp_path / "run")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"go on with: pydl charlm train --out {tmp_path / 'run'} --resume" in out
    assert "once more ends at once" in err
    stopped = int(out.split("stopped after iteration ")[1].split(":")[0].replace(",", ""))
    goal = [*QUICK, "--eval-every", "1000000", "--sample-every", "1000000", "--max-iters", str(stopped + 5)]
    for name, more in (("run", ["--resume"]), ("whole", [])):
        train = command("charlm", "train", text, "--out", tmp_path / name, *goal, *more)
        subprocess.run(train, check=True, capture_output=True)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_second_ctrl_c_ends_at_once(text: str, tmp_path: pathlib.Path) -> None:
    process = start_long_run(text, tmp_path / "run", "--hidden", "1500", "--batch-size", "40")  # slow steps
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert any("once more" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in err
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_bar_on_a_terminal(environment: dict[str, str], text: str, tmp_path: pathlib.Path) -> None:
    ours, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "100", **environment}
    if "NO_COLOR" not in environment:
        variables.pop("NO_COLOR", None)
    process = subprocess.Popen(
        command("charlm", "train", text, "--out", tmp_path / "run", *QUICK, "--max-iters", "400"),
        stdout=theirs,
        stderr=theirs,
        env=variables,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    screen = shown.decode()
    colors = screen.count("\x1b[") - screen.count("\x1b[2K")
    assert (colors == 0) == bool(environment)
    assert ("\r\x1b[2K" in screen) == ("TERM" not in environment)
    if "TERM" not in environment:
        assert "bits/char" in screen
        assert "left" in screen
        bars = [piece for piece in screen.split("\r") if "char/s" in piece]
        assert all(len(bar.split("\n")[0]) <= 99 + len("\x1b[2K\x1b[32m\x1b[0m") for bar in bars)


def test_plain_lines_elsewhere(text: str, tmp_path: pathlib.Path) -> None:
    train = command("charlm", "train", text, "--out", tmp_path / "run", *QUICK)
    done = subprocess.run(
        train, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr


def test_formats() -> None:
    assert [format_seconds(s) for s in (0, 7.4, 59.6, 754, 3723)] == ["0:00", "0:07", "1:00", "12:34", "1:02:03"]
    assert [format_count(n) for n in (0.5, 999, 1000, 123456, 9.99e6, 2e9)] == [
        "0.5",
        "999",
        "1k",
        "123k",
        "9.99M",
        "2G",
    ]
