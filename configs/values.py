"""Refuses values that a configuration can't have, in one line: "gamma is 1.5, must be 0 to 1".

`__post_init__` of the configurations calls these. A field that is None passes. `prefix` is put before the
field's name where the configuration is part of another one.
"""

from typing import Any


def require(condition: bool, name: str, value: Any, expected: str) -> None:
    """Raises ValueError unless the condition holds; `expected` says what would be right."""
    if not condition:
        raise ValueError(f"{name} is {value!r}, must be {expected}")


def at_least(config: Any, low: float, *names: str, prefix: str = "") -> None:
    """Raises ValueError for the first of the fields that is below `low`."""
    for name, value in _given(config, names):
        require(value >= low, prefix + name, value, f"at least {low}")


def above(config: Any, low: float, *names: str, prefix: str = "") -> None:
    """Raises ValueError for the first of the fields that isn't above `low`."""
    for name, value in _given(config, names):
        require(value > low, prefix + name, value, f"more than {low}")


def within(config: Any, low: float, high: float, *names: str, prefix: str = "") -> None:
    """Raises ValueError for the first of the fields that isn't in [low, high]."""
    for name, value in _given(config, names):
        require(low <= value <= high, prefix + name, value, f"{low} to {high}")


def not_empty(config: Any, *names: str) -> None:
    """Raises ValueError for the first of the fields that names nothing."""
    for name, value in _given(config, names):
        if not value:
            raise ValueError(f"{name} is empty, must name at least one")


def _given(config: Any, names: tuple[str, ...]):
    return [(name, getattr(config, name)) for name in names if getattr(config, name) is not None]
