"""A click model's layers as arrays in, what the engine runs out: dead parts removed, a kernel chosen for each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunus.compiler import choose_kernel, compile_layers
from prunus.engine.arrays import require
from prunus.engine.click import ClickModel, join_slots, plain_slots
from prunus.engine.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prunus.compiler import LayerLike
    from prunus.engine.click import IdEmbeddings
    from prunus.engine.network import InputStage
    from prunus.latency import LatencyModel


def compile_click(
    inputs: InputStage | None,
    tables: Sequence[IdEmbeddings],
    bottom: Sequence[LayerLike],
    top: Sequence[LayerLike],
    *,
    interactions: bool,
    latency: LatencyModel | None = None,
    batch: int = 128,
) -> ClickModel:
    """Compile a click model.

    Args:
        inputs: input stage of the dense features, one slot each; None where there are none.
        tables: the embeddings of each id field.
        bottom: layers of the bottom network, first to last; none for no such network.
        top: layers of the top network; the last has one output.
        interactions: whether the top network reads the products.
        latency: time model of this CPU; see :func:`~prunus.compiler.compile_layers`.
        batch: events in a call that the kernels are chosen for.

    Raises:
        NetworkError: the shapes do not fit, or a number is not finite.
    """
    n_dense = 0 if inputs is None else inputs.n_slots
    n_inputs = top[0].weight.shape[1]
    below = None
    if bottom:
        require(inputs is not None, "a bottom network without dense features; expected an input stage for them")
        assert inputs is not None
        layers = tuple(choose_kernel(x.weight, x.bias, x.activation, latency, batch) for x in bottom)
        below = Network(n_dense, inputs, layers, n_outputs=layers[-1].n_outputs)
        stage = plain_slots(0, n_inputs)
    elif inputs is None:
        stage = plain_slots(0, n_inputs)
    else:
        require(n_inputs >= n_dense, f"the top network takes {n_inputs} inputs; expected {n_dense} dense ones at least")
        stage = join_slots(inputs, plain_slots(n_dense, n_inputs - n_dense)) if n_inputs > n_dense else inputs
    above = compile_layers(n_inputs, stage, top, latency=latency, batch=batch)
    return ClickModel(n_dense, tuple(tables), below, interactions, above)
