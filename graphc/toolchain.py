"""The C compiler: who it is, its flags, and the instruction set that it writes. The only file that knows compilers.

    find_compiler()  -->  Compiler    who compiles: $CC, cc, gcc, clang or the zig of `pip install ziglang`
    resolve_target() -->  Target      for which instruction set, and how this compiler spells that

A compiler that is known runs no program: what it said of itself is in the cache (:mod:`graphc.cache`), until it changes.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphc import cache, processes
from graphc.types import CompilerNotFoundError, GraphcError

__all__ = ["SUFFIX", "Compiler", "Target", "describe", "find_compiler", "resolve_target"]

# No -ffast-math, ever: it reorders sums and forgets NaN. Contraction is off because a fused multiply-add is
# written where it is meant. The others change no result; without them neither sqrt nor max vectorises, nor (in
# gcc, which splits such a loop in two) what chooses by its index, like a causal mask.
_FLAGS = (
    "-std=c99", "-O3", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-split-loops",
)  # fmt: skip

# Apple's clang takes OpenMP only through the back door, with a libomp installed beside it.
_OPENMP: tuple[tuple[str, ...], ...] = (("-fopenmp",),)
if sys.platform == "darwin":
    _OPENMP += (("-Xpreprocessor", "-fopenmp", "-lomp"),)

SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")

_REMEDIES = (
    "Install one (`apt install gcc`, or `pip install ziglang`, which needs no administrator), "
    'set CC to a C compiler, or use backend="numpy".'
)

# What the emitted C needs, and what a compiler without its C library lacks.
_PROBE = """\
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(WANT_OPENMP) && !defined(_OPENMP)
#error "the compiler takes the OpenMP flag and ignores it"
#endif
void graphc_probe(float *y, const float *x, int n);
void graphc_probe(float *y, const float *x, int n) {
    memcpy(y, x, (size_t)n * sizeof *y);
#ifdef WANT_OPENMP
    #pragma omp parallel for
#endif
    for (int i = 0; i < n; i++) y[i] = sqrtf(y[i]) + fmaf(x[i], x[i], 1.0f);
}
"""

# The instruction sets a compiler may use unasked, hence those a machine must have; ARM's have other names.
_X86_FEATURE = re.compile(
    r"^#define __((?:SSE|SSSE|AVX|FMA|F16C|BMI|LZCNT|POPCNT|MOVBE|XOP)(?!\w*_MATH__)\w*?)__ 1$", re.MULTILINE
)
_OTHER_FEATURES = {
    "__ARM_NEON": "neon", "__ARM_FEATURE_FMA": "fma", "__ARM_FEATURE_SVE": "sve", "__aarch64__": "aarch64",
}  # fmt: skip


@dataclass(frozen=True)
class Compiler:
    """A C compiler that has been seen to make a shared library.

    argv      the command without flags: an absolute path, then the arguments that $CC carried
    kind      "gcc", "clang", "zig" or "other": how it spells an instruction set
    version   the first line of its --version
    identity  version, command, and path, size and time of change of its programs: what a cache key needs
    flags     those of graphc's flags that it accepts
    openmp    the flags with which an OpenMP library links *and loads*, or None where that does not work
    """

    argv: tuple[str, ...]
    kind: str
    version: str
    identity: str
    flags: tuple[str, ...]
    openmp: tuple[str, ...] | None


@dataclass(frozen=True)
class Target:
    """An instruction set, and the flags that ask a compiler for it.

    name          as requested: "native", "generic" or a -march name
    flags         what the compiler is given
    features      sorted, lower case: "avx2", "avx512f", "fma", "neon", ... as the compiler's own macros tell
    vector_bytes  width in bytes of the vectors to write by hand: 64 (AVX-512), 32 (AVX2 with FMA),
                  16 (NEON of aarch64), or 0: plain C
    fingerprint   SHA-256 of all the predefined macros: what a cache key needs, since "native" is another
                  instruction set on another machine
    """

    name: str
    flags: tuple[str, ...]
    features: tuple[str, ...]
    vector_bytes: int
    fingerprint: str = ""


# --- the compiler ----------------------------------------------------------------------------------------


def find_compiler() -> Compiler:
    """The C compiler to use: $CC (which may carry arguments), else cc, gcc, clang, else the ziglang package.

    A compiler is tried out once and then known by the path, size and time of change of its program; finding a
    known one takes well under a millisecond. Relative paths inside $CC's arguments are not understood, since
    the compiler runs in a directory of its own.

    Raises CompilerNotFoundError if there is none, or if $CC is set and does not work: what the user asked for
    is never replaced in silence. Raises CacheError if what was found cannot be written down.
    """
    if requested := os.environ.get("CC", "").strip():
        try:
            words = shlex.split(requested, posix=os.name == "posix")
        except ValueError as error:
            raise CompilerNotFoundError(f"cannot read CC={requested!r}: {error}") from None
        if (program := shutil.which(words[0])) is None:
            raise CompilerNotFoundError(
                f"CC is set to {requested!r}, but {words[0]!r} is not a program that can be run. "
                "Correct CC, or unset it to let graphc look for a compiler."
            )
        try:
            return _known_or_probed((os.path.abspath(program), *words[1:]))
        except CompilerNotFoundError as error:
            raise CompilerNotFoundError(
                f"CC is set to {requested!r}, which does not work: {error}\n"
                "Correct CC, or unset it to let graphc look for a compiler."
            ) from None

    failures = []
    for argv in _candidates():
        try:
            return _known_or_probed(argv)
        except CompilerNotFoundError as error:  # such as macOS's cc before its tools are installed
            failures.append(f"\n{shlex.join(argv)}: {error}")
    found = "no C compiler works" if failures else "no C compiler found (looked for cc, gcc, clang, ziglang)"
    raise CompilerNotFoundError(f"{found}. {_REMEDIES}{''.join(failures)}")


def _candidates() -> Iterator[tuple[str, ...]]:
    for command in ("cc", "gcc", "clang"):
        if program := shutil.which(command):
            yield (os.path.abspath(program),)
    if zig := _ziglang_program():
        yield (zig, "cc")


def _ziglang_program() -> str | None:
    """The zig inside the ziglang package; `python -m ziglang` would only start a second Python to run it."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.origin:
        return None
    return shutil.which(os.path.join(os.path.dirname(spec.origin), "zig"))


def _known_or_probed(argv: tuple[str, ...]) -> Compiler:
    stamp = _stamp(*_programs(argv))
    record = cache.record_path("compiler", cache.digest(_stamp(__file__), stamp, *argv))  # what we ask may change too
    if known := cache.read_record(record):
        openmp = known["openmp"]
        return Compiler(
            argv, known["kind"], known["version"], known["identity"], tuple(known["flags"]),
            None if openmp is None else tuple(openmp),
        )  # fmt: skip
    compiler = _probe(argv, stamp)
    fields = ("kind", "version", "identity", "flags", "openmp")
    cache.write_record(record, {field: getattr(compiler, field) for field in fields})
    return compiler


def _programs(argv: Sequence[str]) -> Iterator[str]:
    """The paths of the programs that a command names ("ccache gcc": two of them)."""
    for word in argv:
        if word == "ziglang":  # `python -m ziglang cc`: Python stays the same when the package is upgraded
            yield _ziglang_program() or word
        elif not word.startswith("-") and (program := shutil.which(word)):
            yield os.path.realpath(program)


def _stamp(*paths: str) -> str:
    """Path, size and time of change of files: the same stamp, the same content."""
    stamps = []
    for path in paths:
        with suppress(OSError):
            status = os.stat(path)
            stamps.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return "; ".join(stamps)


def _probe(argv: tuple[str, ...], stamp: str) -> Compiler:
    """Try a compiler out; raises CompilerNotFoundError with its own words if it cannot make a library."""
    import tempfile  # a warm start gets by without it

    with cache.writing(), tempfile.TemporaryDirectory(prefix=".probing-", dir=cache.make(cache.directory())) as work:
        Path(work, "probe.c").write_text(_PROBE)

        def attempt(flags: Sequence[str]) -> str | None:
            """What went wrong, or None."""
            library = Path(work, "probe" + SUFFIX)
            library.unlink(missing_ok=True)
            ran = processes.run([*argv, *flags, "-o", library.name, "probe.c", "-lm"], work)
            if ran.code == 0 and library.exists():
                return None
            return processes.first_lines(ran.messages or ran.output) or f"no library and no message (exit {ran.code})"

        def find_openmp(flags: Sequence[str]) -> tuple[str, ...] | None:
            # zig links a library whose OpenMP calls lead nowhere, so only loading it proves anything. Another
            # process loads it: a missing or second OpenMP runtime is not to be met in this one.
            script = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
            load = [sys.executable, "-I", "-S", "-c", script, os.path.join(work, "probe" + SUFFIX)]
            for openmp in _OPENMP:
                if attempt([*flags, *openmp, "-DWANT_OPENMP"]) is None and processes.run(load, work).code == 0:
                    return openmp
            return None

        flags: tuple[str, ...] = _FLAGS
        version = processes.run([*argv, "--version"], work)
        macros = processes.run([*argv, "-dM", "-E", "probe.c"], work).output
        openmp = find_openmp(flags)
        if openmp is None and attempt(flags) is not None:  # find the flags to blame, one at a time
            flags = tuple(flag for flag in flags if flag == "-shared" or attempt(("-shared", flag)) is None)
            if (problem := attempt(flags)) is not None:
                raise CompilerNotFoundError(problem)
            openmp = find_openmp(flags)

    line = next(iter((version.output or version.messages).splitlines()), "unknown version")
    if any(re.match(r"(python-)?zig", os.path.basename(word)) for word in argv):  # its macros are clang's
        kind, line = "zig", f"zig cc, {line}"
    elif "__clang__" in macros:  # before gcc: Apple's gcc is clang, and clang says that it is GNU C too
        kind = "clang"
    else:
        kind = "gcc" if "__GNUC__" in macros else "other"
    return Compiler(argv, kind, line, f"{line}; {shlex.join(argv)}; {stamp}", flags, openmp)


# --- the instruction set ---------------------------------------------------------------------------------


def resolve_target(compiler: Compiler, name: str | None = None) -> Target:
    """What `name` means to this compiler on this machine.

    `name` is "native" (all that this CPU has), "generic" (plain C99: what the compiler assumes unasked), or a
    name that -march takes, such as "x86-64-v3"; None means $GRAPHC_TARGET, else "native". Asked of the
    compiler once per compiler, name and CPU, then read from the cache.

    Raises ValueError for a name that the compiler does not know, and for an instruction set that this CPU
    lacks, which would otherwise end the process with an illegal instruction. Raises CacheError if the answer
    cannot be written down.
    """
    asked = "target=" if name else "GRAPHC_TARGET="
    name = name or os.environ.get("GRAPHC_TARGET", "").strip() or "native"
    record = cache.record_path("target", cache.digest(compiler.identity, name, _cpu(), _stamp(__file__)))
    if known := cache.read_record(record):
        return Target(
            name, tuple(known["flags"]), tuple(known["features"]), known["vector_bytes"], known["fingerprint"]
        )
    target = _ask_target(compiler, name, asked)
    if name not in ("native", "generic"):
        here = resolve_target(compiler, "native").features
        if missing := [feature for feature in target.features if feature not in here]:
            raise ValueError(
                f"{asked}{name!r} needs instructions that this CPU lacks: {', '.join(missing)}. "
                "Use 'native', 'generic' or a smaller -march name."
            )
    fields = ("flags", "features", "vector_bytes", "fingerprint")
    cache.write_record(record, {field: getattr(target, field) for field in fields})
    return target


def _ask_target(compiler: Compiler, name: str, asked: str) -> Target:
    import tempfile  # a warm start gets by without it

    with cache.writing(), tempfile.TemporaryDirectory(prefix=".probing-", dir=cache.make(cache.directory())) as work:
        Path(work, "empty.c").touch()

        def macros(flags: Sequence[str]) -> processes.Ran:
            return processes.run([*compiler.argv, *flags, "-dM", "-E", "empty.c"], work)

        for flags in _spellings(
            compiler, name, is_x86=lambda: re.search("__x86_64__|__i386__", macros(()).output)
        ):
            if (ran := macros(flags)).code == 0:
                break
        else:
            if name not in ("native", "generic"):
                raise ValueError(
                    f"{asked}{name!r} is unknown to {compiler.version}: expected 'native', 'generic' or "
                    f"a -march name that it knows{_names_in(ran.messages)}"
                )
            flags, ran = (), processes.Ran(0, "", "")  # a compiler that cannot tell gets plain C

        features = _features(ran.output)
        vector_bytes = 0 if name == "generic" else _vector_bytes(features)
        # Unasked, both GCC and LLVM leave half of an AVX-512 machine unused.
        wide = _prefer_width(compiler, flags, vector_bytes)
        if wide and (wide_ran := macros(wide)).code == 0:
            flags, ran = wide, wide_ran
    return Target(name, flags, features, vector_bytes, cache.digest(ran.output))


def _spellings(compiler: Compiler, name: str, is_x86: Callable[[], object]) -> Iterator[tuple[str, ...]]:
    """The ways to ask for an instruction set, to be tried in turn."""
    if compiler.kind == "zig":  # native unless told otherwise; underscores, since a dash takes a feature away
        yield ("-mcpu=" + {"generic": "baseline"}.get(name, name.replace("-", "_")),)
    elif name == "generic":
        yield ()
    else:
        yield (f"-march={name}",)
        if not is_x86():  # there -mcpu is an old name of -mtune: it would be taken and mean nothing
            yield (f"-mcpu={name}",)


def _prefer_width(compiler: Compiler, flags: tuple[str, ...], vector_bytes: int) -> tuple[str, ...] | None:
    if vector_bytes not in (32, 64):
        return None
    if compiler.kind != "zig":
        return (*flags, f"-mprefer-vector-width={8 * vector_bytes}")
    # zig accepts -mprefer-vector-width and ignores it.
    return (flags[0] + "-prefer_256_bit",) if vector_bytes == 64 else None


def _features(macros: str) -> tuple[str, ...]:
    found = {match.lower() for match in _X86_FEATURE.findall(macros)}
    found.update(name for macro, name in _OTHER_FEATURES.items() if f"#define {macro} 1\n" in macros)
    return tuple(sorted(found))


def _vector_bytes(features: Sequence[str]) -> int:
    if "avx512f" in features:
        return 64
    if "avx2" in features and "fma" in features:
        return 32
    return 16 if "neon" in features and "aarch64" in features else 0


def _names_in(messages: str) -> str:
    """The names a compiler lists when it refuses one."""
    gcc_or_clang, zig = (
        r"valid (?:arguments|target CPU values).* are: ([^;\n]*)",
        r"available CPUs.*\n((?: .*\n)*)",
    )
    listed = re.search(gcc_or_clang, messages) or re.search(zig, messages)
    return ": " + " ".join(listed[1].replace(",", " ").split()) if listed else ""


@functools.cache
def _cpu() -> str:
    """A digest of what this CPU is, without starting a program."""
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            text = file.read(16384).split(b"\n\n")[0].decode("ascii", "replace")  # the first of the cores
    except OSError:
        import platform  # an import that Linux can do without

        # Darwin's version names the chip. platform.processor() would run `uname`.
        return cache.digest(platform.machine(), platform.version(), os.environ.get("PROCESSOR_IDENTIFIER", ""))
    # Not the clock rate, nor the number of the core.
    keys = r"flags|features|isa|uarch|vendor_id|cpu|cpu (?:family|implementer|variant|part)|model|model name"
    return cache.digest(*re.findall(rf"^(?:{keys})\s*:.*$", text, re.MULTILINE | re.IGNORECASE))


# --- for people ------------------------------------------------------------------------------------------


def describe() -> dict[str, Any]:
    """What `graphc info` prints: compiler, flags, instruction set, OpenMP, cache directory.

    Raises nothing: where something is amiss, "problem" says what, and the keys that depend on it are absent.
    """
    facts: dict[str, Any] = {"cache directory": str(cache.directory())}
    try:
        compiler = find_compiler()
        facts |= {
            "compiler": shlex.join(compiler.argv),
            "kind": compiler.kind,
            "version": compiler.version,
            "flags": shlex.join(compiler.flags),
            "OpenMP": shlex.join(compiler.openmp) if compiler.openmp is not None else None,
        }
        target = resolve_target(compiler)
        facts |= {
            "target": target.name,
            "target flags": shlex.join(target.flags),
            "vector bytes": target.vector_bytes,
            "CPU features": list(target.features),
        }
    except (GraphcError, ValueError) as error:
        facts["problem"] = str(error)
    return facts
