"""What the compiler made. A kernel object exports its fill function and nothing else, so that the linker takes no code
of a higher ISA level for the rest of the program; the module exports its init function and names no path.

The objects are those that the build leaves in build/ (`pip install .` in a clone does, and so do the developer builds).
Where there are none, as in tests of an installed wheel, those tests skip.
"""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

import pydl._C

ROOT = Path(__file__).resolve().parent.parent
MODULE = Path(pydl._C.__file__)

# libc and libm are the same code for every ISA level, chosen by the C library itself.
ALLOWED_UNDEFINED = {"memcpy", "memmove", "memset", "memcmp", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
_MATH = """exp exp2 expm1 log log2 log10 log1p pow sin cos tan sincos asin acos atan atan2 sinh cosh tanh asinh acosh
    atanh erf erfc sqrt cbrt hypot fmod remainder floor ceil trunc rint nearbyint round fma fabs copysign nextafter
    ldexp frexp lgamma tgamma"""
ALLOWED_UNDEFINED |= {name + suffix for name in _MATH.split() for suffix in ("", "f")}


def build_trees():
    """Build trees whose objects are what is shipped: optimized, not instrumented."""
    for cache in sorted(ROOT.glob("build/*/CMakeCache.txt"), key=lambda path: -path.stat().st_mtime):
        text = cache.read_text(errors="replace")
        if re.search(r"^PYDL_SANITIZE:\w+=.", text, re.MULTILINE) or "CMAKE_BUILD_TYPE:STRING=Debug" in text:
            continue
        yield cache.parent


def kernel_objects():
    """The newest object of each (level, family) that is not older than its source."""
    found = {}
    for tree in build_trees():
        for path in sorted(tree.glob("CMakeFiles/pydl_cpu_*.dir/csrc/backend/cpu/*.cpp.o")):
            level = path.parents[3].name[len("pydl_cpu_") : -len(".dir")]
            family = path.name[: -len(".cpp.o")]
            source = ROOT / "csrc/backend/cpu" / f"{family}.cpp"
            if source.exists() and path.stat().st_mtime >= source.stat().st_mtime:
                found.setdefault((level, family), path)
    return found


OBJECTS = kernel_objects()


def tool(name, *arguments):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, check=True).stdout


def symbols(path, *options):
    """(name, type letter) of each symbol, as nm prints them."""
    lines = tool("nm", "--format=posix", *options, path).splitlines()
    return [tuple(line.split()[:2]) for line in lines if len(line.split()) >= 2]


each_object = pytest.mark.parametrize(
    ("level", "family", "path"),
    [(*key, path) for key, path in sorted(OBJECTS.items())]
    or [pytest.param("", "", None, marks=pytest.mark.skip(reason="no objects of a build in build/"))],
    ids=[f"{level}-{family}" for level, family in sorted(OBJECTS)] or ["none"],
)


SHARED = {
    "elementwise_binary": "pydl_elementwise",
    "copy": "pydl_transpose",
}  # compiled in one family for others of its level


@each_object
def test_kernel_object_exports_its_own_symbols(level, family, path):
    exported = {name for name, kind in symbols(path) if kind.isupper() and kind not in "UWV"}
    assert exported == {f"pydl_fill_{family}_{level}"} | {f"{SHARED[f]}_{level}" for f in SHARED if f == family}


@each_object
def test_kernel_object_has_no_weak_symbol(level, family, path):
    assert [name for name, kind in symbols(path) if kind in "WwVvu"] == []


@each_object
def test_kernel_object_needs_only_the_c_library(level, family, path):
    undefined = {name for name, kind in symbols(path) if kind == "U"}
    assert undefined - ALLOWED_UNDEFINED - {f"{name}_{level}" for name in SHARED.values()} == set()


@each_object
def test_kernel_object_runs_nothing_at_load(level, family, path):
    sections = tool("readelf", "--sections", "--wide", path)
    assert re.findall(r"\.(?:init_array|ctors|preinit_array|tbss|tdata)\b\S*", sections) == []


def test_every_family_was_compiled_for_the_same_levels():
    if not OBJECTS:
        pytest.skip("no objects of a build in build/")
    families = {path.stem for path in (ROOT / "csrc/backend/cpu").glob("*.cpp")}
    compiled = Counter(level for level, _ in OBJECTS)
    if any(count < len(families) for count in compiled.values()):
        pytest.skip("some objects are older than their sources: build again")
    assert {family for _, family in OBJECTS} == families


def test_baseline_code_uses_no_wide_registers():
    """What runs before detection must run on every x86-64."""
    objects = [
        path for tree in build_trees() for path in tree.glob("CMakeFiles/_C.dir/csrc/backend/cpu_features.cpp.o")
    ]
    if not objects:
        pytest.skip("no objects of a build in build/")
    code = tool("objdump", "--disassemble", objects[0])
    assert "Disassembly" in code
    assert re.findall(r"%[yz]mm\d+|\tv\w+ .*%xmm\d+", code) == []


def test_module_exports_only_its_init_function():
    exported = [name for name, kind in symbols(MODULE, "--dynamic", "--defined-only") if kind.isupper()]
    assert [name for name in exported if name not in {"_init", "_fini", "__bss_start", "_edata", "_end"}] == [
        "PyInit__C"
    ]


def test_module_names_no_path_of_the_building_machine():
    content = MODULE.read_bytes()
    paths = {path for path in (str(ROOT), str(Path.home())) if len(path) > 5}  # "/root" is a word like others
    paths |= {"pip-build-env", "/site-packages/"}
    assert [path for path in paths if path.encode() in content] == []
