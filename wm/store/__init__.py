"""Checkpoints that come back exactly as saved, and where a result came from."""
