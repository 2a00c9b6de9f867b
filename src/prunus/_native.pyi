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
    def score(self, X: NDArray[np.float32], out: NDArray[np.float32], n_threads: int = 1) -> int: ...
