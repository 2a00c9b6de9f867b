"""Nets that others trained: ONNX graphs and torch modules to arrays that the engine can run."""
