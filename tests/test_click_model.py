"""A click net in training and the model that comes off it: one score, three ways to compute it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from click_models import columns_of
from prunus import _native
from prunus.data.id_table import IdTable
from prunus.engine import click_reference
from prunus.engine.event_scorer import EventScorer
from prunus.engine.network import Dense, Sparse
from prunus.online.click_model import to_click_model
from prunus.prune.mask import Mask
from prunus.student.ctr import ClickNet, ClickShape
from prunus.student.normalise import RunningNormaliser

SHAPES = {
    "top": ClickShape(9, (30, 20), dim=8, top=(40, 20)),
    "bottom": ClickShape(9, (30, 20), dim=8, bottom=(20, 8), top=(40, 20)),
    "plain": ClickShape(9, (30, 20), dim=8, interactions=False, top=(40,)),
    "no dense": ClickShape(0, (30, 20, 10), dim=8, top=(40, 20)),
    "no ids": ClickShape(9, (), top=(40, 20)),
}


def learned(shape: ClickShape, density: float, seed: int = 0):
    """Make a net with masks, a normaliser and id tables that have seen events, and events to score."""
    rng = np.random.default_rng(seed)
    net = ClickNet(shape, seed=seed)
    with torch.no_grad():
        net.table.mul_(20)
        for layer in net.linears:
            layer.bias.normal_(0, 0.3, generator=torch.Generator().manual_seed(seed))
    masks = [Mask(rng.random(weight.shape) < density) for weight in net.hidden]
    dense = (np.exp(rng.normal(size=(400, shape.n_dense)) * 2) - 1).astype(np.float32)
    dense[rng.random(dense.shape) < 0.1] = np.nan
    ids = np.stack([rng.integers(1, 2**63, 60, dtype=np.uint64)[rng.integers(0, 60, 400)] for _ in shape.rows] or [np.zeros(400, np.uint64)], 1)[:, : shape.n_ids]  # fmt: skip
    normaliser, tables = RunningNormaliser(shape.n_dense), [IdTable(n - 1, admit_after=1) for n in shape.rows]
    normaliser.observe(dense[:300])
    for field, table in enumerate(tables):
        table.observe(np.ascontiguousarray(ids[:300, field]), 0)
    return net, masks, normaliser, tables, ids, dense


@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("name", SHAPES)
def test_torch_twin_and_engine_agree(name: str, density: float) -> None:
    """Scores agree within 1e-4 x max(1, |score|) on every instruction set that this CPU has."""
    shape = SHAPES[name]
    net, masks, normaliser, tables, ids, dense = learned(shape, density)
    model = to_click_model(net, masks, normaliser, tables)
    rows = np.zeros(ids.shape, np.int64)
    for field, table in enumerate(tables):
        rows[:, field] = table.lookup(np.ascontiguousarray(ids[:, field]))
    weights = [weight * torch.from_numpy(mask.kept) for weight, mask in zip(net.hidden, masks, strict=True)]
    with torch.no_grad():
        expected = net(torch.from_numpy(normaliser.transform(dense)), torch.from_numpy(rows), weights).numpy()
    assert len(np.unique(expected)) > 20
    tolerance = 1e-4 * np.maximum(1, np.abs(expected))
    assert (np.abs(click_reference.score(model, ids, dense) - expected) <= tolerance).all()
    for isa in _native.isas():
        found = EventScorer(model, columns_of(model), isa=isa).score(ids, dense)
        assert (np.abs(found - expected) <= tolerance).all(), isa
    kinds = {type(layer) for network in model.networks.values() for layer in network.layers[:-1]}
    assert kinds == {Dense if density == 1 else Sparse}


def test_later_learning_changes_nothing() -> None:
    """A model is what the net was: weights, rows, ids and statistics that change afterwards leave it alone."""
    net, masks, normaliser, tables, ids, dense = learned(SHAPES["bottom"], 0.5)
    model = to_click_model(net, masks, normaliser, tables)
    before = click_reference.score(model, ids, dense)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    normaliser.observe(dense * 100)
    tables[0].observe(np.arange(1, 50, dtype=np.uint64), 1)
    np.testing.assert_array_equal(click_reference.score(model, ids, dense), before)
    assert (click_reference.score(to_click_model(net, None, normaliser, tables), ids, dense) != before).any()
