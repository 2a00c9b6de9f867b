"""Readers and the validated types that they return."""
