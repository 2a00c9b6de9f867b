"""A small model file; and files taken apart and forged: right checksums, wrong contents."""

from __future__ import annotations

import contextlib
import json
import struct

import numpy as np
import safetensors.numpy

from prunus.data.ranking import Schema
from prunus.engine.file import load, to_bytes
from prunus.engine.header import sign
from prunus.engine.network import Activation, Dense, InputStage, Network, SlotKind, Sparse
from prunus.errors import ModelFileError


def f32(*values):
    """Make a float32 array."""
    return np.array(values, np.float32)


def u16(*values):
    """Make a uint16 array."""
    return np.array(values, np.uint16)


def i32(*values):
    """Make an int32 array."""
    return np.array(values, np.int32)


def known_network():
    """Make a small network whose first layer is sparse and second dense, and its schema."""
    n = 3
    inputs = InputStage(
        feature=np.array([0, 1, 1]),
        kind=np.array([SlotKind.VALUE, SlotKind.LOG, SlotKind.MISSING]),
        center=np.zeros(n, np.float32),
        scale=np.ones(n, np.float32),
        lower=np.full(n, -4, np.float32),
        upper=np.full(n, 4, np.float32),
        fill=np.zeros(n, np.float32),
    )
    first = np.array([[1, 0, -0.5], [0, 2, 0]], np.float32)
    layers = (
        Sparse.from_dense(first, np.array([0.1, -0.2], np.float32), Activation.RELU6),
        Dense(np.array([[1, -1]], np.float32), np.array([0.5], np.float32), Activation.IDENTITY),
    )
    return Network(4, inputs, layers), Schema(("a", "b", "c", "d"), (False, True, False, False))


def known_bytes():
    """Give the bytes of that network's file."""
    return to_bytes(*known_network(), metadata={"teacher": "ranker.txt"})


def parts_of(content):
    """Take a file apart: (tensors, the header of prunus)."""
    length = struct.unpack("<Q", content[:8])[0]
    outer = json.loads(content[8 : 8 + length])
    return safetensors.numpy.load(content), json.loads(outer["__metadata__"]["prunus"])


def forge(content, tensors=None, header=None):
    """Put a file together again with some tensors and header fields replaced (None removes), and sign it."""
    old_tensors, old_header = parts_of(content)
    new_tensors = {name: value for name, value in (old_tensors | (tensors or {})).items() if value is not None}
    new_header = {key: value for key, value in (old_header | (header or {})).items() if value is not None}
    new_header["sha256"] = new_header.pop("sha256", "0" * 64)
    text = json.dumps(new_header, separators=(",", ":"), ensure_ascii=False)
    return sign(safetensors.numpy.save(new_tensors, {"prunus": text}))


def forge_outer(content, change):
    """Let a function change safetensors' own header, and sign what comes out; the data stay as they are."""
    length = struct.unpack("<Q", content[:8])[0]
    outer = json.loads(content[8 : 8 + length])
    changed = change(outer)
    text = changed if isinstance(changed, bytes) else json.dumps(outer, separators=(",", ":")).encode()
    forged = struct.pack("<Q", len(text)) + text + content[8 + length :]
    with contextlib.suppress(ModelFileError):  # where the change leaves no checksum, or two, there is none to set
        forged = sign(forged)
    return forged


def load_bytes(path, content):
    """Write bytes and load them; only ModelFileError may come out."""
    path.write_bytes(content)
    return load(path)
