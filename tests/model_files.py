"""Model files taken apart and forged: right checksums, wrong contents."""

from __future__ import annotations

import contextlib
import json
import struct

import safetensors.numpy

from prunus.engine.file import load
from prunus.engine.header import sign
from prunus.errors import ModelFileError


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
