"""Looking inside a CharLM: states against a loop through the model, scores against NumPy, and the page in a browser."""

from __future__ import annotations

import base64
import html.parser
import json
import pathlib
import re
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pydl
from pydl.cli import main
from pydl.models import CharLM, UnitScores, iterate_states, rank_units, record_states, score_units
from pydl.models.inspection_page import inspection_page, write_inspection_page
from pydl.text import text_features

TEXT = (
    'He said "no (never)" twice:\n\tdef f(x[1]):  # not "this\n\t\treturn \'a\' # it isn\'t\nEnd of it, "open\n\n' * 3
)


def make(cell: str = "lstm", text: str = TEXT, **options: Any) -> CharLM:
    pydl.manual_seed(5)
    model = CharLM(text, cell=cell, **{"hidden_size": 6, "num_layers": 2, **options})
    for parameter in model.parameters():  # far enough from 0 that the units move
        parameter.data = parameter.data * 3.0
    return model


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_states_are_those_of_a_loop_through_the_model(cell: str) -> None:
    model = make(cell, dropout=0.5)
    model.train()
    record = record_states(model, TEXT, top_k=4)
    assert model.training  # as it was
    model.eval()
    state = None
    for t, c in enumerate(TEXT):
        with pydl.no_grad():
            logits, state = model(pydl.asarray(model.vocabulary.encode(c)[None]), state)
        h, cell_state = state if cell == "lstm" else (state, None)
        np.testing.assert_array_equal(record.h[t], h.numpy()[:, 0])
        if cell == "lstm":
            assert record.c is not None
            np.testing.assert_array_equal(record.c[t], cell_state.numpy()[:, 0])
        odds = np.exp(logits.numpy()[0, 0].astype(np.float64))
        odds /= odds.sum()
        np.testing.assert_allclose(record.top_probabilities[t], np.sort(odds)[::-1][:4], rtol=2e-5)
        np.testing.assert_allclose(odds[record.top_ids[t]], record.top_probabilities[t], rtol=2e-5)
    if cell != "lstm":
        assert record.c is None
    assert record.h.dtype == np.float32
    assert record.h.shape == (len(TEXT), 2, 6)


def test_chunks_and_carried_state_are_the_whole() -> None:
    model = make()
    whole = record_states(model, TEXT)
    pieces = list(iterate_states(model, TEXT, chunk=37))
    assert "".join(piece.text for piece in pieces) == TEXT
    np.testing.assert_array_equal(np.concatenate([piece.h for piece in pieces]), whole.h)
    np.testing.assert_array_equal(np.concatenate([piece.c for piece in pieces]), whole.c)
    later = record_states(model, TEXT[50:], state=record_states(model, TEXT[:50]).state)
    np.testing.assert_array_equal(later.h, whole.h[50:])


def test_memory_does_not_grow_with_the_text() -> None:
    def peak(text: str) -> int:
        tracemalloc.start()
        for _ in iterate_states(model, text, chunk=100):
            pass
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    model = make(hidden_size=32)
    text = TEXT * 7
    states = 2 * 4 * len(text) * 2 * 32  # h and c, float32
    peak(text[:100])
    assert peak(text) - peak(text[:300]) < states / 4


def test_a_quantized_model_can_be_looked_into() -> None:
    model = pydl.nn.quantize_dynamic(make())
    record = record_states(model, TEXT[:20])
    with pydl.no_grad():
        _, (h, c) = model(pydl.asarray(model.vocabulary.encode(TEXT[:20])[None]))
    np.testing.assert_allclose(record.h[-1], h.numpy()[:, 0], atol=1e-5)
    np.testing.assert_allclose(record.c[-1], c.numpy()[:, 0], atol=1e-5)


def test_scores_are_correlations() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(500, 2, 4)) + 1e4  # sums of squares would cancel
    values[:, 1, 2] = 0.1  # never changes
    features = {"flag": rng.integers(0, 2, 500), "count": rng.integers(0, 9, 500), "never": np.zeros(500)}
    values[:, 0, 1] -= 3.0 * features["flag"]
    scores = score_units(values, features)
    for name in ("flag", "count"):
        for unit in np.ndindex(2, 4):
            if unit != (1, 2):
                expected = np.corrcoef(values[:, unit[0], unit[1]], features[name])[0, 1]
                assert scores[name][unit] == pytest.approx(expected, abs=1e-10)
        assert scores[name][1, 2] == 0.0
    assert not scores["never"].any()
    assert rank_units(scores["flag"])[0] == (0, 1)
    ranked = [abs(scores["flag"][unit]) for unit in rank_units(scores["flag"])]
    assert ranked == sorted(ranked, reverse=True)
    assert len(ranked) == 8

    pieces = UnitScores()
    for begin, end in ((0, 1), (1, 250), (250, 500)):
        pieces.update(values[begin:end], {name: column[begin:end] for name, column in features.items()})
    for name, r in pieces.result().items():
        np.testing.assert_allclose(r, scores[name], atol=1e-10)


def test_a_unit_that_counts_is_found() -> None:
    """A network made by hand: unit 2's state grows at "(" and shrinks at ")"."""
    text = "a(b(c)d)e(f)" * 5
    model = CharLM(text, cell="rnn", hidden_size=4, num_layers=1)
    for parameter in model.parameters():
        parameter.data = parameter.data * 0.0
    step = np.zeros((len(model.vocabulary), 4), np.float32)
    step[model.vocabulary.encode("(")[0], 2], step[model.vocabulary.encode(")")[0], 2] = 0.01, -0.01
    model.embedding.weight.data = pydl.asarray(step)
    model.rnn.weight_ih_l0.data = model.rnn.weight_hh_l0.data = pydl.asarray(np.eye(4, dtype=np.float32))
    scores = score_units(record_states(model, text).h, text_features(text))
    assert rank_units(scores["bracket depth"])[0] == (0, 2)
    assert scores["bracket depth"][0, 2] > 0.999


def picture(text: str, feature: str) -> str:
    return "".join("^" if value else "." for value in text_features(text)[feature])


@pytest.mark.parametrize(
    ("feature", "text", "expected"),
    [
        ("in quotes", 'a "b" c', "..^^..."),
        ("in quotes", "don't 'x' f'y'", "......^^...^^."),
        ("in quotes", "the dogs' tail", ".............."),
        ("in quotes", r'"a\"b" "c\\"d', r"^^^^^..^^^^.."),
        ("in quotes", "'''a'b'''c", "^^^^^^...."),
        ("in quotes", 'a "b\n\nc"', "........"),
        ("in quotes", 'a "b\nc"', "..^^^^."),
        ("in quotes", "'a\nb'", "....."),
        ("in quotes", "“a” «b»", "^^..^^."),
        ("in quotes", "# it's 'a'\n'b'", "...........^^."),
        ("in brackets", "f(a[1]) (", ".^^^^^..."),
        ("in brackets", "f(')') (]", ".^^^^...."),
        ("in brackets", "(a] b)", "^^^^^."),
        ("in a comment", "a # b\n#include <c>", "..^^^" + "." * 13),
        ("in a comment", "#\n #", "^..."),
        ("in a comment", "x/*.py */ # ", "..........^^"),
        ("in a comment", "a // b; // c\n//d", "........^^^^.^^^"),
        ("in a comment", "http://x /* a\nb */ c", ".........^^^^^^^^^.."),
        ("in indentation", "\ta\n  b c", "^..^^..."),
        ("line break", "a\n\nb", ".^^."),
        ("digit", "a1²b", ".^^."),
        ("capital", "aBÉ1", ".^^."),
        ("blank", "a \t\nb", ".^^^."),
    ],
)
def test_features(feature: str, text: str, expected: str) -> None:
    assert picture(text, feature) == expected


def test_features_that_count() -> None:
    features = text_features("(a[b]c)\n \t \tx\n")
    assert features["bracket depth"].tolist() == [1, 1, 2, 2, 1, 1, 0, *[0] * 7]
    assert features["position in line"].tolist() == [1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 0]
    assert features["indentation"].tolist() == [0] * 8 + [1, 8, 9, 16, 16, 0]
    assert all(column.shape == (0,) for column in text_features("").values())


def test_mistakes() -> None:
    model = make()
    with pytest.raises(ValueError, match="empty text"):
        record_states(model, "")
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\) at position 2, '漢' \(U\+6F22\) at position 4;"):
        iterate_states(model, "He\N{LATIN SMALL LETTER E WITH ACUTE} 漢é"[0:1] + "eéé漢é")
    with pytest.raises(ValueError, match="top_k 0, expected 1"):
        record_states(model, "He", top_k=0)
    with pytest.raises(ValueError, match="chunk 0"):
        iterate_states(model, "He", chunk=0)
    with pytest.raises(TypeError, match="got a model of type str"):
        record_states("model", "He")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected str"):
        text_features(b"a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'a' of shape \(2,\), expected \(3,\)"):
        score_units(np.zeros((3, 1)), {"a": [1, 2]})
    with pytest.raises(ValueError, match="no values"):
        UnitScores().result()
    with pytest.raises(ValueError, match=r"layers \[2\], expected some of 0 to 1"):
        inspection_page(model, TEXT, layers=[2])
    with pytest.raises(ValueError, match="length 0"):
        inspection_page(model, TEXT, length=0)
    big = make(hidden_size=600)
    with pytest.raises(ValueError, match="show at most 27962 characters"):
        inspection_page(big, "He" * 20_000, length=40_000)
    model.output.bias.data = model.output.bias.data * float("nan")
    with pytest.raises(ValueError, match="not finite"):
        record_states(model, "He")


class Page(html.parser.HTMLParser):
    """The scripts of a page as a parser of HTML sees them, and what it would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.loads: list[str] = []
        self._inside = False
        self.feed(page)
        self.data: dict[str, Any] = json.loads(self.scripts[0])

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")
        self.loads += [value for name, value in attributes if name in ("src", "href", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


NASTY = "</script><script>alert(1)</script><!-- & \" ' \\ \u2028\u202e\u0627\u0644\x00\x1b\x7f\t\n👩\u200d💻e\u0301 end"


def test_page_holds_what_was_recorded() -> None:
    model = make()
    told: list[int] = []
    page = Page(inspection_page(model, TEXT, length=90, layers=[1], title="a <b>", progress=told.append))
    assert told[-1] == len(TEXT)
    data = page.data
    record = record_states(model, TEXT)
    assert data["text"] == TEXT[:90]
    assert data["title"] == "a <b>"
    for kind, values in (("h", record.h), ("c", np.tanh(record.c))):
        codes = np.frombuffer(base64.b64decode(data["states"][kind]), np.int8).reshape(1, 6, 90)
        np.testing.assert_allclose(codes / 127, values[:90, [1]].transpose(1, 2, 0), atol=0.5 / 127 + 1e-6)
    ids = np.frombuffer(base64.b64decode(data["top_ids"]), "<u4").reshape(90, 5)
    np.testing.assert_array_equal(ids, record.top_ids[:90])
    odds = np.frombuffer(base64.b64decode(data["top_odds"]), "<u2").reshape(90, 5)
    np.testing.assert_allclose(odds / 65535, record.top_probabilities[:90], atol=1e-5)
    quotes = next(feature for feature in data["features"] if feature["name"] == "in quotes")
    expected = score_units(record.h[:, [1]], text_features(TEXT))["in quotes"]  # of the whole text, not what is shown
    np.testing.assert_allclose(quotes["scores"]["h"], expected[0], atol=6e-4)
    assert data["measured"] == len(TEXT)
    assert page.loads == []


def test_page_of_a_network_without_cells() -> None:
    text = "ab" * 20  # no feature ever changes but the position; fewer characters than are listed
    data = Page(inspection_page(make("gru", text=text), text)).data
    assert list(data["states"]) == ["h"]
    assert [feature["name"] for feature in data["features"]] == ["position in line"]
    assert data["top"] == 2


def test_any_text_is_escaped(tmp_path: pathlib.Path) -> None:
    sample = {"iteration": 1, "epoch": 0.5, "text": NASTY}
    written = tmp_path / "page.html"
    write_inspection_page(written, make(text=NASTY), NASTY, title=NASTY, samples=[sample])
    page = Page(written.read_text("utf-8"))
    assert len(page.scripts) == 2
    assert (page.data["text"], page.data["title"], page.data["samples"]) == (NASTY, NASTY, [sample])
    assert Page(inspection_page(make(text="a\ud83d\ude00"), "a\ud83d\ude00")).data["text"] == "a\ufffd\ufffd"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("inspect")
    (folder / "text.txt").write_text(TEXT)
    flags = "--hidden 6 --layers 2 --seq-length 8 --batch-size 4 --max-iters 10 --sample-every 5 --eval-every 10"
    assert main(["charlm", "train", str(folder / "text.txt"), "--out", str(folder / "run"), *flags.split()]) == 0
    return folder


def test_command(run_folder: pathlib.Path, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    out = tmp_path / "page.html"
    arguments = ["charlm", "inspect", str(run_folder / "run"), str(run_folder / "text.txt"), "--out", str(out)]
    assert main([*arguments, "--length", "40", "--layer", "2"]) == 0
    assert "page.html: 40 of " in capsys.readouterr().out
    data = Page(out.read_text("utf-8")).data
    assert (len(data["text"]), data["layers"], data["hidden"], data["title"]) == (40, [1], 6, "text.txt")
    model = CharLM.load(run_folder / "run" / "checkpoint.safetensors")
    h = np.frombuffer(base64.b64decode(data["states"]["h"]), np.int8).reshape(6, 40)
    np.testing.assert_allclose(h / 127, record_states(model, TEXT[:40]).h[:, 1].T, atol=0.5 / 127 + 1e-6)
    assert [sample["iteration"] for sample in data["samples"]] == [5, 10]
    written = (run_folder / "run" / "samples.txt").read_text()
    assert all(sample["text"] in written for sample in data["samples"])
    assert list(tmp_path.iterdir()) == [out]

    model.save(tmp_path / "model.safetensors")  # a model alone has no samples
    arguments[2] = str(tmp_path / "model.safetensors")
    assert main(arguments) == 0
    assert Page(out.read_text("utf-8")).data["samples"] == []


WRONG = {
    "binary": (["RUN", "BINARY"], "is binary"),
    "empty": (["RUN", "EMPTY"], "is empty"),
    "unknown characters": (["RUN", "OTHER"], "'é' (U+00E9) at position 2, 'Z' (U+005A) at position 4;"),
    "missing run": (["MISSING", "TEXT"], "missing: No such file"),
    "empty run": (["FOLDER", "TEXT"], "No such file"),
    "no model": (["TEXT", "TEXT"], "text.txt"),
    "missing text": (["RUN", "MISSING"], "missing: No such file"),
    "folder": (["RUN", "FOLDER"], "Is a directory"),
    "length": (["RUN", "TEXT", "--length", "0"], "--length 0, expected 1 or more"),
    "measure": (["RUN", "TEXT", "--measure", "-1"], "--measure -1, expected"),
    "layer": (["RUN", "TEXT", "--layer", "3"], "--layer 3, expected 1 to 2"),
    "threads": (["RUN", "TEXT", "--threads", "0"], "--threads 0"),
    "out in no folder": (["RUN", "TEXT", "--out", "MISSING/page"], "missing; make it first"),
    "out is a folder": (["RUN", "TEXT", "--out", "FOLDER"], "it is a folder, expected a file"),
    "out is the text": (["RUN", "TEXT", "--out", "TEXT"], "is an input"),
    "out is the run's": (["RUN", "TEXT", "--out", "RUN/checkpoint.safetensors"], "is an input"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_command_mistakes(
    case: str, run_folder: pathlib.Path, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    arguments, message = WRONG[case]
    (tmp_path / "binary").write_bytes(b"\x7fELF\0")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "other").write_text("Heé Zé")
    (tmp_path / "folder").mkdir()
    places = {name: tmp_path / name.lower() for name in ("BINARY", "EMPTY", "OTHER", "FOLDER", "MISSING")}
    places |= {"RUN": run_folder / "run", "TEXT": run_folder / "text.txt"}
    split = [argument.partition("/") for argument in arguments]
    used = [str(places[name] / rest) if name in places else name for name, _, rest in split]
    before = {path: path.read_bytes() for base in (tmp_path, run_folder) for path in base.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["charlm", "inspect", "--out", str(tmp_path / "page.html"), *used]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert error.startswith("pydl: ")
    after = {path: path.read_bytes() for base in (tmp_path, run_folder) for path in base.rglob("*") if path.is_file()}
    assert after == before


Browse = Callable[[pathlib.Path, str], str]


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Browse:
    """(page, script) -> the page as Chromium has it after the script."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    folder = tmp_path_factory.mktemp("browser")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={folder / 'profile'}"]

    def dump(source: str) -> str:
        (folder / "page.html").write_text(source, "utf-8")
        command = [str(found), *flags, (folder / "page.html").as_uri()]
        return subprocess.run(command, capture_output=True, check=False, timeout=60).stdout.decode("utf-8")

    # Some are confined to folders of their own.
    if found is None or "it runs" not in dump("<body><script>document.body.append('it ' + 'runs')</script></body>"):
        pytest.skip("needs a Chromium that opens files")

    def call(page: pathlib.Path, script: str) -> str:
        source = page.read_text("utf-8")
        assert source.count("</body>") == 1
        return dump(source.replace("</body>", f"<script>{script}</script></body>"))

    return call


PRESS = "const press = key => document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));"
SPAN = re.compile(r'<span data-t="(\d+)" class="([^"]*)"')


def test_in_a_browser(browse: Browse, tmp_path: pathlib.Path) -> None:
    model = make()
    page = tmp_path / "page.html"
    write_inspection_page(page, model, TEXT, length=100)
    record = record_states(model, TEXT)
    values = {"h": record.h, "c": np.tanh(record.c)}
    scores = {kind: score_units(v, text_features(TEXT)) for kind, v in values.items()}
    both = np.array([scores["h"]["in quotes"], scores["c"]["in quotes"]]).round(3)
    first, second = rank_units(both)[:2]

    def name(kind: int, layer: int, unit: int) -> str:
        return f'data-unit="{"hc"[kind]}-{layer + 1}-{unit}"'

    seen = browse(page, "")
    assert '<div id="error" role="alert"></div>' in seen
    assert 'data-ready="yes"' in seen
    assert name(*first) in seen
    spans = SPAN.findall(seen)
    assert [int(t) for t, _ in spans] == list(range(100))
    kind, layer, unit = first
    codes = np.rint(127 * values["hc"[kind]][:100, layer, unit])
    classes = [found.split() for _, found in spans]
    shades = np.array([(-1 if c[0][0] == "m" else 1) * int(c[0][1:]) for c in classes])
    np.testing.assert_allclose(shades, codes / 127 * 24, atol=0.5)
    assert len(set(shades.tolist())) > 3
    quoted = text_features(TEXT)["in quotes"][:100]
    np.testing.assert_array_equal(["f" in c for c in classes], quoted == 1)

    # j takes the second unit; right and right the third character, with what comes after it.
    moved = browse(page, PRESS + "press('j'); press('ArrowRight'); press('ArrowRight');")
    assert '<div id="error" role="alert"></div>' in moved
    assert name(*second) in moved
    assert [t for t, found in SPAN.findall(moved) if "cur" in found.split()] == ["2"]
    detail = moved.split('<div id="detail"')[1].split("</table>")[0]
    shown = [float(found) for found in re.findall(r">([\d.]+) %<", detail)]
    np.testing.assert_allclose(shown, 100 * record.top_probabilities[2], atol=0.06)

    # The layer and the kind of state can be chosen, and then only their units are listed.
    chosen = "for (const [id, value] of [['layer', '1'], ['kind', 'h'], ['feature', 'position in line']]) {"
    chosen += "document.getElementById(id).value = value;"
    chosen += "document.getElementById(id).dispatchEvent(new Event('change')); }"
    chosen += "spans[7].dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));"
    best = rank_units(scores["h"]["position in line"][1].round(3))[0][0]
    listed = browse(page, chosen)
    assert name(0, 1, best) in listed
    assert listed.count('role="option"') == 6
    assert [t for t, found in SPAN.findall(listed) if "cur" in found.split()] == ["7"]


def test_nasty_text_in_a_browser(browse: Browse, tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.html"
    sample = {"iteration": 1, "epoch": 0.5, "text": NASTY}
    write_inspection_page(page, make(text=NASTY), NASTY, title=NASTY, samples=[sample])
    script = "press('t'); document.body.dataset.text = spans.map(s => s.textContent).join('|');"
    seen = browse(page, PRESS + script)
    heading = re.search(r'<h1 id="title">([^<]*)</h1>', seen)
    assert heading is not None
    assert "⟨202E⟩" in heading.group(1)
    assert "\u202e" not in heading.group(1)
    assert 'data-theme="' in seen
    assert '<div id="error" role="alert"></div>' in seen
    assert len(SPAN.findall(seen)) == len(NASTY)
    assert seen.count("<script") == 3  # data, page and the one of this test
    shown = re.search(r'data-text="([^"]*)"', seen)
    assert shown is not None
    marks = {"\n": "↵\n"} | {c: f"⟨{ord(c):02X}⟩" for c in "\u2028\u202e\u200d\x00\x1b\x7f"}
    assert html.unescape(shown.group(1)) == "|".join(marks.get(c, c) for c in NASTY)


def test_one_character_in_a_browser(browse: Browse, tmp_path: pathlib.Path) -> None:
    """Nothing changes in it, so there is no feature to sort by."""
    page = tmp_path / "page.html"
    write_inspection_page(page, make("rnn", text="a", num_layers=1), "a")
    seen = browse(
        page, PRESS + "for (const key of ['f', 'l', 'h', 'u', 'k', 'j', 'ArrowLeft', 'ArrowRight']) press(key);"
    )
    assert '<div id="error" role="alert"></div>' in seen
    assert 'data-ready="yes"' in seen
    assert 'data-unit="h-1-1"' in seen
    assert len(SPAN.findall(seen)) == 1


def test_stray_brackets_do_not_pair_across_a_long_text() -> None:
    text = "(" + "a" * 9_999 + ")" + "(" + "a" * 10_000 + ")"
    depth = text_features(text)["bracket depth"]
    assert depth[:10_000].all()
    assert not depth[10_000:].any()
