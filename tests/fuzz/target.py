"""What is fuzzed: reading a model file, and scoring with whatever comes out."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np

from prunus import _native
from prunus.engine.file import load, read_header
from prunus.engine.scorer import RankScorer
from prunus.errors import DataError, ModelFileError

FOLDER = Path(tempfile.mkdtemp(prefix="prunus-fuzz-"))


def read(content: bytes) -> str:
    """Read a model file, and score rows of all kinds with what comes out, on every instruction set.

    Args:
        content: the file's bytes.

    Returns:
        What came of it, in a few words: the error with its numbers and names taken out, or what was loaded. Inputs
        that come to the same were handled alike.

    Raises:
        Exception: any but a named error is a finding, and so is one that hides that memory ran out.
    """
    path = FOLDER / "m.prunus"
    path.write_bytes(content)
    try:
        read_header(path)
        scorer = load(path)
    except ModelFileError as error:
        chain = [error]
        while chain[-1] is not None:
            chain.append(chain[-1].__cause__ or chain[-1].__context__)
        assert not any(isinstance(one, MemoryError) for one in chain), f"{len(content)} bytes took all memory"
        return re.sub(r"'[^']*'|[\d.e+-]*\d|\[.*\]|\(.*\)|nan|inf", "_", str(error).replace(str(path), "_"))[:120]
    rng = np.random.default_rng(0)
    n = scorer.schema.n_features
    X = (rng.normal(size=(67, n)) * 10 ** rng.uniform(-3, 6, (67, 1))).astype(np.float32)
    X[40:50] = np.where(rng.random((10, n)) < 0.5, np.nan, X[40:50])
    X[50:55, :] = np.float32(np.inf)
    for isa in _native.isas():
        same = RankScorer(scorer.model, scorer.schema, isa=isa)
        for rows in (X[:40], X, X[:1]):
            try:
                same.score(rows)
            except DataError:  # NaN or infinity where neither may stand
                continue
    return f"loaded {type(scorer.model).__name__}"
