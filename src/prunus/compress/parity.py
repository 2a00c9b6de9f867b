"""Proof that the compiled network gives the student's scores, made for every student on every instruction set.

A float32 student: every score within 1e-4 x max(1, |score|).

A student with int8 layers: the same, plus what a rounding boundary allows. Torch and the engine agree in the inputs of
an int8 layer up to the last bits; where one lies that close to the middle between two bytes, either byte is right. So
of each document the bound is taken from the student itself: an input in doubt may move by one byte, what that moves is
followed through the layers (a sum by the weights' magnitudes, a byte by at most as many steps as its input, rounded
up), and the score may differ by the total and no more. A document without an input in doubt has the float32 bound. And
nDCG over the validation documents agrees within 1e-4, or a tenth of what one query weighs where there are few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from prunus.engine.network import SlotKind
from prunus.engine.scorer import RankScorer, isas
from prunus.errors import NetworkError
from prunus.metrics import ndcg
from prunus.student.mlp import StagedInputs
from prunus.student.quantise import STEPS, TOP, Int8Arrays, bytes_of, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from prunus.data.ranking import RankingData, Schema
    from prunus.engine.network import InputStage, Network
    from prunus.student.mlp import LayerArrays
    from prunus.student.quantise import QuantisedMLP

PARITY = 1e-4
"""Scores of the engine and of the torch student may differ by this times max(1, |score|)."""

SAME_NDCG = 1e-4
"""nDCG of the engine's and of the torch student's scores may differ by this, where rounding boundaries are in play."""

AFTER_INT8, AFTER_FLOAT = 1e-4, 1e-3
"""Bytes from the middle between two bytes below which a hidden input is in doubt: after exact integers only a multiply-
add is rounded (2^-24 of at most 255 steps, once), after float32 sums the order of adding counts."""

LOG_ERROR, LAST_BITS = 1e-6, 2.0**-21
"""Error of the engine's log1p, and of a few float32 operations, relative to the size of what they give."""


def check_parity(
    network: Network, schema: Schema, X: NDArray[np.float32], expected: NDArray[np.float64], bound: float | Tensor = 0.0
) -> dict[str, float]:
    """Prove that the compiled network gives the student's scores, on every instruction set that this CPU has.

    Args:
        network: compiled.
        schema: of the raw features.
        X: float32 [n, n_features].
        expected: float64 [n], the torch student's scores on the teacher's scale.
        bound: [n], what rounding boundaries allow beside 1e-4 x max(1, |score|).

    Returns:
        Instruction set -> largest difference, as a share of max(1, |score|).

    Raises:
        NetworkError: a score differs by more than is allowed.
    """
    found = {}
    size = np.maximum(1.0, np.abs(expected))
    allowed = PARITY * size + np.asarray(bound, np.float64)
    for isa in isas():
        difference = np.abs(RankScorer(network, schema, isa=isa).score(X) - expected)
        found[isa] = float((difference / size).max(initial=0.0))
        if not (difference <= allowed).all():
            worst = int(np.argmax(difference - allowed))
            msg = (
                f"the compiled network's score of validation document {worst} on {isa} differs from the student's by"
                f" {difference[worst]:.2g}; expected {allowed[worst]:.2g} at most: please report this"
            )
            raise NetworkError(msg)
    return found


def check_int8_parity(
    network: Network,
    schema: Schema,
    valid: RankingData,
    model: QuantisedMLP,
    inputs: InputStage,
    *,
    scale: float,
    shift: float,
    k: int,
) -> dict[str, float]:
    """Prove the module's law for a student with int8 layers.

    Args:
        network: compiled.
        schema: of the raw features.
        valid: validation documents.
        model: the student.
        inputs: the input stage that it was made for.
        scale: of the line from its scores to the teacher's.
        shift: of the same.
        k: cut-off of nDCG.

    Returns:
        Instruction set -> largest difference, as a share of max(1, |score|).

    Raises:
        NetworkError: the law is broken.
    """
    stage = model.stage(inputs)
    layers = model.layers(scale=scale, shift=shift)
    staged = StagedInputs(stage)
    margin = torch.from_numpy(stage_margin(stage, layers[0]))
    scores, bounds = [], []
    with torch.no_grad():
        for part in torch.from_numpy(valid.X).split(1 << 15):
            u = staged(part)
            scores.append(run(layers, u))
            bounds.append(movement(layers, u, margin))
    expected = torch.cat(scores).numpy().astype(np.float64)
    found = check_parity(network, schema, valid.X, expected, torch.cat(bounds))
    of_student = ndcg(valid.y, expected, valid.offsets, k=k).mean
    allowed = max(SAME_NDCG, 0.1 / valid.n_queries)
    for isa in found:
        of_engine = ndcg(valid.y, RankScorer(network, schema, isa=isa).score(valid.X), valid.offsets, k=k).mean
        if not abs(of_engine - of_student) <= allowed:
            msg = f"validation nDCG is {of_engine:.6f} on {isa} and {of_student:.6f} in the student; expected a difference of {allowed:.2g} at most: please report this"
            raise NetworkError(msg)
    return found


def stage_margin(stage: InputStage, first: LayerArrays | Int8Arrays) -> NDArray[np.float32]:
    """Bytes from the middle between two bytes below which a staged input is in doubt, float32 [n_slots].

    An error of e in t(x) is one of e scale in z and of e scale s in bytes. Indicators are exact.
    """
    if not isinstance(first, Int8Arrays):
        return np.zeros(stage.n_slots, np.float32)
    reach = np.abs(stage.center) + (np.abs(stage.lower) + np.abs(stage.upper)) / np.abs(stage.scale)
    error = LAST_BITS * reach + np.where(stage.kind == SlotKind.LOG, LOG_ERROR * np.maximum(1.0, reach), 0.0)
    margin = error * np.abs(stage.scale) * first.input_scale + LAST_BITS * STEPS
    return np.where(np.isin(stage.kind, [SlotKind.MISSING, SlotKind.EQUAL]), 0.0, margin).astype(np.float32)


def movement(layers: Sequence[LayerArrays | Int8Arrays], h: Tensor, margin: Tensor) -> Tensor:
    """Bound what inputs in doubt can move each score.

    Args:
        layers: first to last.
        h: float32 [n, n_inputs], inputs of the first.
        margin: float32 [n_inputs], how near the middle between two bytes an input of the first layer is in doubt.

    Returns:
        float32 [n]; 0 for a document with no input in doubt.
    """
    moved = torch.zeros_like(h)
    for layer in layers:
        value = torch.from_numpy(layer.bias)
        if isinstance(layer, Int8Arrays):
            position = bytes_of(h, layer.input_scale).clamp(0, STEPS)
            steps = moved * layer.input_scale
            in_doubt = (position - position.floor() - 0.5).abs() <= steps + margin
            bytes_moved = torch.where(in_doubt, torch.floor(steps + margin) + 1.0, 0.0)
            weight, scale = torch.from_numpy(layer.weight).float(), torch.from_numpy(layer.scale)
            value = (position.round() @ weight.T) * scale + value
            moved = (bytes_moved @ weight.abs().T) * scale
            margin = torch.tensor(AFTER_INT8)
        else:
            weight = torch.from_numpy(layer.weight)
            value = h @ weight.T + value
            moved = moved @ weight.abs().T
            margin = torch.tensor(AFTER_FLOAT)
        h = value.clamp(0.0, TOP)
    return moved.squeeze(1)
