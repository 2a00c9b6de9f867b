"""Small networks that learn to rank as a teacher does."""
