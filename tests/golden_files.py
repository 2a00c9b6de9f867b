"""Golden files: networks, ensembles, recommenders, click models, and what the NumPy twins make of them.

``golden_form.py`` says how a file looks. Scores carry their own slack: 0 where the arithmetic is exact, else what float32
may lose.
"""

from __future__ import annotations

import numpy as np

from click_models import SHAPES as SHAPES_OF_CLICKS
from click_models import make_click, make_events
from engine_networks import ALL_KINDS, TABLE, make_network, make_rows, table_network
from ensembles import ALL_MISSING, SHAPES, description, edge_rows, make_ensemble
from golden_form import Case
from int8_networks import dense_int8, exact_inputs, integer_layer, mixed_network, one_score_of, score_and_slack
from prunus.engine import click_reference, ensemble_reference, recommender_reference, reference
from prunus.engine.network import Activation, BlockInt8, Dense, DenseInt8, InputStage, Network, SlotKind, Sparse
from prunus.engine.recommender import SparseFactors, SparseRows
from recommenders import make_histories, make_sparse

EVERY_BATCH = (*range(1, 71), 150)
SOME_BATCHES = (1, 2, 3, 4, 5, 8, 11, 12, 13, 15, 16, 17, 24, 31, 33, 48, 63, 64, 65, 70)
TREE_BATCHES = (*EVERY_BATCH, 127, 128, 129, 255, 256, 257, 300)

NETWORK_COLUMNS = {"feature": "i", "center": "f", "scale": "f", "lower": "f", "upper": "f", "fill": "f"}


def layer_arrays(layer):
    """Return the arrays of a layer, its kind, shape and activation first."""
    kind = {Dense: 0, Sparse: 1, DenseInt8: 2, BlockInt8: 3}[type(layer)]
    arrays = {"layer": np.int32([kind, layer.n_inputs, layer.n_outputs, layer.activation]), "bias": layer.bias}
    if isinstance(layer, Sparse | BlockInt8):
        indices = layer.indices if isinstance(layer, Sparse) else layer.blocks
        arrays |= {"indptr": np.int32(layer.indptr), "indices": np.int32(indices)}
    if isinstance(layer, DenseInt8 | BlockInt8):
        arrays |= {"scale": layer.scale, "input": np.float32([layer.input_scale, layer.input_zero])}
    return arrays | {"weight": layer.values if isinstance(layer, Sparse) else layer.weight}


def network_case(name, kernel, network, X, expected, slack, *, missing=None, batches=EVERY_BATCH, bad=0):
    """Make a case of a network; ``bad`` documents in turn get a value that a status tells of."""
    allowed = np.zeros(network.n_features, bool) if missing is None else np.asarray(missing, bool)
    arrays = stage_arrays(network, allowed)
    arrays |= {"X": X, "score": expected.astype(np.float32), "slack": np.broadcast_to(np.float32(slack), len(X))}
    arrays |= {"batches": np.int32([n for n in batches if n <= len(X)])}
    if bad:
        arrays |= bad_values(network, X, allowed, bad)
    return Case(name, kernel, arrays, tuple(layer_arrays(layer) for layer in network.layers))


def stage_arrays(network, allowed, prefix=""):
    """Return the arrays of a network's features and input slots."""
    inputs = network.inputs
    arrays = {"features": np.int32([network.n_features]), "allow_missing": allowed.astype(np.uint8)}
    arrays |= {"kind": inputs.kind.astype(np.uint8)}
    arrays |= {column: getattr(inputs, column).astype(kind) for column, kind in NETWORK_COLUMNS.items()}
    return {prefix + name: array for name, array in arrays.items()}


def bad_values(network, X, allowed, count):
    """Return NaNs and infinities at random places of batches, with the status that each makes."""
    rng = np.random.default_rng(count)
    found = {"bad_batch": [], "bad_place": [], "bad_value": [], "bad_status": []}
    for number in range(count):
        n = (1, 3, 4, 9, 16, 33, 70)[number % 7]
        place, value = int(rng.integers(n * network.n_features)), (np.nan, np.inf, -np.inf)[number % 3]
        batch = X[:n].copy()
        batch.reshape(-1)[place] = value
        row = (n, place, value, reference.status(network, batch, allowed))
        for column, entry in zip(found.values(), row, strict=True):
            column.append(entry)
    return {name: np.array(column, "f" if name == "bad_value" else "i") for name, column in found.items()}


def near(expected, tolerance=1e-5):
    """Return what float32 may lose: ten times less than what sameness asks for."""
    return tolerance * np.maximum(1, np.abs(expected))


def float_networks():
    """Each network of the table: widths around a vector's, densities 0 to 1, empty rows; and with values missing."""
    for name in TABLE:
        network = table_network(name)
        rng = np.random.default_rng(len(name))
        dense = sum(isinstance(layer, Dense) for layer in network.layers)
        kernel = "f32 dense" if dense == len(network.layers) else "f32 dense and sparse" if dense else "f32 sparse"
        X = make_rows(rng, network, 150)
        expected = reference.score(network, X)
        yield network_case(name, kernel, network, X, expected, near(expected), bad=42)
        missing = rng.random(network.n_features) < 0.7
        X = make_rows(rng, network, 150, missing=missing)
        expected = reference.score(network, X)
        yield network_case(
            f"{name}, values missing", kernel, network, X, expected, near(expected), missing=missing,
            batches=SOME_BATCHES, bad=42,
        )  # fmt: skip


def one_slot(kind, activation=Activation.IDENTITY):
    """Make a network whose score is one slot, unscaled."""
    inputs = InputStage([0], [kind], [0], [1], [-1e38], [1e38], [0])
    return Network(1, inputs, (Dense(np.ones((1, 1), np.float32), np.zeros(1, np.float32), activation),))


def functions():
    """The logarithm over all floats, the sigmoid over its range, and the input stage with slots of every kind."""
    bits = np.arange(0, 0x7F800000, 9973 * 53, dtype=np.uint32).view(np.float32)
    corners = np.float32([0, 1e-45, 1e-38, 1e-30, 1e-7, 0.5, 1, 2, 1e10, 2.0**126, 2.0**127, 3.4e38])
    X = np.concatenate([bits, corners, -bits, -corners]).reshape(-1, 1)
    network, batches = one_slot(SlotKind.LOG), (*SOME_BATCHES, len(X))
    expected = reference.signed_log1p(X[:, 0].astype(np.float64))
    slack = 5e-7 * np.abs(expected) + 1e-38
    yield network_case("logarithm of every float", "signed log1p", network, X, expected, slack, batches=batches, bad=42)
    X = np.concatenate([np.linspace(-100, 100, 4001), [-3e38, 3e38, -1e20, 1e20]]).astype(np.float32).reshape(-1, 1)
    network, batches = one_slot(SlotKind.VALUE, Activation.SIGMOID), (*SOME_BATCHES, len(X))
    yield network_case(
        "sigmoid over its range", "sigmoid", network, X, reference.score(network, X), 5e-7, batches=batches
    )
    for n_features in (1, 3, 4, 5, 23, 75):
        rng = np.random.default_rng(n_features)
        network = make_network(rng, n_features, (9,), slots=n_features + 7, kinds=ALL_KINDS)
        missing = np.arange(n_features) % 2 == 0
        X = make_rows(rng, network, 150, missing=missing)
        expected = reference.score(network, X)
        yield network_case(
            f"{n_features} features", "input stage", network, X, expected, near(expected), missing=missing, bad=210
        )


SIZES = (
    (1, 1), (3, 2), (4, 4), (5, 3), (8, 15), (15, 16), (16, 17), (17, 5), (33, 31), (63, 8), (64, 33), (65, 64), (130, 9),
)  # fmt: skip


def kernel_of(layer):
    """Name the kernel of an int8 layer."""
    return "int8 dense" if isinstance(layer, DenseInt8) else "int8 blocks"


def integers():
    """Layers whose sums are handed on as they are, weighed with small whole numbers: every score is exact."""
    for number, (n_inputs, n_outputs) in enumerate(SIZES):
        for density in (0.0, 0.3, 1.0):
            for block in (False, True):
                rng = np.random.default_rng([number, block])
                layer = integer_layer(rng, n_inputs, n_outputs, density, block=block, low=-7, high=7)
                weigh = rng.choice(np.float32([-2, -1, 1, 2]), (1, n_outputs))
                network = Network(
                    n_inputs, exact_inputs(n_inputs),
                    (layer, Dense(weigh, np.zeros(1, np.float32), Activation.IDENTITY)),
                )  # fmt: skip
                X = rng.integers(0, 256, (70, n_inputs)).astype(np.float32)
                assert np.abs(layer.steps().astype(int)).sum() * 2 * 255 < 2**24
                name = f"{n_inputs} to {n_outputs}, density {density}"
                batches = EVERY_BATCH if number in (6, 8) else SOME_BATCHES
                yield network_case(
                    f"{name}, {kernel_of(layer)}", kernel_of(layer), network, X, reference.score(network, X), 0,
                    batches=batches,
                )  # fmt: skip
    for n_inputs, sign, block in ((300, -1, True), (300, 1, False), (65536, 1, True), (65536, -1, False)):
        layer = DenseInt8(np.full((2, n_inputs), 127 * sign, np.int8), np.ones(2), np.zeros(2), 1.0, 0.0, Activation.IDENTITY)  # fmt: skip
        layer = BlockInt8.from_dense(layer) if block else layer
        expected = np.full(3, np.float32(255 * 127 * sign * n_inputs) * np.float32(1.5))
        yield network_case(
            f"the largest sums over {n_inputs} inputs, {kernel_of(layer)}", kernel_of(layer), one_score_of((layer,), n_inputs),
            np.full((3, n_inputs), 300, np.float32), expected, 0, batches=(1, 3),
        )  # fmt: skip


def one_rounding():
    """Sums times a scale plus a bias are rounded once: outputs one at a time, unweighed, to the last bit."""
    for number, block in enumerate((False, True)):
        rng = np.random.default_rng(number)
        layer = dense_int8(rng, 20, 18, density=0.6, activation=Activation.IDENTITY, scale=1.0)
        layer = BlockInt8.from_dense(layer) if block else layer
        X = rng.integers(0, 256, (300, 20)).astype(np.float32)
        for output in (0, 5, 17):
            pick = np.zeros((1, 18), np.float32)
            pick[0, output] = 1
            last = Dense(pick, np.zeros(1, np.float32), Activation.IDENTITY)
            network = Network(20, exact_inputs(20), (layer, last))
            yield network_case(
                f"output {output} of {kernel_of(layer)}", kernel_of(layer), network, X, reference.score(network, X), 0,
                batches=(*SOME_BATCHES, 300),
            )  # fmt: skip


def bytes_of_floats():
    """Rounding to bytes: halves, their neighbours, what lies beyond the ends, infinities and NaN that a layer makes."""
    for scale, zero in ((1.0, 0.0), (0.5, 100.0), (37.7, 3.3), (2.0**-64, 0.0), (2.0**64, -7.0), (1.0, 2.0**20)):
        layer = DenseInt8([[1]], [1.0], [0.0], scale, zero, Activation.IDENTITY)
        middle = (np.arange(-2, 258) + 0.5 - zero) / scale
        beside = [np.nextafter(np.float32(middle), np.float32(side)) for side in (-np.inf, np.inf)]
        whole = (np.arange(-2, 258) - zero) / scale
        far = np.array([0, 1e30, -1e30, 3e38, -3e38, 1e9, -1e9, 1e-45])
        X = np.concatenate([middle, *beside, whole, far]).astype(np.float32).reshape(-1, 1)
        network = Network(1, exact_inputs(1), (layer, Dense([[1.0]], [0.0], Activation.IDENTITY)))
        expected = reference.quantize(layer, np.clip(X, -1e30, 1e30))[:, 0]
        yield network_case(
            f"bytes of scale {scale}, zero {zero}", "rounding to bytes", network, X, expected, 0,
            batches=(*SOME_BATCHES, len(X)),
        )  # fmt: skip
    rng = np.random.default_rng(0)
    layer = DenseInt8([[1, -2, 3, -5, 7]], [1.0], [0.0], 1.0, 0.0, Activation.IDENTITY)
    pool = np.float32([*range(-2, 258), *np.arange(-2, 258) + 0.5, 4e4, -4e4, 7e4, -7e4, 1e9, -1e9, 1e30, -1e30])
    X = rng.choice(np.concatenate([pool, np.repeat(pool[-8:], 30)]), (300, 5))
    network = one_score_of((layer,), 5)
    yield network_case(
        "bytes of five inputs", "rounding to bytes", network, X, reference.score(network, X), 0,
        batches=(*SOME_BATCHES, 300),
    )  # fmt: skip
    huge = np.float32(3e38)
    weights = np.float32([[huge, huge, 0], [-huge, -huge, 0], [0, 0, 1]])
    byte = DenseInt8(np.diag([1, 2, 4]), np.ones(3), np.zeros(3), 1.0, 0.0, Activation.IDENTITY)
    of_nan = DenseInt8([[1]], [1.0], [7.0], 1.0, 9.0, Activation.IDENTITY)
    for make, kernel in ((Dense, "f32 dense"), (Sparse.from_dense, "f32 sparse")):
        first = make(weights, np.zeros(3, np.float32), Activation.IDENTITY)
        second = make(np.float32([[1, 1, 0]]), np.zeros(1, np.float32), Activation.IDENTITY)
        X = np.float32([[9, 9, 5]] * 70)
        for name, layers, expected in (("infinity", (first, byte), 260), ("NaN", (first, second, of_nan), 7)):
            yield network_case(
                f"{name} of a layer, {kernel}", "rounding to bytes", one_score_of(layers, 3), X,
                np.full(70, expected), 0, batches=SOME_BATCHES,
            )  # fmt: skip


def chains():
    """Bytes handed from int8 layer to int8 layer, and networks of every kind of layer."""
    exact = [Activation.IDENTITY, Activation.RELU, Activation.RELU6]
    for activation in exact:
        for scale, zero in ((0.3, 0.7), (42.5, 128.0), (1000.0, -3.0), (1e6, 9.0)):
            rng = np.random.default_rng(int(scale) + activation)
            layers = [dense_int8(rng, 24, 21, activation=activation, scale=9.0)]
            for n_inputs, n_outputs, density in ((21, 35, 0.4), (35, 18, 1.0)):
                layer = dense_int8(rng, n_inputs, n_outputs, density=density, activation=activation, scale=scale, zero=zero)  # fmt: skip
                layers.append(BlockInt8.from_dense(layer) if density < 1 else layer)
            layers.append(integer_layer(rng, 18, 9, 0.5, block=True, low=-7, high=7))
            network = one_score_of(layers, 24)
            X = rng.integers(0, 28, (70, 24)).astype(np.float32)
            name = f"chain of {activation.name.lower()}, scale {scale}"
            yield network_case(name, "int8 dense and blocks", network, X, reference.score(network, X), 0)
    for number, kinds in enumerate(("sdbs", "Sbd", "dd", "bb", "dSsb", "bsdS", "sSdb")):
        rng = np.random.default_rng(number)
        widths = rng.integers(1, 70, len(kinds))
        network = mixed_network(rng, int(rng.integers(1, 70)), widths, kinds, (0.0, 0.05, 0.3, 1.0)[number % 4])
        X = make_rows(rng, network, 150)
        expected, slack = score_and_slack(network, X)
        yield network_case(f"mixed {kinds}", "f32 and int8", network, X, expected, slack, bad=42)


def forest_case(name, ensemble, X, *, batches=TREE_BATCHES, leaf_batches=(1, 13, 14, 37, 64, 129)):
    """Make a case of an ensemble; the whole of X is a batch too."""
    leaves = ensemble_reference.leaves(ensemble, X)
    exact = ensemble.base + ensemble.value[leaves + ensemble.leaf_start[:-1]].sum(axis=1)
    arrays = {key: np.atleast_1d(value) for key, value in description(ensemble).items()}
    arrays["n_features"] = arrays["n_features"].astype(np.int32)
    arrays["base"] = arrays["base"].astype(np.float64)
    arrays |= {"X": X, "score": exact.astype(np.float32), "slack": near(exact, 2e-5).astype(np.float32)}
    arrays |= {"leaves": leaves}
    for key, sizes in (("batches", batches), ("leaf_batches", leaf_batches)):
        arrays[key] = np.int32([*(n for n in sizes if n < len(X)), len(X)])
    return Case(name, "trees", arrays)


def forests():
    """Trees of every shape and size, thresholds hit exactly, missing values, categories, batches around a block."""
    rng = np.random.default_rng(0)
    few = (1, 5, 14, 40, 70)
    for number, n_leaves in enumerate((1, 2, 3, 5, 31, 32, 33, 64, 65, 129, 255, 257, 1024, 1025)):
        shape = SHAPES[number % len(SHAPES)]
        ensemble = make_ensemble(rng, [n_leaves, 1, n_leaves], 7, shape=shape, missing=ALL_MISSING)
        yield forest_case(f"{n_leaves} leaves, {shape}", ensemble, edge_rows(rng, ensemble, 150), batches=few)
    ensemble = make_ensemble(rng, rng.integers(1, 65, 30), 11, missing=ALL_MISSING, categorical=0.1, scale=1e3)
    yield forest_case("every batch", ensemble, edge_rows(rng, ensemble, 520))
    for n_thresholds in (1, 2, 3, 7, 8, 15, 16, 17, 31, 64, 255, 256, 513):
        pool = np.unique(rng.normal(size=2 * n_thresholds).astype(np.float32))[:n_thresholds]
        ensemble = make_ensemble(rng, [64] * (n_thresholds // 15 + 1), 2, thresholds=pool)
        cut = ensemble.threshold.copy()  # every threshold at least once, where there are nodes enough
        cut[: min(len(pool), len(cut))] = pool[: len(cut)]
        ensemble = type(ensemble)(**{**description(ensemble), "threshold": cut})
        own = np.concatenate([pool, np.nextafter(pool, np.float32(9)), np.nextafter(pool, np.float32(-9)), [np.nan]])
        X = np.stack([own, rng.permutation(own)], axis=1).astype(np.float32)
        yield forest_case(f"{n_thresholds} thresholds", ensemble, np.concatenate([X] * (20 // len(X) + 1)), batches=few)
    for n_features in (1, 2, 3, 4, 5, 9):
        for missing in ALL_MISSING:
            ensemble = make_ensemble(rng, [9] * 10, n_features, missing=[missing])
            X = edge_rows(rng, ensemble, 70)
            yield forest_case(f"missing {missing}, {n_features} features", ensemble, X, batches=few)
    for largest_code in (0, 31, 500, 70_000):
        ensemble = make_ensemble(rng, [20] * 9, 3, categorical=0.7, largest_code=largest_code)
        yield forest_case(f"codes up to {largest_code}", ensemble, edge_rows(rng, ensemble, 150), batches=few)
    for scale in (1e-30, 1e3):
        ensemble = make_ensemble(rng, [16] * 300, 5, scale=scale)
        yield forest_case(f"300 trees of scale {scale}", ensemble, edge_rows(rng, ensemble, 130), batches=(3,))


RECOMMENDERS = {
    "levels": lambda rng, n: make_sparse(rng, n, 300, 24, bits=6, spread=20),
    "levels, scaled": lambda rng, n: make_sparse(rng, n, 128, 9, bits=8, scale=True, bias=True, per_row=True),
    "untied": lambda rng, n: make_sparse(rng, n, 70, 9, bits=4, tied=False, scale=True),
    "floats": lambda rng, n: make_sparse(rng, n, 40, 7, tied=False),
    "empty rows": lambda rng, n: make_sparse(rng, n, 30, 1, spread=1, bits=3),
    "full rows": lambda rng, n: make_sparse(rng, n, 40, 40, spread=0, bits=8),
    "item-item": lambda rng, n: make_sparse(rng, n, stored=min(5, n), item_item=True, scale=True, bias=True),
}


def equal_rows(rng, n_items):
    """Make items that all have the same row, and so the same score: lists are the lowest numbers."""
    rows = SparseRows(2, np.arange(n_items + 1), np.zeros(n_items), np.ones(n_items))
    return SparseFactors(rows, popular=rng.permutation(n_items))


def recommenders():
    """Item factors of every kind, histories of 0 to 12 items, lists that end before and after the items do."""
    for name, make in {**RECOMMENDERS, "equal": equal_rows}.items():
        for n_items, k in ((1, 3), (17, 7), (163, 20) if name != "equal" else (400, 7)):
            rng = np.random.default_rng(n_items)
            model = make(rng, n_items)
            indptr, items = make_histories(rng, 40, n_items)
            scores = recommender_reference.score(model, indptr, items)
            allowed = np.ones(scores.shape, bool)
            allowed[np.repeat(np.arange(40), np.diff(indptr)), items] = False
            arrays = {"size": np.int32([n_items, model.n_factors]), "k": np.int32([k])}
            parts = {"": model.decode} if model.encode is None else {"": model.decode, "encode_": model.encode}
            for prefix, rows in parts.items():
                arrays |= {prefix + "indptr": np.int32(rows.indptr), prefix + "factor": np.int32(rows.factor)}
                arrays |= {prefix + "value": rows.value}
                if rows.step is not None:
                    arrays[prefix + "step"] = np.array(np.broadcast_to(rows.step, n_items), np.float32)
            ids, best = recommender_reference.top_k(scores, allowed, k)
            if name == "equal":
                arrays["ids"] = ids
            ones, zeros = np.ones(n_items, np.float32), np.zeros(n_items, np.float32)
            arrays |= {
                "scale": ones if model.encode_scale is None else model.encode_scale,
                "bias": zeros if model.bias is None else model.bias,
                "order": np.int32(model.popular_order(n_items)),
                "user_indptr": np.int32(indptr),
                "user_items": items,
                "score": scores,
                "slack": near(scores, 1e-4).astype(np.float32),
                "best": best,
                "batches": np.int32([1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 40]),
            }
            yield Case(f"{name}, {n_items} items", "recommender", arrays)


def clicks():
    """Click models of every shape; 64-bit numbers are pairs of int32, the lower half first."""
    for name, shape in SHAPES_OF_CLICKS.items():
        rng = np.random.default_rng(9)
        model = make_click(rng, shape)
        ids, dense = make_events(rng, model, 300)
        scores = click_reference.score(model, ids, dense)
        below = model.bottom.layers if model.bottom else ()
        arrays = {"click": np.int32([model.n_dense, model.dim, model.interactions, len(below)])}
        arrays["counts"] = np.int32([len(table.keys) for table in model.tables])
        keys = np.concatenate([np.zeros(0, "<u8"), *(table.keys for table in model.tables)])
        arrays |= {"keys": keys.astype("<u8").view("<i4"), "ids": ids.astype("<u8").reshape(-1).view("<i4")}
        arrays["rows"] = np.concatenate([np.zeros(0, np.float32), *(table.rows.ravel() for table in model.tables)])
        for part, network in model.networks.items():
            outside = np.arange(network.n_features) < model.n_dense
            missing = outside & (part == "bottom" or model.bottom is None)
            arrays |= stage_arrays(network, missing, f"{part}.")
        arrays |= {"X": dense, "score": scores, "slack": near(scores, 1e-4).astype(np.float32)}
        arrays["batches"] = np.int32((*SOME_BATCHES, 127, 128, 129, 300))
        yield Case(
            f"click, {name}", "click", arrays, tuple(layer_arrays(layer) for layer in (*below, *model.top.layers))
        )


def cases():
    """Give every case."""
    makers = (float_networks, functions, integers, one_rounding, bytes_of_floats, chains, forests, recommenders, clicks)
    for make in makers:
        yield from make()
