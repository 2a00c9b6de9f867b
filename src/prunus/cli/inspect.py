"""``prunus inspect``: what a model file holds, and whether it can be trusted here."""

from __future__ import annotations

from typing import Any

from prunus.cli import options, table, talk


@talk.verb()
def inspect(model: options.Model, json: options.Json = False) -> None:
    """Show a model: layers, features that it reads and does not, schema, provenance, verdict; and check the file.

    The checksum is verified, and the reference rows in the file are scored again on this machine. Features listed as
    unused need not be computed.

    Example:
      prunus inspect out/ranker.prunus
    """
    from prunus.compress.table import layer_rows
    from prunus.engine.file import CHECK_ROWS, codec_of, load, read_header

    header = read_header(model)
    scorer = load(model)
    used = set(scorer.features_used)
    metadata = {key: value for key, value in scorer.metadata.items() if key != "verdict"}
    values: dict[str, Any] = {
        "kind": header["kind"],
        "format_version": header["format_version"],
        "bytes": model.stat().st_size,
        "sha256": header.get("sha256"),
        "isa": scorer.isa,
        "nonzeros": scorer.network.nonzeros,
        "layers": layer_rows(scorer.network),
        "features": {
            "used": list(scorer.features_used),
            "unused": [name for name in scorer.schema.feature_names if name not in used],
            "may_be_missing": [
                name
                for name, allowed in zip(scorer.schema.feature_names, scorer.schema.allow_missing, strict=True)
                if allowed
            ],
        },
        "inputs": scorer.network.inputs.n_slots,
        "provenance": metadata,
        "verdict": scorer.metadata.get("verdict"),
        "check": {"rows": CHECK_ROWS, "tolerance": codec_of(scorer.network).tolerance, "agrees": True},
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
            for row in values["layers"]
        ],
        left=2,
    )
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
