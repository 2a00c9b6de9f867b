"""Layers as arrays in, a network that the engine runs out: dead parts removed, a kernel chosen for each layer.

A net that another tool made becomes the same kind of network; it is held against the original before anybody gets it.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from prunus.data.ranking import Schema
from prunus.engine.network import Dense, InputStage, Layer, Network, Sparse
from prunus.engine.reference import activate
from prunus.engine.scorer import RankScorer
from prunus.errors import CalibrationError, ForeignModelError, SchemaError
from prunus.foreign.parity import TOLERANCE, prove_parity
from prunus.prune.structured import shrink

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from prunus.engine.network import Activation
    from prunus.foreign.net import ForeignNet
    from prunus.latency import LatencyModel

SPARSE_BELOW = 0.6
"""Density below which a layer runs sparse when no time model is given: a stored weight costs the sparse kernel about
1.25 loads and one multiply-add for each vector of documents, the dense kernel a little over one multiply-add."""


class LayerLike(Protocol):
    """A layer as arrays: ``weight`` [n_outputs, n_inputs], ``bias`` [n_outputs] and an activation."""

    @property
    def weight(self) -> NDArray[np.float32]:
        """float32 [n_outputs, n_inputs]; zeros are weights that were pruned."""

    @property
    def bias(self) -> NDArray[np.float32]:
        """float32 [n_outputs]."""

    @property
    def activation(self) -> Activation:
        """Applied to each output."""


def choose_kernel(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    activation: Activation,
    latency: LatencyModel | None,
    batch: int,
) -> Layer:
    """Make a float32 layer that runs dense or sparse, whichever is faster; see :func:`compile_layers`."""
    dense, sparse = Dense(weight, bias, activation), Sparse.from_dense(weight, bias, activation)
    if latency is None:
        return sparse if sparse.nonzeros < SPARSE_BELOW * weight.size else dense
    faster = latency.layer_us(sparse, batch=batch) < latency.layer_us(dense, batch=batch)
    return sparse if faster else dense


def compile_layers(
    n_features: int,
    inputs: InputStage,
    layers: Sequence[LayerLike],
    *,
    latency: LatencyModel | None = None,
    batch: int = 128,
) -> Network:
    """Compile a stack of layers.

    Units that nothing reads and inputs that no weight reads are removed; a unit that reads nothing is a constant and
    moves into the next bias. Each layer then runs dense or sparse, whichever the time model says is faster.

    Args:
        n_features: columns of the raw features.
        inputs: the input stage, one slot for each input of the first layer.
        layers: first to last; the last has one output.
        latency: time model of this CPU; without it a layer runs sparse where fewer than 60 % of its weights are left.
        batch: documents in a call that the kernels are chosen for.

    Raises:
        NetworkError: the shapes do not fit, or a number is not finite.
    """
    activations = [partial(activate, activation=x.activation) for x in layers]
    shrunk = shrink([x.weight for x in layers], [x.bias for x in layers], activations)
    stack = zip(shrunk.weights, shrunk.biases, layers, strict=True)
    return Network(
        n_features,
        inputs.take(shrunk.slots),
        tuple(choose_kernel(weight, bias, layer.activation, latency, batch) for weight, bias, layer in stack),
    )


def compile(  # noqa: A001 - the verb, as the user writes it: prunus.compile
    model: Any,  # noqa: ANN401 - a path or a model of any of several libraries
    *,
    feature_names: Sequence[str] | None = None,
    n_trees: int | None = None,
) -> RankScorer:
    """Compile a model that another tool trained, without distillation; what comes out is proved to score the same.

    The one place where the kind of model is told. A file's kind is told by its content, whatever its name:

    - a LightGBM text model, XGBoost JSON or UBJSON, CatBoost CBM or JSON: exact trees, leaf for leaf
      (:func:`~prunus.compiler_trees.compile_trees`; ``docs/trees.md``);
    - an ONNX graph of dense layers, pruned or not: a network (:func:`compile_net`; ``docs/nets.md``).

    An object's kind is told by its class:

    - a :class:`~prunus.teacher.trees.TreeTeacher`, a trained model of LightGBM, XGBoost or CatBoost: exact trees;
    - a ``torch.nn.Module`` or an ``onnx.ModelProto``: a network, whose kernels are chosen by this CPU's time model
      where one is stored (``prunus rank calibrate``), else by the density of each layer.

    Args:
        model: a path, or a trained model.
        feature_names: names of its features, in its order; default those in the model, f0, f1, ... for a net.
        n_trees: of trees, keep the first ones only; default all.

    Returns:
        A scorer; ``scorer.save("ranker.prunus")`` writes the model file.

    Raises:
        TeacherError: the file or object is of no kind that is known, or holds what cannot be compiled exactly.
        ForeignModelError: a net does what the engine has no kernel for; or ``n_trees`` was given for a net.
        SchemaError: another number of names than features.
        NetworkError: the engine cannot run the model.
        ParityError: the compiled model does not do as the original does.
    """
    from prunus.compiler_trees import compile_trees
    from prunus.foreign.kinds import net_of
    from prunus.teacher.objects import trees_of
    from prunus.teacher.trees import TreeTeacher, load_trees

    net = net_of(model)
    if net is not None:
        if n_trees is not None:
            msg = f"got n_trees={n_trees} for a net; expected trees, or no n_trees"
            raise ForeignModelError(msg)
        return compile_net(net, feature_names=feature_names, latency=_stored_latency())
    if isinstance(model, str | os.PathLike):
        return compile_trees(load_trees(os.fspath(model)), n_trees=n_trees, feature_names=feature_names)
    teacher = model if isinstance(model, TreeTeacher) else trees_of(model)
    return compile_trees(teacher, n_trees=n_trees, feature_names=feature_names)


def _stored_latency() -> LatencyModel | None:
    """Return the time model that was measured on this CPU, if there is one."""
    from prunus.latency import LatencyModel
    from prunus.latency.model import stored_path

    try:
        return LatencyModel.load(stored_path())
    except CalibrationError:
        return None


def compile_net(
    net: ForeignNet,
    *,
    feature_names: Sequence[str] | None = None,
    latency: LatencyModel | None = None,
    batch: int = 128,
) -> RankScorer:
    """Compile a net that another tool made, and prove that it scores the same.

    Args:
        net: what a reader of :mod:`prunus.foreign` gave.
        feature_names: names of its features, in its order; default f0, f1, ...
        latency: time model of this CPU; without it a layer runs sparse where fewer than 60 % of its weights are left.
        batch: documents in a call that the kernels are chosen for.

    Returns:
        A scorer whose metadata say where the net came from and how near the two are. A NaN is refused in each feature,
        since the net has no rule for it.

    Raises:
        SchemaError: another number of names than features.
        NetworkError: the engine cannot run the network.
        ForeignModelError: the net does not run where it came from.
        ParityError: the two do not score alike.
    """
    names = tuple(feature_names) if feature_names is not None else tuple(f"f{i}" for i in range(net.n_features))
    if len(names) != net.n_features:
        msg = f"got {len(names)} feature names for a net of {net.n_features} features; expected one each, in its order"
        raise SchemaError(msg)
    network = compile_layers(net.n_features, net.inputs, net.layers, latency=latency, batch=batch)
    scorer = RankScorer(network, Schema(names))
    parity = prove_parity(scorer, net)
    proof = {"rows": parity.rows, "largest_difference": parity.largest, "tolerance": TOLERANCE}
    name = "-".join(str(layer.n_inputs) for layer in network.layers)
    kernels = "density of each layer" if latency is None else f"time model of this CPU, at batch {batch}"
    scorer.metadata.update(architecture=f"{name}-1 net", origin=dict(net.origin), parity=proof, kernels_by=kernels)
    return scorer
