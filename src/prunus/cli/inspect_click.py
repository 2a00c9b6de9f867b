"""``prunus inspect`` of a click model: id tables, networks, the columns of its events, provenance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunus.cli import table, talk

if TYPE_CHECKING:
    from pathlib import Path


def inspect_click(model: Path, header: dict[str, Any], *, json: bool) -> None:
    """Show a click model; the check events in its file are scored again here.

    Args:
        model: its file.
        header: of the file.
        json: whether to print one JSON object.

    Raises:
        ModelFileError: the file cannot be trusted.
    """
    from prunus.cli.inspect import put_layers
    from prunus.compress.table import layer_rows
    from prunus.engine.click_file import TOLERANCE, load

    scorer = load(model)
    kept, schema = scorer.model, scorer.schema
    values: dict[str, Any] = {
        "kind": header["kind"],
        "format_version": header["format_version"],
        "bytes": model.stat().st_size,
        "sha256": header.get("sha256"),
        "isa": scorer.isa,
        "nonzeros": kept.nonzeros,
        "networks": {name: layer_rows(network) for name, network in kept.networks.items()},
        "ids": [
            {"name": name, "known": len(one.keys)} for name, one in zip(schema.id_fields, kept.tables, strict=True)
        ],
        "embedding_width": kept.dim,
        "interactions": kept.interactions,
        "dense": list(schema.dense),
        "label": schema.label,
        "time": list(schema.time),
        "provenance": scorer.metadata,
        "check": {"tolerance": TOLERANCE, "agrees": True},
        "files": {"model": str(model)},
    }
    if json:
        talk.put_json(values)
        return
    talk.put(
        f"{model}: click model, format {values['format_version']}, {values['bytes']:,} bytes, checksum right; its check"
        f" events score here ({scorer.isa}) as where it was written, within {TOLERANCE:g}"
    )
    talk.put("")
    table.put_table(["id", "known"], [[one["name"], f"{one['known']:,}"] for one in values["ids"]], left=1)
    products = f"{kept.n_products:,} products" if kept.interactions else "no products"
    talk.put(f"embeddings {kept.dim} wide, {products}; {len(schema.dense)} dense features: {', '.join(schema.dense)}")
    for name, rows in values["networks"].items():
        talk.put("")
        talk.put(f"{name} network")
        put_layers(rows)
    talk.put("")
    talk.put(f"learned to tell {schema.label}, in the order of {', '.join(schema.time)}")
    for name, value in values["provenance"].items():
        talk.put(f"{name.replace('_', ' ')}: {value}")
