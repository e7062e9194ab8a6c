"""Experiments as frozen dataclasses; each docstring gives command, hardware, time and expected figures."""
