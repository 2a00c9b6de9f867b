"""The whole job, stage after stage, resumable."""
