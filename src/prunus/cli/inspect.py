"""``prunus inspect``: what a model file holds, and whether it can be trusted here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunus.cli import options, table, talk

if TYPE_CHECKING:
    from pathlib import Path

    from prunus.engine.ensemble import Ensemble


@talk.verb()
def inspect(model: options.Model, json: options.Json = False) -> None:
    """Show a model: layers, trees or item factors, features that it reads and does not, provenance, verdict; check the file.

    The checksum is verified, and the reference rows in the file are scored again on this machine. Features listed as
    unused need not be computed.

    Example:
      prunus inspect out/ranker.prunus
    """
    from prunus.compress.table import layer_rows
    from prunus.engine.ensemble import Ensemble
    from prunus.engine.file import CHECK_ROWS, codec_of, load, read_header

    header = read_header(model)
    if header["kind"] == "recommender":
        inspect_recommender(model, header, json=json)
        return
    if header["kind"] == "click":
        from prunus.cli.inspect_click import inspect_click

        inspect_click(model, header, json=json)
        return
    scorer = load(model)
    used = set(scorer.features_used)
    kept = scorer.model
    if isinstance(kept, Ensemble):
        held: dict[str, Any] = {"nonzeros": None, "layers": None, "inputs": None, "trees": tree_figures(kept)}
    else:
        held = {"nonzeros": kept.nonzeros, "layers": layer_rows(kept), "inputs": kept.inputs.n_slots, "trees": None}
    metadata = {key: value for key, value in scorer.metadata.items() if key != "verdict"}
    values: dict[str, Any] = {
        "kind": header["kind"],
        "format_version": header["format_version"],
        "bytes": model.stat().st_size,
        "sha256": header.get("sha256"),
        "isa": scorer.isa,
        **held,
        "features": {
            "used": list(scorer.features_used),
            "unused": [name for name in scorer.schema.feature_names if name not in used],
            "may_be_missing": [
                name
                for name, allowed in zip(scorer.schema.feature_names, scorer.schema.allow_missing, strict=True)
                if allowed
            ],
        },
        "provenance": metadata,
        "verdict": scorer.metadata.get("verdict"),
        "check": {"rows": CHECK_ROWS, "tolerance": codec_of(kept).tolerance, "agrees": True},
        "files": {"model": str(model)},
    }
    if json:
        talk.put_json(values)
        return
    show(values)


def inspect_recommender(model: Path, header: dict[str, Any], *, json: bool) -> None:
    """Show a recommender: items, factors, what its bytes are spent on, provenance.

    Args:
        model: its file.
        header: of the file.
        json: whether to print one JSON object.

    Raises:
        ModelFileError: the file cannot be trusted.
    """
    from prunus.engine.recommender import SparseFactors
    from prunus.engine.recommender_file import TOLERANCE, load, sizes

    scorer, held = load(model), sizes(model.read_bytes(), str(model))
    kept = scorer.model
    values: dict[str, Any] = {
        "kind": header["kind"],
        "format_version": header["format_version"],
        "bytes": held.file,
        "bytes_per_item": held.bytes_per_item,
        "id_map_bytes": held.id_map,
        "sha256": header.get("sha256"),
        "isa": scorer.isa,
        "items": kept.n_items,
        "factors": kept.n_factors,
        "nonzeros": kept.nonzeros,
        "sparse": isinstance(kept, SparseFactors),
        "item_item": isinstance(kept, SparseFactors) and kept.item_item,
        "tied": kept.tied,
        "popular": [
            str(item) if scorer.item_ids is None else scorer.item_ids[item] for item in kept.popular[:10].tolist()
        ],
        "provenance": scorer.metadata,
        "check": {"tolerance": TOLERANCE, "agrees": True},
        "files": {"model": str(model)},
    }
    if json:
        talk.put_json(values)
        return
    talk.put(f"{model}: recommender, format {values['format_version']}, {held.file:,} bytes, checksum right")
    talk.put(f"its check histories score here ({scorer.isa}) as where it was written, within {TOLERANCE:g}")
    what = "item-item weights" if values["item_item"] else f"{'sparse' if values['sparse'] else 'dense'} factors"
    talk.put(
        f"{kept.n_items:,} items, {what} {kept.n_factors:,} wide, {kept.nonzeros / kept.n_items:.3g} values an item;"
        f" {held.bytes_per_item:.1f} bytes an item, and {held.id_map:,} bytes of items' names"
    )
    talk.put(f"most popular: {', '.join(values['popular']) or 'not kept'}")
    for name, value in values["provenance"].items():
        talk.put(f"{name.replace('_', ' ')}: {value}")


def show(values: dict[str, Any]) -> None:
    """Print what a model file holds."""
    features = values["features"]
    total = len(features["used"]) + len(features["unused"])
    talk.put(
        f"{values['files']['model']}: {values['kind']}, format {values['format_version']}, {values['bytes']:,} bytes, checksum right"
    )
    check = values["check"]
    talk.put(
        f"{check['rows']} reference rows score here ({values['isa']}) as where it was written, within {check['tolerance']:g}"
    )
    talk.put("")
    put_trees(values["trees"]) if values["layers"] is None else put_layers(values["layers"])
    talk.put("")
    talk.put(f"reads {len(features['used'])} of {total} features: {', '.join(features['used'])}")
    talk.put(f"does not read: {', '.join(features['unused']) or 'none'}")
    talk.put(f"may be missing (NaN): {', '.join(features['may_be_missing']) or 'none'}")
    verdict = values["verdict"]
    if isinstance(verdict, dict):
        talk.put(
            f"verdict: {verdict.get('outcome')}, difference {table.number(verdict.get('difference'), '+.4f')}, at least"
            f" {table.number(verdict.get('lower'), '+.4f')} with 95 % confidence (allowed"
            f" {table.number(-float(verdict['margin']) if verdict.get('margin') is not None else None, '+.4f')}),"
            f" {table.number(verdict.get('queries'))} queries, {verdict.get('metric')}"
        )
    for name, value in values["provenance"].items():
        talk.put(f"{name.replace('_', ' ')}: {value}")


def put_layers(layers: list[dict[str, Any]]) -> None:
    """Print the table of a network's layers."""
    table.put_table(
        ["layer", "kernel", "inputs", "outputs", "nonzeros", "density"],
        [
            [
                row["name"],
                row["kernel"],
                f"{row['inputs']:,}",
                f"{row['outputs']:,}",
                f"{row['nonzeros']:,}",
                f"{row['density'] * 100:.1f} %",
            ]
            for row in layers
        ],
        left=2,
    )


def tree_figures(ensemble: Ensemble) -> dict[str, Any]:
    """Count what an ensemble holds: trees, leaves, splits by kind and by what is missing at them."""
    import numpy as np

    from prunus.engine.ensemble import NAN_IS_MISSING, NAN_IS_ZERO, NUMERIC, ZERO_IS_MISSING

    rules = {
        "NaN is read as 0": NAN_IS_ZERO,
        "NaN is missing": NAN_IS_MISSING,
        "NaN and 0 are missing": ZERO_IS_MISSING,
    }
    numeric = ensemble.category == NUMERIC
    kinds = np.bincount(ensemble.missing[numeric] & 3, minlength=3)
    sizes = np.diff(ensemble.leaf_start)
    return {
        "trees": ensemble.n_trees,
        "leaves": ensemble.n_leaves,
        "largest_tree": int(sizes.max()),
        "smallest_tree": int(sizes.min()),
        "numeric_splits": int(numeric.sum()),
        "categorical_splits": int((~numeric).sum()),
        "missing": {rule: int(kinds[kind]) for rule, kind in rules.items()},
        "base": ensemble.base,
    }


def put_trees(figures: dict[str, Any]) -> None:
    """Print the figures of an ensemble."""
    talk.put(
        f"{figures['trees']:,} exact trees of {figures['smallest_tree']:,} to {figures['largest_tree']:,} leaves,"
        f" {figures['leaves']:,} in all; {figures['numeric_splits']:,} numeric and {figures['categorical_splits']:,}"
        f" categorical splits; {figures['base']:g} is added to every score"
    )
    rules = [f"{rule} at {count:,} numeric splits" for rule, count in figures["missing"].items() if count]
    talk.put(f"missing values: {'; '.join(rules) or 'no numeric splits'}")
