"""What is fuzzed: reading a model file, and scoring with whatever comes out."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path

import numpy as np

from prunus import _native
from prunus.engine.event_scorer import EventScorer
from prunus.engine.file import read_header
from prunus.engine.loading import load
from prunus.engine.recommend_scorer import RecommendScorer
from prunus.engine.scorer import RankScorer
from prunus.errors import DataError, ModelFileError, NetworkError

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
    if isinstance(scorer, RecommendScorer):
        make_lists(scorer)
        return f"loaded {type(scorer.model).__name__}"
    if isinstance(scorer, EventScorer):
        score_events(scorer)
        return "loaded ClickModel"
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


def make_lists(scorer: RecommendScorer) -> None:
    """Ask for lists of all lengths, for one user and for many, on every instruction set."""
    n_items = scorer.model.n_items
    histories = [[], [0], [n_items - 1], list(range(0, n_items, 3)), *([[n_items // 2]] * 15)]
    for isa in _native.isas():
        same = RecommendScorer(scorer.model, scorer.item_ids, isa=isa)
        for users in (histories, histories[3:4]):
            for k in (1, min(n_items, 100) + 1):
                found = same.recommend(users, k, block=[0])
                assert (found.ids < n_items).all()
        same.recommend_ids([["item 1", "7"]], 3)


def score_events(scorer: EventScorer) -> None:
    """Score events of all kinds, on every instruction set."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 2**64, (150, scorer.model.n_ids), dtype=np.uint64)
    for field, table in enumerate(scorer.model.tables):
        if len(table.keys):
            ids[:90, field] = rng.choice(table.keys, 90)
    ids[90:100] = 0
    dense = (rng.normal(size=(150, scorer.model.n_dense)) * 10 ** rng.uniform(-3, 6, (150, 1))).astype(np.float32)
    dense[40:50] = np.nan
    dense[60:62] = np.inf
    for isa in _native.isas():
        same = EventScorer(scorer.model, scorer.schema, isa=isa)
        for part in (slice(1), slice(60), slice(150)):
            # NaN and infinity where neither may stand; embeddings whose product is no float32.
            with contextlib.suppress(DataError, NetworkError):
                same.score(ids[part], dense[part], n_threads=2)
