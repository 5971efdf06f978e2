"""The toolchain: which compiler, which instruction set, and a build cache that is never wrong."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from graphc import cache as build_cache
from graphc import libraries, processes, toolchain
from graphc.libraries import build, recall, remember
from graphc.toolchain import Compiler, Target, find_compiler, resolve_target
from graphc.types import CacheError, CompilationError, CompilerNotFoundError

C = "float twice(float x);\nfloat twice(float x) { return 2.0f * x; }\n"
CLANG = shutil.which("clang") or shutil.which("clang-14")
ZIG = toolchain._ziglang_program()

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the fake compilers are shell scripts")
needs_cc = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the machine's compiler and its native target have been found, once for all tests."""
    cache = tmp_path_factory.mktemp("known")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHC_BUILD_DIR", str(cache))
        patch.delenv("CC", raising=False)
        resolve_target(find_compiler(), "native")
    return cache


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and nothing asked for by the environment."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("GRAPHC_BUILD_DIR", str(directory))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("GRAPHC_TARGET", raising=False)
    return directory


@pytest.fixture
def tools(known: Path, cache: Path) -> tuple[Compiler, Target]:
    shutil.copytree(known, cache)
    compiler = find_compiler()
    return compiler, resolve_target(compiler)


def twice(library: Path) -> float:
    function = ctypes.CDLL(str(library)).twice
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    return float(function(21.0))


def script(path: Path, body: str) -> Path:
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)
    return path


def no_programs(*_: Any) -> None:
    raise AssertionError("a warm start must not run a program")


# --- the compiler ----------------------------------------------------------------------------------------


@needs_cc
def test_finds_a_compiler_and_its_flags() -> None:
    compiler = find_compiler()
    assert os.path.isabs(compiler.argv[0])
    assert compiler.kind in ("gcc", "clang")
    assert {"-shared", "-O3", "-ffp-contract=off"} <= set(compiler.flags)
    assert not any("fast-math" in flag for flag in compiler.flags)
    assert compiler.version in compiler.identity


def test_no_compiler_names_the_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CompilerNotFoundError) as caught:
        find_compiler()
    for remedy in ("apt install gcc", "pip install ziglang", "CC", 'backend="numpy"'):
        assert remedy in str(caught.value)
    assert "no C compiler found" in toolchain.describe()["problem"]


@needs_cc
def test_a_broken_cc_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_compiler().argv[0]
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "cc", "echo no developer tools >&2; exit 1\n")
    script(tmp_path / "bin" / "gcc", f'exec {shlex.quote(real)} "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert find_compiler().argv == (str(tmp_path / "bin" / "gcc"),)


@needs_cc
def test_cc_may_carry_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = find_compiler()
    monkeypatch.setenv("CC", f"{plain.argv[0]} -DTWICE='2.0f * 1.0f'")
    compiler = find_compiler()
    assert compiler.argv == (plain.argv[0], "-DTWICE=2.0f * 1.0f")
    assert compiler.identity != plain.identity
    source = C.replace("2.0f", "TWICE")
    assert (
        twice(build(source, name="g", compiler=compiler, target=resolve_target(compiler, "generic"))) == 42.0
    )


@pytest.mark.parametrize(
    ("cc", "said"),
    [("/no/such/cc -O1", "not a program"), ("cc 'unclosed", "cannot read"), ("true", "no library")],
)
def test_a_wrong_cc_is_an_error_even_if_another_compiler_works(
    cc: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", cc)
    with pytest.raises(CompilerNotFoundError, match=said) as caught:
        find_compiler()
    assert cc in str(caught.value)


@needs_cc
def test_flags_are_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shlex.quote(find_compiler().argv[0])
    refuse = (
        'for a; do case "$a" in -fno-trapping-math|-fopenmp) echo "unknown $a" >&2; exit 1;; esac; done\n'
    )
    monkeypatch.setenv("CC", str(script(tmp_path / "old", f'{refuse}exec {real} "$@"\n')))
    compiler = find_compiler()
    assert compiler.openmp is None
    assert set(toolchain._FLAGS) - set(compiler.flags) == {"-fno-trapping-math"}


@needs_cc
def test_openmp_counts_only_if_it_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """zig, and clang without libomp, link OpenMP code into a library that cannot be loaded."""
    real = shlex.quote(find_compiler().argv[0])
    broken = 'for a; do [ "$a" = -fopenmp ] && : > "probe' + toolchain.SUFFIX + '" && exit 0; done\n'
    monkeypatch.setenv("CC", str(script(tmp_path / "half", f'{broken}exec {real} "$@"\n')))
    assert find_compiler().openmp is None


@needs_cc
def test_openmp_library(tools: tuple[Compiler, Target]) -> None:
    compiler, target = tools
    source = C + "int threads(void);\nint threads(void) {\n#ifdef _OPENMP\n return 1;\n#endif\n return 0; }\n"
    serial = build(source, name="g", compiler=compiler, target=target)
    assert ctypes.CDLL(str(serial)).threads() == 0
    if compiler.openmp is not None:
        parallel = build(source, name="g", compiler=compiler, target=target, openmp=True)
        assert parallel != serial
        assert ctypes.CDLL(str(parallel)).threads() == 1
    without = Compiler(
        compiler.argv, compiler.kind, compiler.version, compiler.identity, compiler.flags, None
    )
    with pytest.raises(ValueError, match="OpenMP"):
        build(source, name="g", compiler=without, target=target, openmp=True)


@needs_cc
def test_a_changed_compiler_is_probed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = f'exec {shlex.quote(find_compiler().argv[0])} "$@"\n'
    monkeypatch.setenv("CC", str(script(tmp_path / "mycc", body)))
    before = find_compiler()
    monkeypatch.setattr(processes, "run", no_programs)
    assert find_compiler() == before
    monkeypatch.undo()
    monkeypatch.setenv("GRAPHC_BUILD_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", str(script(tmp_path / "mycc", "# upgraded\n" + body)))
    assert find_compiler().identity != before.identity


# --- the instruction set ---------------------------------------------------------------------------------


@needs_cc
def test_targets(tools: tuple[Compiler, Target], monkeypatch: pytest.MonkeyPatch) -> None:
    compiler, native = tools
    assert native.name == "native"
    generic = resolve_target(compiler, "generic")
    assert generic.vector_bytes == 0
    assert set(generic.features) <= set(native.features)
    assert list(native.features) == sorted(native.features)
    monkeypatch.setenv("GRAPHC_TARGET", "generic")
    assert resolve_target(compiler) == generic
    assert resolve_target(compiler, "native") == native


@needs_cc
def test_x86_levels(tools: tuple[Compiler, Target]) -> None:
    compiler, native = tools
    if "avx512f" in native.features:
        assert native.vector_bytes == 64
        assert "-mprefer-vector-width=512" in native.flags
    if not {"avx2", "fma", "bmi2"} <= set(native.features):
        pytest.skip("this CPU has no AVX2")
    v3 = resolve_target(compiler, "x86-64-v3")
    assert (v3.flags[0], v3.vector_bytes) == ("-march=x86-64-v3", 32)
    assert "avx512f" not in v3.features
    assert v3.fingerprint != native.fingerprint


@pytest.mark.parametrize(
    ("macros", "width"),
    [
        (["__SSE2__"], 0),
        (["__AVX2__"], 0),
        (["__AVX2__", "__FMA__"], 32),
        (["__AVX2__", "__FMA__", "__AVX512F__"], 64),
        (["__ARM_NEON", "__aarch64__"], 16),
        (["__ARM_NEON"], 0),
    ],
)
def test_vector_width(macros: list[str], width: int) -> None:
    text = "".join(f"#define {macro} 1\n" for macro in macros)
    assert toolchain._vector_bytes(toolchain._features(text)) == width


@needs_cc
def test_an_unknown_target_says_what_is_known(
    tools: tuple[Compiler, Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"target='warp9'.*'native', 'generic' or a -march name"):
        resolve_target(tools[0], "warp9")
    monkeypatch.setenv("GRAPHC_TARGET", "warp9")
    with pytest.raises(ValueError, match="GRAPHC_TARGET='warp9'"):
        resolve_target(tools[0])


@needs_cc
def test_a_target_this_cpu_lacks_is_refused(
    tools: tuple[Compiler, Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler, _ = tools
    if "__x86_64__" not in processes.run([*compiler.argv, "-dM", "-E", "-x", "c", os.devnull], "/").output:
        pytest.skip("not an x86")
    monkeypatch.setattr(toolchain, "_cpu", lambda: "a small one")
    ask = toolchain._ask_target
    monkeypatch.setattr(
        toolchain, "_ask_target", lambda c, n, a: ask(c, "x86-64-v2" if n == "native" else n, a)
    )
    with pytest.raises(ValueError, match=r"lacks: .*avx2"):
        resolve_target(compiler, "x86-64-v3")


# --- building --------------------------------------------------------------------------------------------


@needs_cc
def test_build_and_find_again(tools: tuple[Compiler, Target], monkeypatch: pytest.MonkeyPatch) -> None:
    compiler, target = tools
    library = build(C, name="my net", compiler=compiler, target=target)
    assert library.is_absolute()
    assert library.stem == "my_net"
    assert twice(library) == 42.0
    assert library.with_suffix(".c").read_text() == C
    monkeypatch.setattr(processes, "run", no_programs)
    assert build(C, name="my net", compiler=compiler, target=target) == library


@needs_cc
def test_everything_is_private_and_nothing_is_left_behind(
    tools: tuple[Compiler, Target], cache: Path
) -> None:
    before = os.umask(0o002)
    try:
        library = build(C, name="g", compiler=tools[0], target=tools[1])
    finally:
        os.umask(before)
    for path in (library.parent, *library.parent.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert not list(cache.glob(".*"))


@needs_cc
def test_the_key_is_the_content(tools: tuple[Compiler, Target]) -> None:
    compiler, target = tools
    options: dict[str, Any] = {"name": "g", "compiler": compiler, "target": target}
    upgraded = Compiler(compiler.argv, "gcc", "", compiler.identity + "!", compiler.flags, None)
    moved = Target("native", target.flags, target.features, target.vector_bytes, "another CPU")
    variants = [
        build(C, **options),
        build(C + "\n", **options),
        build(C, **options | {"compiler": upgraded}),
        build(C, **options | {"target": moved}),
        build(C, **options, data={"a.bin": b"1"}),
        build(C, **options, data={"a.bin": b"2"}),
        build(C, **options, data={"b.bin": b"2"}),
    ]
    assert len(set(variants)) == len(variants)
    assert build_cache.digest("ab", "c") != build_cache.digest("a", "bc")


@needs_cc
def test_data_lies_beside_the_c(tools: tuple[Compiler, Target]) -> None:
    compiler, target = tools
    source = C.replace("2.0f * x", '\n#include "factor.inc"\n * x')
    data = {"factor.inc": b"2.0f"}
    library = build(source, name="g", compiler=compiler, target=target, data=data)
    assert twice(library) == 42.0
    (library.parent / "factor.inc").write_bytes(b"3.0f")
    assert build(source, name="g", compiler=compiler, target=target, data=data) == library
    assert (library.parent / "factor.inc").read_bytes() == b"2.0f"
    for name in ("../escape", "g.c", "entry.json", library.name, ""):
        with pytest.raises(ValueError, match="plain file name"):
            build(C, name="g", compiler=compiler, target=target, data={name: b""})


def truncate(library: Path) -> None:
    os.truncate(library, 100)


def flip(library: Path) -> None:
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)


def forget_record(library: Path) -> None:
    (library.parent / "entry.json").unlink()


def alter_record(library: Path) -> None:
    record = library.parent / "entry.json"
    record.write_text(record.read_text().replace('"key": "', '"key": "0'))


def let_others_write(library: Path) -> None:
    library.chmod(0o666)


def let_the_group_into_the_directory(library: Path) -> None:
    library.parent.chmod(0o770)


def give_away(library: Path) -> None:
    os.chown(library, 12345, -1)


def give_the_directory_away(library: Path) -> None:
    os.chown(library.parent, 12345, -1)


def put_a_file_in_its_place(library: Path) -> None:
    shutil.rmtree(library.parent)
    library.parent.write_text("not a directory")


DAMAGE = [
    truncate, flip, Path.unlink, forget_record, alter_record, let_others_write,
    let_the_group_into_the_directory, put_a_file_in_its_place,
    pytest.param(give_away, marks=needs_root), pytest.param(give_the_directory_away, marks=needs_root),
]  # fmt: skip


@needs_cc
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_foreign_entry_is_rebuilt(
    damage: Any, tools: tuple[Compiler, Target], cache: Path
) -> None:
    compiler, target = tools
    library = build(C, name="g", compiler=compiler, target=target)
    remember("graph", {}, library=library, compiler=compiler, target=target)
    assert recall("graph", compiler, target) is not None
    sound = library.read_bytes()
    damage(library)
    assert recall("graph", compiler, target) is None
    assert build(C, name="g", compiler=compiler, target=target) == library
    assert library.read_bytes() == sound
    assert libraries._verify(library.parent)
    assert library.stat().st_uid == os.geteuid()
    assert recall("graph", compiler, target) is not None
    assert not list(cache.glob(".*"))


@needs_cc
def test_an_entry_of_another_key_is_not_taken(tools: tuple[Compiler, Target]) -> None:
    compiler, target = tools
    library = build(C, name="g", compiler=compiler, target=target)
    other = build(C.replace("2.0f", "3.0f"), name="g", compiler=compiler, target=target)
    shutil.rmtree(library.parent)
    shutil.copytree(other.parent, library.parent)
    assert twice(build(C, name="g", compiler=compiler, target=target)) == 42.0

    record = build_cache.read_record(library.parent / "entry.json")
    assert record is not None
    record["key"] = record["key"][:-1] + ("1" if record["key"][-1] == "0" else "0")  # the same directory name
    build_cache.write_record(library.parent / "entry.json", record)
    assert libraries._verify(library.parent)
    build(C, name="g", compiler=compiler, target=target)
    assert build_cache.read_record(library.parent / "entry.json") != record


@needs_cc
def test_a_compilation_error_shows_what_and_where(tools: tuple[Compiler, Target], cache: Path) -> None:
    wrong = "int f(void) { return undeclared; }\n"
    for _ in range(2):  # the second time the place to keep it is taken
        with pytest.raises(CompilationError) as caught:
            build(wrong, name="wrong", compiler=tools[0], target=tools[1])
        message = str(caught.value)
        (kept,) = (cache / "failed").iterdir()
        assert "undeclared" in message
        assert str(kept) in message
        assert "-ffp-contract=off" in message
        assert (kept / "wrong.c").read_text() == wrong
        again = message.rpartition("again: ")[2]
        assert subprocess.run(again, shell=True, capture_output=True).returncode != 0  # it can be pasted
    assert not list(cache.glob(".*"))


def fake(tmp_path: Path, body: str) -> tuple[Compiler, Target]:
    path = str(script(tmp_path / "fake", body))
    return Compiler((path,), "gcc", "fake 1.0", path, (), None), Target("generic", (), (), 0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo boom >&2; exit 3", "exit status 3:\nboom"),
        ("exit 0", "made no library"),
        ("kill -9 $$", "signal 9"),
        ("for i in $(seq 99); do echo line $i; done; exit 1", "79 more lines"),
    ],
)
def test_ways_of_failing(body: str, said: str, tmp_path: Path) -> None:
    compiler, target = fake(tmp_path, body)
    with pytest.raises(CompilationError) as caught:
        build(C, name="g", compiler=compiler, target=target)
    assert said in str(caught.value)


def test_a_compiler_that_hangs_is_stopped_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler, target = fake(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait\n")
    monkeypatch.setattr(processes, "TIMEOUT", 0.3)
    start = time.monotonic()
    with pytest.raises(CompilationError, match=r"no answer in 0\.3 s"):
        build(C, name="g", compiler=compiler, target=target)
    assert time.monotonic() - start < 10
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    deadline = time.monotonic() + 5
    while child.exists() and child.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.exists() or child.read_text().split()[2] == "Z"


def test_an_unwritable_cache_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the way stands for all of them: chmod does not keep root out."""
    compiler, target = fake(tmp_path, "exit 0")
    blocked = tmp_path / "file" / "cache"
    blocked.parent.touch()
    monkeypatch.setenv("GRAPHC_BUILD_DIR", str(blocked))
    monkeypatch.setenv("CC", compiler.argv[0])
    for use in (
        lambda: build(C, name="g", compiler=compiler, target=target),
        lambda: remember("d", {}, library=blocked / "e" / "g.so", compiler=compiler, target=target),
        lambda: resolve_target(compiler, "generic"),
        find_compiler,
    ):
        with pytest.raises(CacheError, match="GRAPHC_BUILD_DIR") as caught:
            use()
        assert str(blocked) in str(caught.value)
    assert "GRAPHC_BUILD_DIR" in toolchain.describe()["problem"]


def test_processes_that_build_at_once(tmp_path: Path, cache: Path) -> None:
    """All of them compile (the fake one waits until all have begun), one wins, all get the same library."""
    begun = f"$(ls {tmp_path} | grep -c began) = 3"
    compiler, target = fake(
        tmp_path,
        f"echo > {tmp_path}/began.$$\n"
        f"for i in $(seq 400); do [ {begun} ] && break; sleep 0.02; done\n"
        f"echo $$ > g{toolchain.SUFFIX}\n",
    )
    built = f"build({C!r}, name='g', compiler={compiler!r}, target={target!r})"
    program = f"from graphc.libraries import *; from graphc.toolchain import *; path = {built}; print(path, path.read_text())"
    environment = os.environ | {"PYTHONPATH": str(Path(toolchain.__file__).parents[1])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    results = [process.communicate(timeout=60) for process in processes]
    assert len({out for out, _ in results}) == 1, results
    assert len(list(tmp_path.glob("began.*"))) == 3
    assert libraries._verify(Path(results[0][0].split()[0]).parent)
    assert not list(cache.glob(".*"))


# --- warm starts -----------------------------------------------------------------------------------------


@needs_cc
def test_remember_and_recall(tools: tuple[Compiler, Target], cache: Path, tmp_path: Path) -> None:
    compiler, target = tools
    library = build(C, name="g", compiler=compiler, target=target)
    facts = {"arena_bytes": 4096, "inputs": ["x", "y"]}
    assert recall("graph", compiler, target) is None
    remember("graph", facts, library=library, compiler=compiler, target=target)
    assert recall("graph", compiler, target) == facts | {"library": library}
    assert recall("another", compiler, target) is None
    assert recall("graph", compiler, resolve_target(compiler, "generic")) is None
    upgraded = Compiler(compiler.argv, "gcc", "", "another", compiler.flags, None)
    assert recall("graph", upgraded, target) is None
    with pytest.raises(ValueError, match="subpath"):
        remember("graph", facts, library=tmp_path / "g.so", compiler=compiler, target=target)
    shutil.rmtree(library.parent)
    assert recall("graph", compiler, target) is None


@needs_cc
@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "null", '{"record": {}, "sha256": 1}', "\x00\xff", "altered"]
)
def test_a_damaged_record_is_ignored(damage: str, tools: tuple[Compiler, Target], cache: Path) -> None:
    compiler, target = tools
    library = build(C, name="g", compiler=compiler, target=target)
    remember("graph", {"arena_bytes": 4096}, library=library, compiler=compiler, target=target)
    for record in (cache / "records").iterdir():
        altered = record.read_text().replace("4096", "1").replace("-O3", "-O0").replace("avx", "axv")
        record.write_text(altered if damage == "altered" else damage, encoding="latin-1")
    if damage != "altered" or "avx" in target.features:
        assert resolve_target(find_compiler()) == target
    assert find_compiler() == compiler
    assert recall("graph", compiler, target) is None


@needs_cc
def test_a_directory_in_the_place_of_a_record_is_replaced(tools: tuple[Compiler, Target], cache: Path) -> None:
    compiler, target = tools
    library = build(C, name="g", compiler=compiler, target=target)
    remember("graph", {}, library=library, compiler=compiler, target=target)
    for record in (cache / "records").iterdir():
        record.unlink()
        record.mkdir()
        (record / "inside").touch()
    assert recall("graph", compiler, target) is None
    assert (find_compiler(), resolve_target(compiler)) == tools
    remember("graph", {}, library=library, compiler=compiler, target=target)
    assert recall("graph", compiler, target) is not None
    assert all(record.is_file() for record in (cache / "records").iterdir())


@needs_cc
def test_a_record_that_others_can_write_is_ignored(tools: tuple[Compiler, Target], cache: Path) -> None:
    compiler, target = tools
    library = build(C, name="g", compiler=compiler, target=target)
    remember("graph", {}, library=library, compiler=compiler, target=target)
    for record in (cache / "records").iterdir():
        record.chmod(0o666)
    assert recall("graph", compiler, target) is None


@needs_cc
def test_the_cache_can_be_moved(
    tools: tuple[Compiler, Target], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = build(C, name="g", compiler=tools[0], target=tools[1])
    remember("graph", {}, library=library, compiler=tools[0], target=tools[1])
    cache.rename(tmp_path / "moved")
    monkeypatch.setenv("GRAPHC_BUILD_DIR", str(tmp_path / "moved"))
    found = recall("graph", *tools)
    assert found is not None
    assert found["library"] == tmp_path / "moved" / library.relative_to(cache)


@needs_cc
def test_a_warm_start_is_fast_and_runs_nothing(
    tools: tuple[Compiler, Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = build(C, name="g", compiler=tools[0], target=tools[1])
    remember("graph", {}, library=library, compiler=tools[0], target=tools[1])
    monkeypatch.setattr(processes, "run", no_programs)
    times = []
    for _ in range(20):
        toolchain._cpu.cache_clear()
        start = time.perf_counter()
        compiler = find_compiler()
        assert recall("graph", compiler, resolve_target(compiler)) is not None
        times.append(time.perf_counter() - start)
    assert min(times) < 3e-3


# --- where -----------------------------------------------------------------------------------------------


def test_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_BUILD_DIR", "~/somewhere")
    assert build_cache.directory() == Path.home() / "somewhere"
    monkeypatch.setenv("GRAPHC_BUILD_DIR", "relative")
    assert build_cache.directory() == Path.cwd() / "relative"
    monkeypatch.delenv("GRAPHC_BUILD_DIR")

    monkeypatch.setattr(build_cache, "__file__", str(tmp_path / "graphc" / "cache.py"))
    installed = build_cache.directory()
    assert installed.name == "graphc"
    assert tmp_path not in installed.parents
    (tmp_path / "build").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "graphc-user"\n')
    assert build_cache.directory() == installed
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "graphc"\n')
    assert build_cache.directory() == tmp_path / "build"
    (tmp_path / "build").rmdir()
    assert build_cache.directory() == installed


@needs_cc
def test_describe(tools: tuple[Compiler, Target]) -> None:
    facts = toolchain.describe()
    assert facts["compiler"] == tools[0].argv[0]
    assert facts["CPU features"] == list(tools[1].features)
    assert "problem" not in facts
    json.dumps(facts)


# --- other compilers -------------------------------------------------------------------------------------


@pytest.mark.skipif(CLANG is None, reason="no clang")
def test_clang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(CLANG))
    compiler = find_compiler()
    assert compiler.kind == "clang"
    target = resolve_target(compiler)
    assert twice(build(C, name="g", compiler=compiler, target=target)) == 42.0
    with pytest.raises(ValueError, match="expected 'native', 'generic' or a -march name that it knows: "):
        resolve_target(compiler, "warp9")


@pytest.mark.skipif(ZIG is None, reason="no ziglang")
def test_zig_is_found_where_nothing_else_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one test of zig: its first compile ever takes seconds."""
    monkeypatch.setenv("PATH", str(tmp_path))
    compiler = find_compiler()
    assert compiler.argv == (ZIG, "cc")
    assert compiler.kind == "zig"
    assert compiler.openmp is None  # it links OpenMP code without a complaint, and the result does not load
    native, generic = resolve_target(compiler), resolve_target(compiler, "generic")
    assert generic.flags == ("-mcpu=baseline",)
    assert set(generic.features) <= set(native.features)
    assert twice(build(C, name="g", compiler=compiler, target=native)) == 42.0
    if {"avx2", "fma", "bmi2"} <= set(native.features):
        assert resolve_target(compiler, "x86-64-v3").flags == ("-mcpu=x86_64_v3",)
    with pytest.raises(ValueError, match="a -march name that it knows: "):
        resolve_target(compiler, "warp9")
