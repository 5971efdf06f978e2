"""Where graphc keeps what it has made, and what of it is believed.

    <name>-<key>/       an entry of libraries.py: C, library, data files, entry.json with a checksum of each
    records/            small checksummed JSON: what a compiler was found to be, what a graph was built into
    bytes/              what can be made again at a price, with a checksum
    failed/<name>-<key> the C and the messages of a compilation that failed
    .building-*         work in progress

Nothing is believed unread: what is truncated, altered, owned by another user or writable by one counts as absent. Files appear
whole or not at all, by a rename, so that any number of processes need no lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from graphc.types import CacheError, GraphcError

__all__ = [
    "checksum", "digest", "directory", "is_new", "is_ours", "make", "read_private", "read_record", "recall_bytes", "record_path",
    "remember_bytes", "set_aside", "write_record", "writing",
]  # fmt: skip


def directory() -> Path:
    """Where compiled graphs are kept (an absolute path, which need not exist yet).

    $GRAPHC_BUILD_DIR if set; in a checkout of graphc its build/; else the user's cache directory.
    """
    if chosen := os.environ.get("GRAPHC_BUILD_DIR"):
        return Path(chosen).expanduser().absolute()
    if (checkout := _checkout_build(Path(__file__).absolute().parents[1])) is not None:
        return checkout
    import platformdirs  # only an installed graphc needs it

    return Path(platformdirs.user_cache_dir("graphc", appauthor=False))


def is_new() -> bool:
    """Whether nothing is in the cache yet, so that every question to the compiler is still to be asked."""
    return not (directory() / "records").exists()


def _checkout_build(root: Path) -> Path | None:
    try:
        project = (root / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return None
    ours = re.search(r"""^name\s*=\s*["']graphc["']""", project, re.MULTILINE)
    return root / "build" if ours and (root / "build").is_dir() else None


@contextmanager
def writing() -> Iterator[None]:
    """Turn what the file system refuses into a CacheError."""
    try:
        yield
    except GraphcError:
        raise
    except OSError as error:
        raise CacheError(
            f"cannot write to the build cache {directory()}: {error}. "
            "Set GRAPHC_BUILD_DIR to a directory that you can write to."
        ) from error


def make(directory: Path) -> Path:
    """The directory itself, made if it is not there; nobody else may look into it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def is_ours(status: os.stat_result) -> bool:
    """Can nobody but this user (and root, who can do anything) have written it?"""
    if os.name != "posix":
        return True  # Windows keeps the profile directory private; its mode bits say nothing
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def read_private(path: Path) -> bytes | None:
    """The content of a regular file that is ours, else None. The file asked is the file read."""
    try:
        with open(path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            return file.readall() if stat.S_ISREG(status.st_mode) and is_ours(status) else None
    except OSError:
        return None


def record_path(kind: str, key: str) -> Path:
    """The file of a record."""
    return directory() / "records" / f"{kind}-{key[:32]}.json"


def read_record(path: Path) -> dict[str, Any] | None:
    """A record as written, or None if it is absent, damaged or not ours."""
    content = read_private(path)
    try:
        sealed = json.loads(content or b"")
        record = sealed["record"]
        sound = sealed["sha256"] == checksum(_canonical(record)) and isinstance(record, dict)
    except (ValueError, KeyError, TypeError):
        return None
    return record if sound else None


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Keep a record with its checksum. Raises CacheError if the cache cannot be written, TypeError if it is not JSON-able."""
    _write(path, json.dumps({"record": record, "sha256": checksum(_canonical(record))}, indent=1).encode())


def _write(path: Path, content: bytes) -> None:
    """A private file, there as a whole or not at all."""
    import tempfile

    with writing():
        descriptor, temporary = tempfile.mkstemp(prefix=".record-", dir=make(path.parent))  # mode 0600
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
            if path.is_dir():
                set_aside(path)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def set_aside(path: Path) -> None:
    """Delete a directory that is in the way: renamed first, so that nobody meets it half deleted."""
    import tempfile

    away = tempfile.mkdtemp(prefix=".replaced-", dir=path.parent)
    with suppress(OSError):  # another process was first
        os.rename(path, os.path.join(away, path.name))
    shutil.rmtree(away, ignore_errors=True)


def recall_bytes(name: str) -> bytes | None:
    """What :func:`remember_bytes` kept under a file name, if it is there, whole and ours."""
    content = read_private(directory() / "bytes" / name)
    if content is None or content[:64] != checksum(content[64:]).encode():
        return None
    return content[64:]


def remember_bytes(name: str, content: bytes) -> None:
    """Keep bytes that can be made again at a price. Raises CacheError if the cache cannot be written."""
    _write(directory() / "bytes" / name, checksum(content).encode() + content)


def _canonical(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True).encode()


def checksum(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest(*parts: str | bytes) -> str:
    """SHA-256 of a sequence; lengths go in too, so that ("ab", "c") is not ("a", "bc")."""
    state = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        state.update(b"%d:" % len(content))
        state.update(content)
    return state.hexdigest()
