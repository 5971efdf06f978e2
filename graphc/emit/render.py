"""The templates of the C, as Jinja reads them."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from graphc.cache import recall_bytes, remember_bytes
from graphc.types import CacheError

if TYPE_CHECKING:
    import jinja2

__all__ = ["environment", "read_templates"]


@cache
def environment() -> jinja2.Environment:
    """The templates: beside the package in a checkout, inside of it when installed.

    Jinja takes 0.3 s to make Python of them; the cache keeps that for the next process.
    """
    import jinja2

    class Compiled(jinja2.BytecodeCache):
        def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
            if (known := recall_bytes(f"template-{bucket.key}")) is not None:
                bucket.bytecode_from_string(known)  # nothing, if the template has changed

        def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
            with suppress(CacheError):  # to render, nothing need be written
                remember_bytes(f"template-{bucket.key}", bucket.bytecode_to_string())

    package = Path(__file__).resolve().parent.parent
    folders = [package / "templates", package.parent / "templates"]
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([str(folder) for folder in folders]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        bytecode_cache=Compiled(),
    )


def read_templates() -> None:
    """Have Jinja read what most programs are made of."""
    whole = ("program.c", "program.h", "vector.h", "tiles.c", "contract.c", "loops.c", "helpers.h", "math.h")
    for name in (*whole, *(f"math/{file}.h" for file in ("bits", "exp", "log"))):
        environment().get_template(f"{name}.j2")
