"""CSV files and folders of images: what they hold, and errors that name the place."""

from __future__ import annotations

import pathlib
import pickle
from typing import Any

import numpy as np
import pytest

from pydl.data import CSVDataset, DataLoader, ImageFolder

TABLE = """age,colour,weight,kind
30,red,1.5,cat
41, blue ,2.5,dog
"52",red,-3e1,cat
"""


def write(folder: pathlib.Path, text: str, name: str = "table.csv") -> pathlib.Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_numbers_and_categories(tmp_path: pathlib.Path) -> None:
    data = CSVDataset(write(tmp_path, TABLE), target="kind")
    assert data.feature_names == ["age", "colour=blue", "colour=red", "weight"]
    assert data.x.tolist() == [[30, 0, 1, 1.5], [41, 1, 0, 2.5], [52, 0, 1, -30]]
    assert data.x.dtype == np.float32
    assert data.y is not None
    assert (data.y.tolist(), data.y.dtype, data.classes) == ([0, 1, 0], np.int64, ["cat", "dog"])
    x, y = next(iter(DataLoader(data, 2)))
    assert (x.shape, y.tolist()) == ((2, 4), [0, 1])


def test_targets_of_all_kinds(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, "a,b,c\n1,2,0.5\n3,4,1.5\n5,2,2\n")
    for target, options, values, dtype in (
        ("b", {}, [2, 4, 2], np.int64),
        (1, {"target_type": "class"}, [0, 1, 0], np.int64),
        ("b", {"target_type": "number"}, [2, 4, 2], np.float32),
        (-1, {}, [0.5, 1.5, 2], np.float32),
        (["b", "c"], {}, [[2, 0.5], [4, 1.5], [2, 2]], np.float32),
    ):
        data = CSVDataset(path, target=target, **options)  # type: ignore[arg-type]
        assert data.y is not None
        assert data.y.tolist() == values
        assert data.y.dtype == dtype
    assert CSVDataset(path).y is None
    assert len(CSVDataset(path)[0]) == 1


def test_choice_of_columns(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, TABLE)
    assert CSVDataset(path, "kind", columns=["weight", 0]).x.tolist() == [[1.5, 30], [2.5, 41], [-30, 52]]
    assert CSVDataset(path, "kind", drop=["colour", "age"]).feature_names == ["weight"]
    assert CSVDataset(path, drop=["kind", "colour", "weight"], categorical=["age"]).feature_names == [
        "age=30",
        "age=41",
        "age=52",
    ]
    plain = CSVDataset(write(tmp_path, "1;2\n3;4\n"), 1, header=False, delimiter=";")
    assert plain.feature_names == ["column 0"]
    assert plain[1][1].item() == 4


@pytest.mark.parametrize(
    ("fill", "column", "value"),
    [
        (7, "a", 7),
        ("mean", "a", 4),
        ("median", "a", 3),
        ("most_frequent", "a", 3),
        ({"a": -1, "b": "y"}, "a", -1),
    ],
)
def test_missing_values_are_filled(tmp_path: pathlib.Path, fill: Any, column: str, value: float) -> None:
    path = write(tmp_path, "a,b\n3,x\n3,y\nNA,x\n6,x\n")
    data = CSVDataset(path, fill=fill)
    assert data.x[2, data.feature_names.index(column)] == value


def test_a_test_file_is_read_like_the_training_file(tmp_path: pathlib.Path) -> None:
    train = CSVDataset(write(tmp_path, "a,b,y\n1,red,dog\n3,blue,cat\n,red,cat\n"), "y", fill="mean")
    test = CSVDataset(write(tmp_path, "y,b,a\ncat,red,\n", "test.csv"), like=train)
    assert test.feature_names == train.feature_names
    assert test.x.tolist() == [[2, 0, 1]]
    assert test.y is not None
    assert test.y.tolist() == [0]
    with pytest.raises(ValueError, match=r"other.csv: line 2 .*'b': got 'green', expected one of 'blue', 'red'"):
        CSVDataset(write(tmp_path, "y,b,a\ncat,green,1\n", "other.csv"), like=train)
    with pytest.raises(ValueError, match=r"no column 'b'; the columns are \['y', 'a'\]"):
        CSVDataset(write(tmp_path, "y,a\ncat,1\n", "other.csv"), like=train)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "the file is empty"),
        ("\n \n", {}, "the file is empty"),
        ("a,b\n", {}, "a header and no row"),
        ("a,b\n1,2\n3\n", {}, "line 3 has 1 fields, expected 2"),
        ("a,b\n1,2\n\n3,4,5\n", {}, "line 4 has 3 fields, expected 2"),
        ("a,a\n1,2\n", {}, "column 1 of the header is 'a'"),
        ("a,\n1,2\n", {}, "column 1 of the header is ''"),
        ("a,b\n1,2\n\n3,\n", {}, r"line 4 \(row 2\), column 'b': the value is missing \(''\); give a fill"),
        ("a,b\n1,2\n3,NaN\n", {}, r"line 3 \(row 2\), column 'b': the value is missing \('NaN'\)"),
        ("a,b\n1,2\n3,inf\n", {}, r"line 3 .* column 'b': got 'inf', expected a finite number"),
        ("a,y\n1,2\n3,\n", {"target": "y", "fill": 0}, r"line 3 .* column 'y': the value is missing"),
        ("a,y\n1,2\n3,x\n", {"target": "y", "target_type": "number"}, r"column 'y': got 'x', expected a finite number"),
        ("a,y\n1,2\n3,x\n", {"target": ["y"]}, r"column 'y': got 'x', expected a finite number"),
        ("a,y\n1,2\n", {"target": "z"}, r"no column 'z'; the columns are \['a', 'y'\]"),
        ("a,y\n1,2\n", {"target": 2}, "no column 2"),
        ("a,y\n1,2\n", {"fill": {"z": 1}}, "no column 'z'"),
        ("a,y\n1,2\n", {"drop": ["a", "y"]}, "no column is left"),
        ('a,y\n1,"2\n', {}, "line 2: unexpected end"),
        ("a,y\nNA,2\n", {"fill": "mean"}, "'a' with 0 numbers"),
        ("a,y\n1,2\n", {"target_type": "label"}, "target_type 'label'"),
    ],
)
def test_bad_tables_are_named(tmp_path: pathlib.Path, text: str, options: Any, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as raised:
        CSVDataset(path, **options)
    if "target_type" not in message:
        assert str(path) in str(raised.value)


def test_quoted_line_breaks_keep_the_count_of_lines(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"line 4 \(row 2\), column 'b'"):
        CSVDataset(write(tmp_path, 'a,b\n"x\ny",1\nz,\n'))


def test_encodings(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("größe,y\n1,2\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"byte 0xf6 at offset 2.*encoding='latin-1'"):
        CSVDataset(path)
    assert CSVDataset(path, encoding="latin-1").feature_names == ["größe", "y"]
    path.write_bytes(b"\xef\xbb\xbfa,b\r\n1,2\r\n")
    assert CSVDataset(path).feature_names == ["a", "b"]
    with pytest.raises(FileNotFoundError):
        CSVDataset(tmp_path / "missing.csv")


def test_pandas_reads_the_same(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    path = write(tmp_path, TABLE)
    plain = CSVDataset(path, "kind")
    monkeypatch.setattr("pydl.data.csv._PANDAS_FROM", 0)
    quick = CSVDataset(path, "kind")
    assert quick.feature_names == plain.feature_names
    assert (quick.x == plain.x).all()
    with pytest.raises(ValueError, match="line 3 has 1 fields"):
        CSVDataset(write(tmp_path, "a,b\n1,2\n3\n"))
    with pytest.raises(ValueError, match=r"line 3 \(row 2\), column 'b': the value is missing"):
        CSVDataset(write(tmp_path, "a,b\n1,2\n3,\n"))


# ---- images


@pytest.fixture
def pictures(tmp_path: pathlib.Path) -> pathlib.Path:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name, files in {"dog": ["b.png", "a.PNG"], "cat": ["sub/x.png", ".hidden.png", "note.txt"]}.items():
        for file in files:
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if file.endswith("txt"):
                path.write_text("no image")
            else:
                image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(path)
    return tmp_path


def test_folder_of_images(pictures: pathlib.Path) -> None:
    image = pytest.importorskip("PIL.Image")
    data = ImageFolder(pictures, dtype="uint8")
    assert data.classes == ["cat", "dog"]
    assert data.class_to_idx == {"cat": 0, "dog": 1}
    assert [path.name for path, _ in data.samples] == ["x.png", "a.PNG", "b.png"]
    assert data.targets.tolist() == [0, 1, 1]
    for i, (path, label) in enumerate(data.samples):
        pixels = np.asarray(image.open(path))
        x, y = data[i]
        assert (x == pixels.transpose(2, 0, 1)).all()
        assert y == label
        assert (ImageFolder(pictures)[i][0] == pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)).all()
    x, y = next(iter(DataLoader(ImageFolder(pictures, size=(4, 3), mode="L"), 3)))
    assert (x.shape, x.dtype.name, y.tolist()) == ((3, 1, 4, 3), "float32", [0, 1, 1])
    assert 0 <= float(x.min()) < float(x.max()) <= 1
    assert len(pickle.loads(pickle.dumps(data))) == 3  # for spawned workers


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
@pytest.mark.parametrize("keep", [0, 0.5, -1])
def test_truncated_images_are_named_at_once(pictures: pathlib.Path, suffix: str, keep: float) -> None:
    image = pytest.importorskip("PIL.Image")
    path = pictures / "dog" / f"c.{suffix}"
    try:
        image.fromarray(np.arange(90, dtype=np.uint8).reshape(6, 5, 3)).save(path)
    except (OSError, KeyError):
        pytest.skip(f"Pillow writes no {suffix} here")
    ImageFolder(pictures)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if keep >= 0 else -1])
    with pytest.raises(ValueError) as raised:
        ImageFolder(pictures)
    assert str(path) in str(raised.value)
    late = ImageFolder(pictures, check=False)
    if keep == 0.5 and suffix in ("png", "jpg"):
        with pytest.raises(ValueError, match="damaged or truncated") as raised:
            late.read(path)
        assert str(path) in str(raised.value)


def test_bad_folders_are_named(pictures: pathlib.Path, tmp_path: pathlib.Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (pictures / "dog" / "text.png").write_text("this is no image")
    with pytest.raises(ValueError, match=r"text.png: no image that Pillow can read"):
        ImageFolder(pictures)
    (pictures / "dog" / "text.png").unlink()
    image.new("RGB", (9, 9)).save(pictures / "dog" / "large.png")
    with pytest.raises(ValueError, match=r"large.png: the image is 9 x 9, expected 6 x 5 .* give a size"):
        ImageFolder(pictures)
    assert ImageFolder(pictures, size=8)[3][0].shape == (3, 8, 8)
    (pictures / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: the class has no image"):
        ImageFolder(pictures)
    with pytest.raises(ValueError, match="no subfolder"):
        ImageFolder(pictures / "empty")
    with pytest.raises(FileNotFoundError):
        ImageFolder(pictures / "missing")
    for options, message in (
        ({"mode": "P"}, "mode 'P'"),
        ({"dtype": "int8"}, "dtype int8"),
        ({"size": 0}, "size 0"),
    ):
        with pytest.raises(ValueError, match=message):
            ImageFolder(pictures, **options)  # type: ignore[arg-type]
