"""``prunus inspect``: what a model file holds, and whether it can be trusted here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunus.cli import options, table, talk

if TYPE_CHECKING:
    from prunus.engine.ensemble import Ensemble


@talk.verb()
def inspect(model: options.Model, json: options.Json = False) -> None:
    """Show a model: layers or trees, features that it reads and does not, schema, provenance, verdict; check the file.

    The checksum is verified, and the reference rows in the file are scored again on this machine. Features listed as
    unused need not be computed.

    Example:
      prunus inspect out/ranker.prunus
    """
    from prunus.compress.table import layer_rows
    from prunus.engine.ensemble import Ensemble
    from prunus.engine.file import CHECK_ROWS, codec_of, load, read_header

    header = read_header(model)
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
