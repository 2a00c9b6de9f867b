"""How golden files look: a row of arrays, for a runner without Python.

Each array is, in little-endian bytes and with nothing between: the length of its name, uint32; the
name; its type, one of ``s`` (text), ``f`` (float32), ``d`` (float64), ``i`` (int32), ``b`` (int8), ``B`` (uint8); the
number of its entries, uint32; the entries. An array ``case`` begins a case and an array ``layer`` a layer of it;
``native/golden.cpp`` reads them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

TYPES = {"float32": "f", "float64": "d", "int32": "i", "int8": "b", "uint8": "B"}


@dataclass(frozen=True)
class Case:
    """One case of a golden file.

    Attributes:
        name: unlike any other's.
        kernel: what it is about.
        arrays: name and array of each that belongs to the whole.
        layers: the arrays of each layer; none for an ensemble.
    """

    name: str
    kernel: str
    arrays: dict[str, np.ndarray]
    layers: tuple[dict[str, np.ndarray], ...] = ()


def write(path, cases):
    """Write a golden file."""
    with path.open("wb") as file:
        for case in cases:
            put(file, "case", case.name)
            put(file, "kernel", case.kernel)
            for name, array in case.arrays.items():
                put(file, name, array)
            for layer in case.layers:
                for name, array in layer.items():
                    put(file, name, array)


def put(file, name, values):
    """Write one array, or a text."""
    if isinstance(values, str):
        kind, count, body = "s", len(values.encode()), values.encode()
    else:
        array = np.ascontiguousarray(values)
        kind, count, body = TYPES[str(array.dtype)], array.size, array.astype(array.dtype.newbyteorder("<")).tobytes()
    file.write(struct.pack("<I", len(name)) + name.encode() + kind.encode() + struct.pack("<I", count) + body)
