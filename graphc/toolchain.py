"""From C text to a shared library: the compiler, its flags, and the entries of the cache.

The only file that knows C compilers. What it does, in the order in which a program needs it:

    find_compiler()  -->  Compiler    who compiles: $CC, cc, gcc, clang or the zig of `pip install ziglang`
    resolve_target() -->  Target      for which instruction set, and how this compiler spells that
    recall(digest)   -->  record      warm start: this graph was built before, nothing needs rendering
    build(source)    -->  Path        cold start: compile, or find the same content already compiled
    remember(digest, record)          so that the next process recalls it

An entry of the cache is a folder <name>-<key> (:mod:`graphc.cache`) with <name>.c, <name>.so and data files. Its key is
its content (C, command, compiler, instruction set, data), so it never changes and needs no lock: a process builds in a
directory of its own and renames that into place, and whoever comes second uses what is there. An entry that is damaged
or not ours is built again, never loaded. A warm start runs no other program.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from graphc import cache
from graphc.types import CompilationError, CompilerNotFoundError, GraphcError

__all__ = [
    "Compiler", "Target", "build", "describe", "find_compiler", "recall", "remember", "resolve_target",
]  # fmt: skip

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

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")

_TIMEOUT = 600.0  # seconds; zig's first compile ever builds its runtime, on a slow disk for minutes

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
            library = Path(work, "probe" + _SUFFIX)
            library.unlink(missing_ok=True)
            ran = _run([*argv, *flags, "-o", library.name, "probe.c", "-lm"], work)
            if ran.code == 0 and library.exists():
                return None
            return _first_lines(ran.messages or ran.output) or f"no library and no message (exit {ran.code})"

        def find_openmp(flags: Sequence[str]) -> tuple[str, ...] | None:
            # zig links a library whose OpenMP calls lead nowhere, so only loading it proves anything. Another
            # process loads it: a missing or second OpenMP runtime is not to be met in this one.
            script = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
            load = [sys.executable, "-I", "-S", "-c", script, os.path.join(work, "probe" + _SUFFIX)]
            for openmp in _OPENMP:
                if attempt([*flags, *openmp, "-DWANT_OPENMP"]) is None and _run(load, work).code == 0:
                    return openmp
            return None

        flags: tuple[str, ...] = _FLAGS
        version = _run([*argv, "--version"], work)
        macros = _run([*argv, "-dM", "-E", "probe.c"], work).output
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

        def macros(flags: Sequence[str]) -> _Ran:
            return _run([*compiler.argv, *flags, "-dM", "-E", "empty.c"], work)

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
            flags, ran = (), _Ran(0, "", "")  # a compiler that cannot tell gets plain C

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


# --- building --------------------------------------------------------------------------------------------


def build(
    source: str,
    *,
    name: str,
    compiler: Compiler,
    target: Target,
    openmp: bool = False,
    data: Mapping[str, bytes] = MappingProxyType({}),
) -> Path:
    """Compile C into a shared library, or find it compiled; returns the library's absolute path.

    `name` names the files (letters that do not suit a file name become underscores). The C lies beside the
    library with suffix .c, and so do the `data`, a mapping from file name to content; the compiler runs in
    that directory, so the C can include them.

    Raises ValueError if `openmp` is asked of a compiler that has none or a data file's name is not a plain
    one, CompilationError if the compiler refuses the C or gives no answer in ten minutes (the message says
    where the C was kept), and CacheError if the cache directory cannot be written.
    """
    if openmp and compiler.openmp is None:
        raise ValueError(f"OpenMP does not work with {compiler.version}; look at compiler.openmp first")
    stem = re.sub(r"[^A-Za-z0-9_]", "_", name)[:64] or "graph"
    library = stem + _SUFFIX
    files = {f"{stem}.c": source.encode()}
    for file, content in data.items():
        if not re.fullmatch(r"\w[\w.-]*", file) or file in (*files, library, "entry.json"):
            raise ValueError(
                f"data file {file!r}: expected a plain file name that {stem!r} does not use itself"
            )
        files[file] = content

    command = [*compiler.argv, *compiler.flags, *target.flags, *(compiler.openmp or () if openmp else ())]
    command += ["-o", library, f"{stem}.c", "-lm"]
    contents = [part for file in sorted(files) for part in (file, files[file])]
    key = cache.digest(compiler.identity, target.fingerprint, *target.features, "", *command, "", *contents)

    folder = cache.directory()
    entry = folder / f"{stem}-{key[:16]}"
    if _verify(entry, key):
        return entry / library

    import tempfile

    with cache.writing():
        work = Path(tempfile.mkdtemp(prefix=".building-", dir=cache.make(folder)))  # same disk: rename is atomic
        try:
            for file, content in files.items():
                (work / file).write_bytes(content)
            ran = _run(command, work)
            if ran.code != 0 or not (work / library).exists():
                kept = _keep(work, folder / "failed" / entry.name, ran)
                raise CompilationError(_failure(command, ran, kept))
            for path in work.iterdir():
                if path.name in files or path.name == library:
                    path.chmod(0o600)  # whatever the umask: what others can write is not loaded
                else:
                    path.unlink()  # some linkers leave more behind
            checksums = {file: cache.checksum((work / file).read_bytes()) for file in (*sorted(files), library)}
            cache.write_record(work / "entry.json", {"key": key, "command": command, "files": checksums})
            _publish(work, entry, key)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return entry / library


def _publish(work: Path, entry: Path, key: str) -> None:
    """Rename `work` to `entry`, unless another process has put a sound one there first."""
    for last in (False, False, True):
        try:
            os.rename(work, entry)
            return
        except OSError:  # it exists (or cannot be written, and the last attempt says so)
            if _verify(entry, key):
                return
            if last:
                raise
        cache.set_aside(entry)  # damaged or foreign


def _keep(work: Path, kept: Path, ran: _Ran) -> Path:
    (work / "messages.txt").write_text(ran.messages or ran.output)
    cache.make(kept.parent)
    shutil.rmtree(kept, ignore_errors=True)
    try:
        os.rename(work, kept)
    except OSError:  # another process fails over the same C at this moment, and keeps it
        if not kept.is_dir():
            raise
    return kept


def _failure(command: Sequence[str], ran: _Ran, kept: Path) -> str:
    if ran.code is None:
        how = f"gave no answer in {_TIMEOUT:g} s and was stopped"
    elif ran.code < 0:
        how = f"was ended by signal {-ran.code}" + (" (out of memory?)" if ran.code == -9 else "")
    else:
        how = f"failed with exit status {ran.code}" if ran.code else "made no library"
    lines = _first_lines(ran.messages or ran.output) or "(it said nothing)"
    again = f"cd {shlex.quote(str(kept))} && {shlex.join(command)}"
    return f"the C compiler {how}:\n{lines}\nThe C was kept; to see this again: {again}"


def _verify(entry: Path, key: str | None = None) -> bool:
    """Is this a whole, unaltered entry of ours (and the one that `key` asks for)?"""
    record = cache.read_record(entry / "entry.json")
    try:
        if record is None or not cache.is_ours(os.stat(entry, follow_symlinks=False)):
            return False
    except OSError:
        return False
    if not entry.name.endswith(record["key"][:16]) or key not in (None, record["key"]):
        return False
    for file, checksum in record["files"].items():
        content = cache.read_private(entry / file)
        if content is None or cache.checksum(content) != checksum:
            return False
    return True


# --- warm starts -----------------------------------------------------------------------------------------


def recall(digest: str, compiler: Compiler, target: Target) -> dict[str, Any] | None:
    """What was remembered for a graph, or None if there is nothing that can be relied on.

    `digest` is the caller's, and covers graph, graphc version and options; compiler and target are added
    here. The record comes back as JSON gives it (tuples are lists), with `record["library"]` set to the
    absolute Path of the library, which has been checked: an entry that is gone, damaged or foreign is not
    recalled.
    """
    known = cache.read_record(_graph_record(digest, compiler, target))
    if known is None:
        return None
    library = cache.directory() / known["library"]
    return known["record"] | {"library": library} if _verify(library.parent) else None


def remember(
    digest: str, record: Mapping[str, Any], *, library: Path, compiler: Compiler, target: Target
) -> None:
    """Note that the graph of `digest` was built into `library` (a path that `build` returned).

    `record` is whatever JSON-able facts loading needs. Raises ValueError if the library is not in the cache
    directory, TypeError if the record is not JSON-able, CacheError if it cannot be written.
    """
    relative = library.relative_to(cache.directory()).as_posix()  # the cache may be moved as a whole
    cache.write_record(_graph_record(digest, compiler, target), {"library": relative, "record": dict(record)})


def _graph_record(digest: str, compiler: Compiler, target: Target) -> Path:
    parts = (digest, compiler.identity, *compiler.flags, "", *target.flags, "", target.fingerprint)
    return cache.record_path("graph", cache.digest(*parts))


# --- running programs ------------------------------------------------------------------------------------


class _Ran(NamedTuple):
    code: int | None  # None: stopped after _TIMEOUT; 127: not started; negative: ended by that signal
    output: str
    messages: str


def _run(command: Sequence[str], directory: str | Path) -> _Ran:
    """Run a program to its end, or to _TIMEOUT seconds. English messages, no input, never raises OSError."""
    import subprocess  # a warm start gets by without it

    pipe = subprocess.PIPE
    try:
        # A session of its own, so that what ends a compiler's driver also ends the programs it has started,
        # which would otherwise hold the pipes open.
        process = subprocess.Popen(
            command, cwd=directory, env=os.environ | {"LC_ALL": "C"}, stdin=subprocess.DEVNULL, stdout=pipe,
            stderr=pipe, encoding="utf-8", errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return _Ran(127, "", str(error))
    with process:
        try:
            output, messages = process.communicate(timeout=_TIMEOUT)
        except BaseException as error:  # Ctrl-C included
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL) if os.name == "posix" else process.kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return _Ran(None, "", f"no answer in {_TIMEOUT:g} s")
    return _Ran(process.returncode, output, messages)


def _first_lines(text: str, count: int = 20) -> str:
    lines = text.strip().splitlines()
    if len(lines) > count:
        lines[count:] = [f"... ({len(lines) - count} more lines)"]
    return "\n".join(lines)


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
