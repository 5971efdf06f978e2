"""Libraries that a compiler has made, or makes: entries of the cache, built and found again.

    recall(digest)   -->  record      warm start: this graph was built before, nothing needs rendering
    build(source)    -->  Path        cold start: compile, or find the same content already compiled
    remember(digest, record)          so that the next process recalls it

An entry of the cache is a folder <name>-<key> (:mod:`graphc.cache`) with <name>.c, <name>.so and data files. Its key is
its content (C, command, compiler, instruction set, data), so it never changes and needs no lock: a process builds in a
directory of its own and renames that into place, and whoever comes second uses what is there. An entry that is damaged
or not ours is built again, never loaded. A warm start runs no other program.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from graphc import cache, processes
from graphc.toolchain import SUFFIX, Compiler, Target
from graphc.types import CompilationError

__all__ = ["build", "recall", "remember"]


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
    library = stem + SUFFIX
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
            ran = processes.run(command, work)
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


def _keep(work: Path, kept: Path, ran: processes.Ran) -> Path:
    (work / "messages.txt").write_text(ran.messages or ran.output)
    cache.make(kept.parent)
    shutil.rmtree(kept, ignore_errors=True)
    try:
        os.rename(work, kept)
    except OSError:  # another process fails over the same C at this moment, and keeps it
        if not kept.is_dir():
            raise
    return kept


def _failure(command: Sequence[str], ran: processes.Ran, kept: Path) -> str:
    if ran.code is None:
        how = f"gave no answer in {processes.TIMEOUT:g} s and was stopped"
    elif ran.code < 0:
        how = f"was ended by signal {-ran.code}" + (" (out of memory?)" if ran.code == -9 else "")
    else:
        how = f"failed with exit status {ran.code}" if ran.code else "made no library"
    lines = processes.first_lines(ran.messages or ran.output) or "(it said nothing)"
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
