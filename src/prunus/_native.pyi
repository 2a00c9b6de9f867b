# The native engine. Use prunus.engine.scorer.RankScorer, which checks what this module assumes.

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
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def tile(self) -> int: ...
    def score(self, X: NDArray[np.float32], out: NDArray[np.float32], n_threads: int = 1) -> int: ...

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
