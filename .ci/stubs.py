"""Writes pydl/_C.pyi from the installed extension, or, with --check, fails where the committed file differs.

After a change to csrc/python: install pydl, then `python .ci/stubs.py`. Needs the extra `dev`.
"""

import argparse
import difflib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# TensorBase is written against CPython itself, which keeps no signatures.
TENSOR_BASE = """class TensorBase:
    __hash__: typing.Callable[[TensorBase], int]  # type: ignore[assignment]
    dtype: DType
    device: Device
    grad: Tensor | None
    grad_fn: str | None
    is_cpu: bool
    is_cuda: bool
    is_leaf: bool
    ndim: int
    requires_grad: bool
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    _count: int
    _version: int
    def __new__(cls, *args: typing.Any, **kwargs: typing.Any) -> typing_extensions.Self: ...
    def backward(
        self, gradient: Tensor | None = None, retain_graph: typing.Any = None, create_graph: typing.Any = False
    ) -> None: ...
    def item(self) -> typing.Any: ...
    def detach(self) -> Tensor: ...
    def is_contiguous(self) -> bool: ...
    def data_ptr(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __float__(self) -> float: ...
    def __int__(self) -> int: ...
    def __index__(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: typing.Any) -> Tensor: ...
    def __setitem__(self, key: typing.Any, value: typing.Any) -> None: ...
"""
UNARY = ["abs", "invert", "neg", "pos"]
BINARY = ["add", "and", "floordiv", "lshift", "matmul", "mod", "mul", "or", "pow", "rshift", "sub", "truediv", "xor"]
COMPARE = ["ge", "gt", "le", "lt"]


def tensor_base() -> str:
    """TensorBase with its operators."""
    lines = [f"    def __{name}__(self) -> Tensor: ..." for name in UNARY]
    for name in BINARY:
        lines += [f"    def __{side}{name}__(self, other: typing.Any) -> Tensor: ..." for side in ("", "r")]
    lines += [
        f"    def __i{name}__(self, other: typing.Any) -> typing_extensions.Self: ..."
        for name in ("add", "mul", "sub", "truediv")
    ]
    lines += [
        f"    def __{name}__(self, other: object) -> Tensor: ...  # type: ignore[override]" for name in ("eq", "ne")
    ]
    lines += [f"    def __{name}__(self, other: typing.Any) -> Tensor: ..." for name in COMPARE]
    return TENSOR_BASE + "\n".join(lines) + "\n"


STUB = Path(__file__).resolve().parent.parent / "pydl" / "_C.pyi"


def generate() -> str:
    with tempfile.TemporaryDirectory() as folder:  # also the working directory: the source tree has no extension
        command = [sys.executable, "-P", "-m", "pybind11_stubgen", "pydl._C", "-o", folder]
        if sys.version_info < (3, 11):
            command.remove("-P")
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        found = [*Path(folder).rglob("_C.pyi"), *Path(folder).rglob("_C/__init__.pyi")]
        if done.returncode != 0 or not found:
            sys.exit(f"pybind11-stubgen failed:\n{done.stdout}{done.stderr}")
        text = found[0].read_text()
    text = re.sub(r" at 0x[0-9a-f]+", "", text)  # addresses of default values differ from run to run
    text = re.sub(r"^__version__: str = .*$", "__version__: str", text, flags=re.MULTILINE)
    text = re.sub(r"^class TensorBase:\n(?:    .*\n|\n)*?(?=\S)", lambda _: tensor_base(), text, flags=re.MULTILINE)
    text = text.replace("(*args)", "(*args: typing.Any)")
    text = text.replace(
        "from pydl import AutogradError\n",
        "from pydl._tensor import Tensor\nclass AutogradError(ValueError, RuntimeError): ...\n",
    )
    return "# Made by .ci/stubs.py from the extension; not to be edited.\n" + text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the file is not current")
    check = parser.parse_args().check
    text = generate()
    old = STUB.read_text() if STUB.exists() else ""
    if not check:
        STUB.write_text(text)
        return 0
    if text == old:
        return 0
    sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), "committed", "generated"))
    print("pydl/_C.pyi is not current: install pydl and run `python .ci/stubs.py`")
    return 1


if __name__ == "__main__":
    sys.exit(main())
