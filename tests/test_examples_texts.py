"""The texts example: what it reads, and that samples, model and page are what they say."""

from __future__ import annotations

import pathlib

import pytest

from pydl.examples import texts
from pydl.models import CharLM


def test_what_is_read(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("a.c", "int a;"), ("b.h", "int b;"), ("c.py", "c = 1"), ("d.tex", "$d$"), ("e.md", "e")):
        (tmp_path / name).write_text(text)
    (tmp_path / "tinyshakespeare.txt").write_text("First Citizen:")
    folder = str(tmp_path)
    (tmp_path / ".many").mkdir()
    for i in range(100):
        (tmp_path / ".many" / f"{i:02}.c").write_text(f"int a{i:02};\n")
    drawn = texts.read("c", str(tmp_path / ".many"), 90)
    assert len(drawn) == 90
    lines = drawn.splitlines()
    assert len(set(lines)) == 10
    assert lines != sorted(lines)
    assert all((tmp_path / ".many" / f"{line[5:7]}.c").read_text() == line + "\n" for line in lines)
    assert texts.read("c", folder) == "int a;\nint b;"
    assert texts.read("python", folder) == "c = 1"
    assert texts.read("latex", folder) == "$d$"
    assert texts.read("literature", str(tmp_path / "e.md")) == "e"
    monkeypatch.setenv("PYDL_DATA", folder)
    assert texts.read("literature", None) == "First Citizen:"
    with pytest.raises(FileNotFoundError):
        texts.read("latex", None)
    with pytest.raises(SystemExit, match=r"no c text: give --data, .* of \.c and \.h files"):
        texts.read("c", None)
    monkeypatch.delenv("PYDL_DATA")
    with pytest.raises(SystemExit, match=r"no literature text: give --data"):
        texts.read("literature", None)
    assert "import" in texts.read("python", None)


def test_the_end_begins_outside_of_quotations() -> None:
    text = 'a = 1\n"""\nsome words\n\nmore\n"""\nb = "c"\nd = 2\n'
    assert texts.whole_lines(text, text.index("words")) == 'b = "c"\nd = 2\n'
    assert texts.whole_lines(text, text.index("b =")) == 'b = "c"\nd = 2\n'
    assert texts.whole_lines(text, text.index("= 2")) == "= 2\n"
    assert texts.whole_lines("no lines at all", 3) == "lines at all"


def test_it_trains_samples_and_looks_inside(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f'    if x == {i % 7}: say("number {i % 5}")  # {i % 3}\n' for i in range(900)]
    (tmp_path / "text.py").write_text("".join(lines))
    arguments = ["--data", str(tmp_path / "text.py"), "--epochs", "6", "--hidden", "24", "--out", str(tmp_path)]
    results = texts.main(arguments)
    assert results["bits"] < 4.0
    assert [sample["iteration"] for sample in results["samples"]] == [1, 10, 30, 72]
    table = capsys.readouterr().out.splitlines()[2:6]
    assert [line.split()[0] for line in table] == ["1", "10", "30", "72"]
    bits = [float(line.split()[2]) for line in table]
    assert bits == sorted(bits, reverse=True)
    assert {row["feature"] for row in results["units"]} >= {"in quotes", "position in line"}
    assert max(abs(row["correlation"]) for row in results["units"]) > 0.3
    written = (tmp_path / "python-samples.txt").read_text()
    assert written.count("--- iteration") == 4
    assert results["samples"][-1]["text"] in written
    model = CharLM.load(tmp_path / "python.safetensors")
    assert model.generate(length=300, temperature=0.7, seed=0) == results["samples"][-1]["text"]
    page = (tmp_path / "python.html").read_text()
    assert page.count('"iteration":') == 4


@pytest.mark.slow
def test_python_is_learned() -> None:
    results = texts.main(["--epochs", "3"])
    assert results["bits"] < 2.4
    assert "self" in results["samples"][-1]["text"] or "return" in results["samples"][-1]["text"]
