"""The model file of a recommender: the same container, header and checksum as a ranker's (:mod:`prunus.engine.file`).

Its check scores are those of generated histories, which follow from the number of items and are not in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.engine import recommender_codec as codec
from prunus.engine import recommender_reference as reference
from prunus.engine.arrays_file import file_bytes, hold_scores, take_tensors, write_loadable
from prunus.engine.header import KEYS, checked_header, outer_header, read_bytes, refuse, require
from prunus.engine.item_ids import check_ids
from prunus.engine.levels import quantise_model
from prunus.engine.recommend_scorer import RecommendScorer
from prunus.errors import DataError, NetworkError, RecommenderError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from prunus.engine.recommender import Recommender

KIND = "recommender"
"""The header's ``kind``."""

KEY = "factors"
"""The header's key for the description of the model."""

TOLERANCE = 1e-4
"""A loaded model's check scores agree within this times max(1, abs(score))."""

_LENGTHS = (0, 1, 2, 4, 8, 16, 32, 64)
_CHECKED = 4


@dataclass(frozen=True)
class Sizes:
    """Bytes of a recommender's file.

    Attributes:
        file: all bytes.
        id_map: bytes of the items' names, 0 where they are numbers.
        n_items: number of items.
    """

    file: int
    id_map: int
    n_items: int

    @property
    def bytes_per_item(self) -> float:
        """Bytes of the file without the id map, over the items."""
        return (self.file - self.id_map) / self.n_items


def to_bytes(
    model: Recommender, item_ids: Sequence[str] | None = None, *, metadata: Mapping[str, object] | None = None
) -> bytes:
    """Return the bytes of a model file; equal input gives equal bytes.

    Args:
        model: the factors.
        item_ids: the items' names; None where items are numbers from 0.
        metadata: provenance in plain JSON values, under any keys but the file's own. It counts in the bytes an item.

    Raises:
        NetworkError: the model's scores are not finite, or cannot be repeated here.
        ModelFileError: the metadata cannot be written.
    """
    ids = None if item_ids is None else check_ids(item_ids, model.n_items)
    fields = {"kind": KIND, KEY: codec.describe(model, ids)}
    return file_bytes(fields, codec.tensors(model, ids) | {"check": check_scores(model)}, metadata or {})


def packed_bytes(
    model: Recommender, *, value_bits: int | None = None, metadata: Mapping[str, object] | None = None
) -> int:
    """Return the bytes of a model's file without an id map; over the items, they are the bytes an item.

    Args:
        model: the factors.
        value_bits: quantise the values to levels of so many bits first; default: as they are.
        metadata: what will stand beside the model.
    """
    packed = model if value_bits is None else quantise_model(model, value_bits)
    return len(to_bytes(packed, metadata=metadata))


def save(
    path: str | os.PathLike[str],
    model: Recommender,
    item_ids: Sequence[str] | None = None,
    *,
    metadata: Mapping[str, object] | None = None,
) -> Sizes:
    """Write a model file, whole or not at all; what was written would load here.

    Args:
        path: where to; an existing file is replaced.
        model: as in :func:`to_bytes`, which says what else is raised.
        item_ids: likewise.
        metadata: likewise.

    Raises:
        OutputError: the file cannot be written; one that stood there before is untouched.
    """
    content = to_bytes(model, item_ids, metadata=metadata)
    write_loadable(path, content, scorer_from_bytes)
    return sizes(content, str(path))


def sizes(content: bytes, name: str) -> Sizes:
    """Return what a model file's bytes are spent on.

    Raises:
        ModelFileError: they are not those of a recommender.
    """
    header = checked_header(content, name, KIND)
    codec.types(header.get(KEY), name)
    place = outer_header(content, name).get("ids", {}).get("data_offsets", [0, 0])
    return Sizes(len(content), int(place[1]) - int(place[0]), header[KEY]["items"])


def load(path: str | os.PathLike[str]) -> RecommendScorer:
    """Read a model file and check all of it before anything is returned.

    Args:
        path: a file that :func:`save` wrote.

    Returns:
        A scorer on the best instruction set of this CPU, with the items' names and the metadata that were saved.

    Raises:
        ModelFileError: the file is absent, truncated, damaged, foreign, or holds what cannot run.
        ModelVersionError: it was written in a format that this version does not know.
    """
    return scorer_from_bytes(read_bytes(path), str(path))


def scorer_from_bytes(content: bytes, name: str) -> RecommendScorer:
    """Check the bytes of a model file as :func:`load` does; ``name`` is what to call it in messages."""
    model, ids, metadata, expected = _parse(content, name)
    try:
        scorer = RecommendScorer(model, ids, metadata=metadata)
        found = scorer.scores(check_histories(model.n_items))
    except (NetworkError, DataError, MemoryError) as error:
        refuse(name, error)
    found = np.take_along_axis(found, check_items(model.n_items), axis=1)
    hold_scores(found, expected, TOLERANCE, name, scorer.isa)
    return scorer


def from_bytes(content: bytes, name: str) -> tuple[Recommender, tuple[str, ...] | None, dict[str, Any]]:
    """Check the bytes of a file without scoring, and return model, items' names and metadata.

    Raises:
        ModelFileError: the file is truncated, damaged, foreign, or holds what cannot run.
        ModelVersionError: it was written in a format that this version does not know.
    """
    return _parse(content, name)[:3]


def _parse(
    content: bytes, name: str
) -> tuple[Recommender, tuple[str, ...] | None, dict[str, Any], NDArray[np.float32]]:
    header = checked_header(content, name, KIND)
    wanted = codec.types(header.get(KEY), name)
    arrays = take_tensors(content, wanted | {"check": "F32"}, name)
    try:
        model, ids = codec.build(header[KEY], arrays)
    except (RecommenderError, MemoryError) as error:
        refuse(name, error)
    expected = arrays["check"]
    shape = (len(_LENGTHS), _CHECKED)
    require(expected.shape == shape, name, f"check has shape {expected.shape}, not {shape}")
    require(np.isfinite(expected).all(), name, "check holds NaN or infinity")
    metadata = {key: value for key, value in header.items() if key not in KEYS | {KEY}}
    return model, ids, metadata, expected


def check_histories(n_items: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the histories that a model is checked with: (indptr, items), the first of them empty."""
    rows = [np.unique((np.arange(length) * 104_729 + user * 7_919) % n_items) for user, length in enumerate(_LENGTHS)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return indptr, np.concatenate(rows).astype(np.int32)


def check_items(n_items: int) -> NDArray[np.int64]:
    """Return the items whose scores are checked: int64 [histories, 4]."""
    user, place = np.arange(len(_LENGTHS))[:, None], np.arange(_CHECKED)
    return (user * 31_337 + place * 7_151) % n_items


def check_scores(model: Recommender) -> NDArray[np.float32]:
    """Return the scores of :func:`check_items` by the slow twin, float32.

    Raises:
        NetworkError: they are not finite.
    """
    indptr, items = check_histories(model.n_items)
    with np.errstate(over="ignore", invalid="ignore"):
        scores = np.take_along_axis(reference.score(model, indptr, items), check_items(model.n_items), axis=1)
    if not np.isfinite(scores).all():
        msg = "the model's scores overflow float32 on ordinary histories; expected finite scores: check its values"
        raise NetworkError(msg)
    return scores
