"""Model files with one or a few things wrong, and the checksum right: what a fuzzer feeds the reader with.

A file is taken apart into safetensors' header, our header and the arrays; something in them changes, mostly to a value
at the edge of its type; and the parts are put together and signed again. Random bytes would never pass the checksum.
"""

from __future__ import annotations

import contextlib
import copy
import json
import struct

import numpy as np

from prunus.data.ranking import Schema
from prunus.engine import click_codec, click_file, click_reference, recommender_codec, recommender_file
from prunus.engine import file as model_file
from prunus.engine.codec import widen
from prunus.engine.header import sign
from prunus.errors import PrunusError

TYPES = {"U8": np.uint8, "U64": np.uint64, "I8": np.int8, "U16": np.uint16, "I16": np.int16, "I32": np.int32, "F32": np.float32, "F64": np.float64, "I64": np.int64, "F16": np.float16}  # fmt: skip
OTHER_TYPES = ("BOOL", "BF16", "U32", "U64", "F8_E4M3", "Q4", "")

WHOLE = (-1, 0, 1, 2, 3, 4, 7, 8, 63, 64, 65, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 65537, 2**31 - 1, -(2**31))  # fmt: skip
REAL = (0.0, -0.0, 1.0, -1.0, 0.5, 6.0, 1e-45, 1e-38, 1e-30, 1e30, 1e38, 3.4e38, -3.4e38, 127.0, 255.0, np.nan, np.inf, -np.inf)  # fmt: skip
JSON = (None, True, False, 0, 1, -1, 2, 63, 64, 65, 65536, 2**31, 2**63, 10**40, 0.0, 1.5, -1e308, "", "dense", "sparse", "dense_int8", "block_int8", "relu6", "ranker", "I16", "F64", "recommender", "levels", "untied", "item_item", "F16", "0" * 64, "\x00\\\"'", [], {}, [[]], [0] * 70, {"a": 1})  # fmt: skip
NESTED = 5000

BROKEN = (ValueError, KeyError, TypeError, IndexError, OverflowError, AttributeError, RecursionError, struct.error)
"""What taking apart a file that is broken already may raise."""


class Parts:
    """A model file taken apart."""

    def __init__(self, content: bytes) -> None:
        length = struct.unpack("<Q", content[:8])[0]
        outer = json.loads(content[8 : 8 + length])
        data = content[8 + length :]
        self.header = json.loads(outer.pop("__metadata__")["prunus"])
        self.arrays = {}
        for name, entry in outer.items():
            begin, end = entry["data_offsets"]
            array = np.frombuffer(data[begin:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
            self.arrays[name] = array.copy()
        self.overrides: dict[str, dict[str, object]] = {}  # fields of safetensors' entries that lie
        self.texts: dict[str, object] = {}  # more metadata beside our header
        self.inner = self.outer = lambda text: text  # changes of the two JSON texts

    def assemble(self) -> bytes:
        """Put the file together again, unsigned."""
        header = {key: value for key, value in self.header.items() if key != "sha256"}
        header["sha256"] = "0" * 64
        text = self.inner(json.dumps(header, separators=(",", ":"), ensure_ascii=False))
        outer: dict[str, object] = {"__metadata__": {"prunus": text, **self.texts}}
        data = b""
        dtypes = {np.dtype(value): key for key, value in TYPES.items()}
        for name, array in self.arrays.items():
            place = [len(data), len(data) + array.nbytes]
            entry = {"dtype": dtypes[array.dtype], "shape": list(array.shape), "data_offsets": place}
            outer[name] = {**entry, **self.overrides.get(name, {})}
            data += array.tobytes()
        packed = self.outer(json.dumps(outer, separators=(",", ":"))).encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(packed)) + packed + data


def _some_array(parts, rng):
    return rng.choice(sorted(parts.arrays))


def _edge(dtype, size, rng):
    """Draw a value at the edge of a type, or near the number of entries."""
    if dtype.kind == "f":
        value = rng.choice(REAL)
    else:
        info = np.iinfo(dtype)
        value = rng.choice([*WHOLE, size - 1, size, size + 1, ~size, info.min, info.max])
        value = (int(value) - info.min) % (info.max - info.min + 1) + info.min
    with np.errstate(over="ignore"):
        return np.asarray(value).astype(dtype)


def change_values(parts, rng):
    """Set some entries of an array to edge values."""
    name = _some_array(parts, rng)
    flat = parts.arrays[name].reshape(-1)
    if flat.size:
        for _ in range(rng.choice([1, 1, 2, flat.size])):
            flat[rng.randrange(flat.size)] = _edge(flat.dtype, rng.choice([flat.size, len(parts.arrays)]), rng)


def nudge_values(parts, rng):
    """Change an entry of an array by one, or swap two."""
    flat = parts.arrays[_some_array(parts, rng)].reshape(-1)
    if flat.size:
        i, j = rng.randrange(flat.size), rng.randrange(flat.size)
        with np.errstate(over="ignore"):
            if rng.random() < 0.5:
                flat[i] += flat.dtype.type(1) if rng.random() < 0.5 else flat.dtype.type(0) - flat.dtype.type(1)
            else:
                flat[i], flat[j] = flat[j], flat[i]


def change_shape(parts, rng):
    """Cut, repeat, empty, turn or reshape an array."""
    name = _some_array(parts, rng)
    array = parts.arrays[name]
    flat = array.reshape(-1)
    made = rng.choice([
        lambda: flat[: rng.randrange(flat.size + 1)], lambda: np.tile(flat, rng.choice([2, 3, 50])), lambda: flat[:0],
        lambda: array.T, lambda: flat, lambda: array[None], lambda: flat[:, None], lambda: flat[:1].reshape(()) if flat.size else flat,
        lambda: np.concatenate([flat, flat[-1:]]),
    ])()  # fmt: skip
    parts.arrays[name] = np.ascontiguousarray(made)


def change_type(parts, rng):
    """Give an array another type, by value."""
    name = _some_array(parts, rng)
    with np.errstate(all="ignore"):
        parts.arrays[name] = parts.arrays[name].astype(rng.choice(list(TYPES.values())))


def lie_in_entry(parts, rng):
    """Let safetensors' header lie about an array: its type, shape or place."""
    name = _some_array(parts, rng)
    size = parts.arrays[name].size
    places = [
        [0, 8],
        [0, 0],
        [-8, 0],
        [8, 0],
        [0, 2**63],
        [0, 10**30],
        [0, 2**40],
        "ab",
        [0.0, 8.0],
        [True, 4],
        [],
        [1],
    ]
    shapes = [
        [],
        [0],
        [size + 1],
        [1, size],
        [2**62, 4],
        [0, 2**62],
        [10**30],
        [-1, -size],
        "1",
        [1.0],
        [True],
        [2**31],
    ]
    entry = rng.choice([
        {"data_offsets": rng.choice(places)}, {"shape": rng.choice(shapes)}, {"dtype": rng.choice([*TYPES, *OTHER_TYPES, None, []])},
        {"more": 1},
    ])  # fmt: skip
    parts.overrides.setdefault(name, {}).update(entry)


def drop_or_add(parts, rng):
    """Drop an array, rename one, or add one."""
    name = _some_array(parts, rng)
    how = rng.randrange(4)
    if how == 0:
        del parts.arrays[name]
    elif how == 1:
        parts.arrays[name + rng.choice(["", "x", "\x00", ".0"])] = parts.arrays.pop(name)
    elif how == 2:
        parts.arrays["layer.9.weight"] = np.ones(3, np.float32)
    else:
        other = _some_array(parts, rng)
        parts.arrays[name], parts.arrays[other] = parts.arrays[other], parts.arrays[name]


def change_header(parts, rng):
    """Change, drop, double or add something anywhere in our header."""
    node, path = parts.header, []
    while isinstance(node, dict | list) and node and (not path or rng.random() < 0.8):
        key = rng.choice(sorted(node)) if isinstance(node, dict) else rng.randrange(len(node))
        path.append((node, key))
        node = node[key]
    holder, key = path[-1]
    how = rng.randrange(6)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, list):
        holder[key:key] = [copy.deepcopy(holder[key])] * rng.choice([1, 1, 2, 70])
    elif how == 2 and isinstance(holder, dict):
        holder[rng.choice(["more", "trees", "layers", "kind", ""])] = rng.choice(JSON)
    elif how == 3 and isinstance(node, int) and not isinstance(node, bool):
        holder[key] = node + rng.choice([-1, 1, 2**16, 2**31])
    else:
        holder[key] = rng.choice(JSON)


def break_text(parts, rng):
    """Break one of the two JSON texts: doubled keys, deep nesting, constants, long numbers, cut ends."""

    def change(text):
        at = rng.choice([i for i, letter in enumerate(text) if letter in '{,:["'] or [0])
        return rng.choice([
            lambda: text.replace("{", '{"kind":"ranker","kind":', 1), lambda: text[:-1] + ',"x":' + "[" * NESTED + "]" * NESTED + "}",
            lambda: text[:-1] + ',"x":NaN}', lambda: text[:-1] + ',"x":' + "9" * 5000 + "}", lambda: text[:at] + text[at + 1 :],
            lambda: text[:at] + rng.choice('{}[]",:\\\x00') + text[at:], lambda: text[:-1], lambda: "[" + text + "]",
            lambda: text[: len(text) // 2] + text, lambda: text + text, lambda: text.replace("0" * 64, "0" * 63), lambda: text + " " * 70,
            lambda: text[:-1] + "," + text[1:],
        ])()  # fmt: skip

    which = rng.choice(["inner", "outer", "texts"])
    if which == "texts":
        parts.texts[rng.choice(["prunus2", "more", "format"])] = rng.choice(
            ["x", json.dumps(parts.header), 1, {}, None]
        )
    else:
        setattr(parts, which, change)


CHANGES = (change_values,) * 6 + (nudge_values,) * 3 + (change_shape,) * 3 + (change_header,) * 5 + (lie_in_entry,) * 2 + (change_type, drop_or_add, break_text)  # fmt: skip


def make_checks_right(content: bytes) -> bytes:
    """Put the scores into a file that its model gives here, so that a changed model passes the last check.

    Returns:
        The file, signed; as it was where it describes no model.
    """
    # Arrays of types that no file of the kind has are cast on the way.
    with contextlib.suppress(PrunusError, *BROKEN), np.errstate(all="ignore"):
        parts = Parts(content)
        version = parts.header["format_version"]
        if parts.header["kind"] == recommender_file.KIND:
            entry = parts.header[recommender_file.KEY]
            recommender_codec.types(entry, "the mutated file")
            parts.arrays["check"] = recommender_file.check_scores(recommender_codec.build(entry, parts.arrays)[0])
            return sign(parts.assemble())
        if parts.header["kind"] == click_file.KIND:
            entry = parts.header[click_file.KIND]
            click_codec.types(entry, version, "the mutated file")
            model = click_codec.build(entry, parts.arrays)
            dense = click_codec.check_dense(model)
            scores = click_reference.score(model, click_codec.check_ids(model), dense)
            parts.arrays |= {"check.dense": dense, "check.scores": scores}
            return sign(parts.assemble())
        (codec,) = (one for one in model_file.CODECS if one.key in parts.header and one.since <= version)
        entry, schema = parts.header[codec.key], parts.header["schema"]
        codec.types(entry, version, "the mutated file")
        model = codec.build(entry, parts.arrays, len(schema["feature_names"]))
        rows = codec.check_rows(model, Schema(tuple(schema["feature_names"]), tuple(schema["allow_missing"])))
        scores = codec.score(model, widen(rows, model))
        parts.arrays |= {"check.rows": rows, "check.scores": np.asarray(scores, np.float32)}
        return sign(parts.assemble())
    return content


def mutate(content: bytes, rng) -> bytes:
    """Change a model file.

    Args:
        content: a model file, or anything.
        rng: a ``random.Random``.
    """
    try:
        parts = Parts(content)
    except BROKEN:
        parts = None
    if parts is None or not parts.arrays or rng.random() < 0.05:
        return _mutate_bytes(content, rng)
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 6])):
        if parts.arrays and parts.header:
            with contextlib.suppress(*BROKEN):  # a shape of an earlier change may be too much for NumPy
                rng.choice(CHANGES)(parts, rng)
    try:
        made = parts.assemble()
    except BROKEN:  # a change of the text that cannot be put together
        return _mutate_bytes(content, rng)
    if rng.random() < 0.03:
        return made  # the checksum is zeros
    with contextlib.suppress(PrunusError):
        made = sign(made)
    return make_checks_right(made) if rng.random() < 0.4 else made


def _mutate_bytes(content: bytes, rng) -> bytes:
    """Flip, cut, insert or repeat bytes anywhere; mostly signed again."""
    made = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(made) + 1)
        how = rng.randrange(5)
        if how == 0 and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del made[at : at + rng.choice([1, 4, 1000])]
        elif how == 2:
            made[at:at] = rng.randbytes(rng.choice([1, 4, 64]))
        elif how == 3 and len(made) >= 8:
            made[:8] = struct.pack(
                "<Q", rng.choice([0, 1, len(made), len(made) - 8, 2**24, 2**24 + 1, 2**63, 2**64 - 1])
            )
        else:
            made = made[:at]
    if rng.random() < 0.7:
        with contextlib.suppress(PrunusError):
            return sign(bytes(made))
    return bytes(made)
