"""A click net in training to the model that the engine runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prunus.compiler_click import compile_click
from prunus.engine.click import IdEmbeddings
from prunus.engine.network import Activation
from prunus.student.mlp import LayerArrays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prunus.data.id_table import IdTable
    from prunus.engine.click import ClickModel
    from prunus.latency import LatencyModel
    from prunus.prune.mask import Mask
    from prunus.student.ctr import ClickNet
    from prunus.student.normalise import RunningNormaliser


def to_click_model(
    net: ClickNet,
    masks: Sequence[Mask] | None,
    normaliser: RunningNormaliser,
    tables: Sequence[IdTable],
    *,
    latency: LatencyModel | None = None,
) -> ClickModel:
    """Take a net as it is now; nothing that is learned later changes the model.

    Args:
        net: the net.
        masks: of its hidden matrices, as :attr:`~prunus.student.ctr.ClickNet.hidden` has them; None keeps all weights.
        normaliser: of its dense features.
        tables: which row each id has, field by field.
        latency: time model of this CPU, by which kernels are chosen; default by the density of each layer.

    Raises:
        NetworkError: a number is not finite.
    """
    embeddings = []
    for table, rows in zip(tables, net.tables, strict=True):
        keys, places = table.snapshot()
        embeddings.append(IdEmbeddings(keys, rows.numpy()[np.concatenate([[0], places])]))
    kept = [None] * len(net.hidden) if masks is None else [mask.kept for mask in masks]
    layers = []
    for layer, mask in zip(net.linears, [*kept, None], strict=True):
        weight = layer.weight.detach().numpy().astype(np.float32)
        bias = layer.bias.detach().numpy().astype(np.float32)
        layers.append(LayerArrays(weight if mask is None else weight * mask, bias, Activation.RELU))
    layers[-1] = LayerArrays(layers[-1].weight, layers[-1].bias, Activation.IDENTITY)
    n_bottom = len(net.bottom)
    return compile_click(
        normaliser.input_stage() if net.shape.n_dense else None,
        embeddings,
        layers[:n_bottom],
        layers[n_bottom:],
        interactions=net.shape.interactions,
        latency=latency,
    )
