"""Models to learn from: tree ensembles, columns of scores, callables."""
