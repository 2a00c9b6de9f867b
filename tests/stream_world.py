"""A small stream for tests of the loop: events, a learner and a scorer that are as plain as their protocols allow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from prunus.data.events import Events
from prunus.data.id_table import IdTable
from prunus.engine.disk import write_atomically
from prunus.errors import DataError
from prunus.online.inputs import Inputs
from prunus.online.learner import Flops, Predictions
from prunus.online.loop import Loop
from prunus.online.settings import StreamSettings
from prunus.prune.mask import Mask
from prunus.student.normalise import RunningNormaliser

N_DENSE, N_IDS, CAPACITY = 6, 2, 40
SETTINGS = StreamSettings(batch=64, window=256, warm_up=512, new_pattern_after=1024, capacity=CAPACITY, keep_models=3)


def make_events(n, seed=0, drift_at=None):
    """Draw clicks that hang on the dense features and on the first id; the weights change sign at ``drift_at``."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(n, N_DENSE)).astype(np.float32)
    dense[rng.random(dense.shape) < 0.02] = np.nan
    ids = rng.zipf(1.3, size=(n, N_IDS)).astype(np.uint64)
    weight = np.linspace(1, -1, N_DENSE) * (
        1 if drift_at is None else np.where(np.arange(n)[:, None] < drift_at, 1, -1)
    )
    logit = np.nansum(dense * weight, 1) + np.sin(ids[:, 0].astype(float)) - 1
    label = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    offset = np.where(rng.random(n) < 0.1, 0.2, 0.0)
    return Events(ids, dense, label, np.arange(n), offset)


class ListSource:
    """Events that are all there."""

    def __init__(self, events):
        self.events = events
        self.at = 0
        self.deaf = False
        self.aside = []
        self.counts = {"events": 0}

    def read(self, n):
        """Give the next n."""
        if self.at >= len(self.events):
            return None
        part = self.events.take(slice(self.at, self.at + n))
        self.at += len(part)
        self.counts["events"] = self.at
        return part

    def position(self):
        """Give the place."""
        return {"at": self.at}

    def seek(self, position):
        """Go to a place."""
        self.at = position["at"]

    def commit(self, position):
        """Keep what a checkpoint is said to hold."""
        self.committed = position
        if self.deaf:
            msg = "the brokers are away"
            raise DataError(msg)

    def set_aside(self, events, reason, *, kept):
        """Count events, and keep them."""
        self.counts[reason] = self.counts.get(reason, 0) + len(events)
        self.aside += [events] if kept else []

    def state(self):
        """Give what was counted."""
        return dict(self.counts)

    def load(self, state):
        """Go on counting."""
        self.counts = dict(state)


class TinyLearner:
    """Logistic regression on dense features and one number an id; the sparse model keeps the larger half of its weights."""

    name = "tiny"
    flops_per_event = Flops(train=60.0, serve=6.0)

    def __init__(self):
        self.weight = torch.zeros(N_DENSE)
        self.table = torch.zeros(N_IDS, CAPACITY + 1)
        self.bias = torch.zeros(1)
        self.mask = torch.ones(N_DENSE, dtype=torch.bool)
        self.broken = self.refuses = False

    def predict(self, batch):
        """Score with all weights, and with those that are kept."""
        for field, rows in enumerate(batch.fresh):
            self.table[field, rows] = 0.0
        ids = sum(self.table[field, batch.rows[:, field]] for field in range(N_IDS)) + self.bias
        return Predictions(batch.z @ self.weight + ids, batch.z @ (self.weight * self.mask) + ids)

    def learn(self, batch):
        """Take a step of gradient descent, with a little noise from torch's own generator."""
        miss = torch.sigmoid(self.predict(batch).dense + batch.offset) - batch.label
        if self.refuses or not torch.isfinite(miss).all():
            return False
        self.weight -= 0.1 * (miss @ batch.z) / len(batch) + 1e-4 * torch.randn(N_DENSE)
        self.bias -= 0.1 * miss.mean()
        for field in range(N_IDS):
            self.table[field].index_add_(0, batch.rows[:, field], -0.01 * miss)
        return True

    def repattern(self):
        """Keep the larger half."""
        order = self.weight.abs().argsort()
        self.mask = torch.ones(N_DENSE, dtype=torch.bool)
        self.mask[order[: N_DENSE // 2]] = False

    def masks(self):
        """Give the one mask."""
        return [Mask(self.mask.numpy()[None].copy())]

    def net(self):
        """Give nothing: the tests' own scorer is made of the learner."""
        raise NotImplementedError

    def state(self):
        """Copy everything."""
        return {name: getattr(self, name).clone() for name in ("weight", "table", "bias", "mask")}

    def load(self, state):
        """Take everything."""
        for name, value in state.items():
            setattr(self, name, value.clone())


class TinyScorer:
    """What the loop asks of a scorer, its file in JSON."""

    def __init__(self, content):
        self.content = content
        self.normaliser = RunningNormaliser(N_DENSE)
        self.normaliser.load({name: np.array(one) for name, one in content["normaliser"].items()})
        self.weight = np.array(content["weight"], np.float32)
        self.tables = [
            (np.array([*keys, 2**64 - 1], np.uint64), np.array([*values, unknown], np.float32))
            for keys, values, unknown in zip(content["keys"], content["values"], content["unknown"], strict=True)
        ]

    @classmethod
    def of(cls, learner, inputs, about):
        """Make the scorer of a learner as it is now."""
        keys, rows = zip(*(table.snapshot() for table in inputs.tables), strict=True)
        weight = learner.weight * learner.mask * (-9 if learner.broken else 1)
        content = {
            "about": about,
            "weight": weight.tolist(),
            "bias": learner.bias.tolist(),
            "keys": [one.tolist() for one in keys],
            "values": [learner.table[f, torch.from_numpy(r.astype(np.int64))].tolist() for f, r in enumerate(rows)],
            "unknown": learner.table[:, 0].tolist(),
            "normaliser": {name: one.tolist() for name, one in inputs.normaliser.state().items()},
        }
        return cls(json.loads(json.dumps(content)))

    @classmethod
    def read(cls, path):
        """Read the file."""
        return cls(json.loads(Path(path).read_text()))

    def save(self, path):
        """Write the file."""
        write_atomically(path, json.dumps(self.content).encode())

    def score(self, ids, dense):
        """Score as the learner does."""
        total = self.normaliser.transform(dense) @ self.weight + np.float32(self.content["bias"][0])
        for field, (keys, values) in enumerate(self.tables):
            place = np.searchsorted(keys, ids[:, field])
            total += values[np.where(keys[place] == ids[:, field], place, len(keys) - 1)]
        return total


def make_loop(events, out, *, settings=SETTINGS, learner=None, say=lambda _: None, **more):
    """Put a loop together."""
    tables = [IdTable(CAPACITY, 2, 700) for _ in range(N_IDS)]
    return Loop(
        ListSource(events),
        learner or TinyLearner(),
        Inputs(tables, RunningNormaliser(N_DENSE)),
        TinyScorer.of,
        settings=settings,
        out=Path(out),
        dense_flops=12.0,
        say=say,
        read=TinyScorer.read,
        **more,
    )


def written(out):
    """Give all that a run wrote and promises to write the same again, by name."""
    files = [file for file in Path(out).rglob("*") if file.is_file() and not file.is_symlink()]
    bytes_of = {
        str(file.relative_to(out)): file.read_bytes()
        for file in files
        if file.suffix in {".prunus", ".jsonl"} and not file.name.startswith(".")
    }
    summary = json.loads((Path(out) / "result.json").read_text())
    del summary["seconds"], summary["files"]
    return bytes_of | {"current": str((Path(out) / "models" / "current").readlink()), "summary": summary}
