"""Masks, schedules and the ways to choose which weights go."""
