"""The dates example: what it writes means the day, and the network learns to read it."""

from __future__ import annotations

import datetime
import pathlib

import pytest

from pydl.examples import dates

FORMATS = ("%d %B %Y", "%B %d, %Y", "%A, the %d of %B %Y", "%a %d %b %y", "%b %d, %Y", "%d.%m.%Y", "%d.%m.%y")
FORMATS += ("%d/%m/%y", "%Y/%m/%d", "%d-%b-%Y", "the %d of %B, %Y")


def test_every_way_means_the_day() -> None:
    assert len(FORMATS) == dates.WAYS
    for number in range(0, dates.DAYS, 37):
        day = dates.FIRST + datetime.timedelta(number)
        for way, form in enumerate(FORMATS):
            text = dates.written(day, way)
            plain = text
            if way in (2, 4, 10):
                ending = next(e for e in ("th", "st", "nd", "rd") if f"{day.day}{e}" in text)
                plain = text.replace(f"{day.day}{ending}", str(day.day))
            found = datetime.datetime.strptime(plain, form).date()
            assert (found.month, found.day, found.year % 100) == (day.month, day.day, day.year % 100), text
            if way in (0, 1, 2, 4, 5, 8, 9, 10):
                assert found == day
    for ordinal in ("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "24th", "31st"):
        assert dates.written(datetime.date(1998, 5, int(ordinal[:-2])), 4) == f"May {ordinal}, 1998"


def test_it_runs_and_draws_heat_maps(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    exact = dates.main(["--epochs", "1", "--count", "640", "--hidden", "16", "--out", str(tmp_path)])
    assert set(exact) == {"greedy", "beam of 4"}
    assert (tmp_path / "dates-attention.png").read_bytes().startswith(b"\x89PNG")
    assert "parameters, trained in" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_it_reads_dates_of_days_it_never_saw(attention: str, capsys: pytest.CaptureFixture[str]) -> None:
    exact = dates.main(["--attention", attention])
    assert min(exact.values()) >= 0.99
    assert "yes" in capsys.readouterr().out
