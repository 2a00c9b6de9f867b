"""Other scorers and how they are timed beside ours."""
