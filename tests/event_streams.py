"""What tests of streams share: a schema, rows as a stream has them, and the law of resuming."""

from __future__ import annotations

import json

import numpy as np

from prunus.data.events import Events, EventSchema

SCHEMA = EventSchema(
    id_fields=("user", "item"), dense=("age", "price"), label="clicks>0", time=("ms",), key=("request",)
)


def rows(n, seed=0):
    """Make n records of the schema, in time order; some ids and dense values are missing."""
    rng = np.random.default_rng(seed)
    return [
        {
            "user": int(rng.integers(0, 50)),
            "item": None if rng.random() < 0.1 else f"i{rng.integers(0, 30)}",
            "age": float(np.float32(rng.normal())),
            "price": None if rng.random() < 0.1 else float(rng.integers(1, 100)),
            "clicks": int(rng.random() < 0.3),
            "ms": 1000 + 10 * place,
            "request": f"r{place}",
        }
        for place in range(n)
    ]


def lines(records):
    """Write records as lines of JSON; what is a string already stays as it is."""
    return b"".join((one if isinstance(one, str) else json.dumps(one)).encode() + b"\n" for one in records)


def read_all(source, n=7):
    """Read to the end, n at a time."""
    parts = []
    while (part := source.read(n)) is not None:
        parts.append(part)
    return Events.concat([Events.empty(source.schema), *parts])


def assert_same(one, other):
    """Hold two lots of events to the same bits."""
    for name, column in one.arrays().items():
        assert np.array_equal(column, getattr(other, name), equal_nan=column.dtype.kind == "f"), name


def assert_resumes(make, n, take=lambda source: source.position(), give=lambda source, point: source.seek(point)):
    """Stop anywhere: a new source that is put there gives the same following batches, and the same counts in the end.

    Args:
        make: makes a source.
        n: events asked for at a time.
        take: says where a source stands.
        give: puts a new source there.
    """
    whole, points, batches = make(), [], []
    while True:
        points.append((json.loads(json.dumps(whole.rejects.state())), take(whole)))
        batch = whole.read(n)
        if batch is None:
            break
        batches.append(batch)
    for i, (rejects, point) in enumerate(points):
        resumed = make()
        give(resumed, point)
        resumed.rejects.load(rejects)
        for expected in batches[i:]:
            assert_same(expected, resumed.read(n))
        assert resumed.read(n) is None
        assert resumed.rejects.counts == whole.rejects.counts
    return batches
