"""Ways to a sparse model that follows a stream: from a dense master, or beside it."""
