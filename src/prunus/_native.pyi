# The native engine. Use RankScorer, RecommendScorer and EventScorer, which check what this module assumes.

import numpy as np
from numpy.typing import NDArray

def isas() -> list[str]: ...
def lanes(isa: str) -> int: ...

class Network:
    def __init__(
        self,
        n_features: int,
        allow_missing: NDArray[np.uint8],
        feature: NDArray[np.int32],
        kind: NDArray[np.uint8],
        center: NDArray[np.float32],
        scale: NDArray[np.float32],
        lower: NDArray[np.float32],
        upper: NDArray[np.float32],
        fill: NDArray[np.float32],
        layers: list[tuple[object, ...]],
        isa: str,
        n_outputs: int = 1,
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def tile(self) -> int: ...
    def score(self, X: NDArray[np.float32], out: NDArray[np.float32], n_threads: int = 1) -> int: ...

class Click:
    def __init__(
        self,
        n_dense: int,
        keys: list[NDArray[np.uint64]],
        rows: list[NDArray[np.float32]],
        interactions: bool,
        bottom: Network | None,
        top: Network,
    ) -> None: ...
    def score(
        self, ids: NDArray[np.uint64], dense: NDArray[np.float32], out: NDArray[np.float32], n_threads: int = 1
    ) -> int: ...

class Forest:
    def __init__(
        self,
        n_features: int,
        base: float,
        node_start: NDArray[np.int32],
        leaf_start: NDArray[np.int32],
        root: NDArray[np.int32],
        feature: NDArray[np.int32],
        threshold: NDArray[np.float32],
        left: NDArray[np.int32],
        right: NDArray[np.int32],
        missing: NDArray[np.uint8],
        category: NDArray[np.int32],
        set_start: NDArray[np.int32],
        set_code: NDArray[np.int32],
        value: NDArray[np.float64],
        isa: str,
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def features(self) -> int: ...
    @property
    def trees(self) -> int: ...
    def score(self, X: NDArray[np.float32], out: NDArray[np.float32], n_threads: int = 1) -> int: ...
    def leaves(self, X: NDArray[np.float32], out: NDArray[np.int32]) -> None: ...

class Recommender:
    def __init__(
        self,
        n_items: int,
        n_factors: int,
        indptr: NDArray[np.int32],
        factor: NDArray[np.int32],
        value: NDArray[np.float32],
        encode_indptr: NDArray[np.int32] | None,
        encode_factor: NDArray[np.int32] | None,
        encode_value: NDArray[np.float32] | None,
        scale: NDArray[np.float32],
        bias: NDArray[np.float32],
        order: NDArray[np.int32],
        step: NDArray[np.float32] | None,
        encode_step: NDArray[np.float32] | None,
        isa: str,
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def quads(self) -> bool: ...
    def recommend(
        self,
        indptr: NDArray[np.int32],
        items: NDArray[np.int32],
        ids: NDArray[np.int32],
        scores: NDArray[np.float32],
        allowed: NDArray[np.uint8] | None = None,
        mask_seen: bool = True,
        n_threads: int = 1,
    ) -> int: ...
    def score(
        self, indptr: NDArray[np.int32], items: NDArray[np.int32], scores: NDArray[np.float32], n_threads: int = 1
    ) -> None: ...
