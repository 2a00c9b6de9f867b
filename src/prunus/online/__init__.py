"""Models that learn from a stream for ever: test, then train; a sparse model comes off and serves."""
