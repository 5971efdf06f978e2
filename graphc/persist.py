"""Parameters to a file and back: ``.npz`` without pickle, or ``.safetensors``; all of them or none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from graphc.concurrency import guarded
from graphc.ir import Array, Parameter
from graphc.runtime import Function
from graphc.types import InputTypeError, InputValueError

__all__ = ["load", "save"]


def save(path: str | os.PathLike[str], source: Function | Mapping[str, Parameter]) -> None:
    """Write every parameter of a function (a train step's slots too), or of a dict, by name.

    The format is that of the suffix, ``.npz`` or ``.safetensors`` (needs ``pip install 'graphc[safetensors]'``). The
    file appears whole or not at all, and an older one stays until then.
    """
    target, parameters = _format(path), _parameters(source)
    with guarded(list(parameters.values())):
        arrays = {name: parameter.value.copy() for name, parameter in parameters.items()}
    data = _safetensors().save(arrays) if target.suffix == ".safetensors" else _to_npz(arrays)
    beside = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError) and error.filename == str(beside):
            error.filename = str(target)  # the name that the user gave
        raise


def load(path: str | os.PathLike[str], target: Function | Mapping[str, Parameter], *, ignore_extra: bool = False) -> None:
    """Copy values saved by :func:`save` into the parameters of the same names.

    Names, shapes and dtypes must all be the same; otherwise :class:`InputValueError` lists every difference, and
    nothing has changed. With ``ignore_extra`` the file may have more than ``target`` has: what a train step saved
    goes into a function that predicts.
    """
    file, parameters = _format(path), _parameters(target)
    data = file.read_bytes()
    try:
        arrays = _safetensors().load(data) if file.suffix == ".safetensors" else _from_npz(data)
    except ImportError:
        raise
    except Exception as error:
        raise InputValueError(f"{file} is damaged or no {file.suffix} file of parameters: {error}") from error
    wrong = [f"{name!r} is not in the file" for name in parameters if name not in arrays]
    extra = [] if ignore_extra else [name for name in arrays if name not in parameters]
    wrong += [f"{name!r} is in the file only" for name in extra]
    for name, parameter in parameters.items():
        array = arrays.get(name)
        if array is not None and (array.shape != parameter.shape or array.dtype != parameter.value.dtype):
            wrong.append(f"{name!r} is {array.dtype}{list(array.shape)} in the file, {parameter.type} here")
    if wrong:
        hint = "\nload(..., ignore_extra=True) passes over what is in the file only" if extra else ""
        raise InputValueError(f"{file} does not fit; nothing was loaded:\n  " + "\n  ".join(wrong) + hint)
    with guarded(list(parameters.values())):
        for name, parameter in parameters.items():
            parameter.value[...] = arrays[name]


def _format(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    if file.suffix not in (".npz", ".safetensors"):
        raise InputValueError(f"{file}: the suffix says the format and must be .npz or .safetensors")
    return file


def _parameters(source: Any) -> dict[str, Parameter]:
    parameters = source.parameters if isinstance(source, Function) else source
    if not isinstance(parameters, Mapping) or not all(isinstance(p, Parameter) for p in parameters.values()):
        raise InputTypeError(f"expected a compiled function, a train step or a dict of parameters, got {source!r}")
    if not all(isinstance(name, str) and name for name in parameters):
        raise InputTypeError(f"parameters are saved by name, and names are strings, got {list(parameters)!r}")
    return dict(parameters)


def _to_npz(arrays: Mapping[str, Array]) -> bytes:
    """What ``np.savez`` writes; it cannot take every name, and would pickle."""
    from zipfile import ZipFile  # few programs save

    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def _from_npz(data: bytes) -> dict[str, Array]:
    from zipfile import ZipFile

    arrays = {}
    with ZipFile(BytesIO(data)) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
    return arrays


def _safetensors() -> Any:
    try:
        import safetensors.numpy as module
    except ImportError as error:
        raise ImportError("a .safetensors file needs `pip install 'graphc[safetensors]'`") from error
    return module
