"""Frozen dataclasses as command lines and as JSON.

    config = cli.parse(PPOConfig, default=OPENSCOPE)         # --network.width 128 --no-anneal
    config = cli.parse_preset(PPOTraining, PRESETS)          # shipped --out runs/ppo
    runs.write_config(run / "config.json", config)           # the same as JSON (launch.shared.runs)
    config = cli.load(PPOConfig, run / "config.json")        # the same, or a ConfigError that names the field

Fields may be int, float, bool, str, Path, None, Literal, unions of these, tuples and dicts of them, and
further dataclasses. What a type can't say, `__post_init__` says by raising ValueError.
"""

import contextlib
import difflib
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

Config = TypeVar("Config")

# Options of earlier versions and what they are called now.
RENAMED = {"--directory": "--out"}
# Options that commands with this field no longer need, and why; they are passed over with a note.
NEEDLESS = {"--resume": ("save_every", "the same command goes on where it stopped")}


class ConfigError(ValueError):
    """A configuration is not what its class says; one line naming the field."""


def parse(
    config_class: type[Config], argv: Sequence[str] | None = None, default: Config | None = None
) -> Config:
    """Reads a command line (None: this process's). --help and errors end the process, errors with status 2.

    Args:
      config_class: its docstring is the help text, the comments or docstrings of its fields theirs.
      argv: without the program's name.
      default: where the fields' values come from if the command line doesn't name them.
    """
    defaults = {} if default is None else {"default": default}
    argv = _without_needless(config_class, sys.argv[1:] if argv is None else argv)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(config_class, args=argv, **defaults)
    except SystemExit as stopped:
        if stopped.code in (0, None):
            raise
        cause = _renamed(config_class, argv) or _one_line(printed.getvalue())
        print(f"error: {cause} (--help lists the options)", file=sys.stderr)
        raise SystemExit(2) from None


def parse_preset(
    config_class: type[Config],
    presets: Mapping[str, Config],
    argv: Sequence[str] | None = None,
    kind: str = "preset",
) -> Config:
    """Reads a command line that may begin with the name of a preset; options then change its values.

    An unknown name ends the process with status 2 and one line that calls it a `kind`.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0].startswith("-"):
        return parse(config_class, argv)
    if argv[0] not in presets:
        print(f"error: {kind} {argv[0]!r} must be one of {', '.join(presets)}", file=sys.stderr)
        raise SystemExit(2)
    return parse(config_class, argv[1:], presets[argv[0]])


def _fields(config_class: Any) -> set[str]:
    """Names of the fields of a dataclass, or of those of a union."""
    classes = [config_class] if is_dataclass(config_class) else get_args(config_class)
    return {field.name for one in classes if is_dataclass(one) for field in fields(one)}


def _without_needless(config_class: Any, argv: Sequence[str]) -> list[str]:
    """`argv` without the options of NEEDLESS, which are noted on stderr where there were any."""
    known, kept = _fields(config_class), []
    for argument in argv:
        field, why = NEEDLESS.get(argument, (None, ""))
        if field in known and argument[2:] not in known:
            print(f"note: {argument} is no longer needed: {why}", file=sys.stderr)
        else:
            kept.append(argument)
    return kept


def _renamed(config_class: Any, argv: Sequence[str]) -> str | None:
    """What the first option with a name of earlier versions is called now; None if there is none."""
    known = _fields(config_class)
    for argument in argv:
        old = argument.partition("=")[0]
        if old in RENAMED and RENAMED[old][2:] in known and old[2:] not in known:
            return f"{old} is now {RENAMED[old]}"
    return None


def to_json(config: Any) -> Any:
    """Plain JSON (dicts, lists, numbers, strings, booleans, None) of a configuration or one of its values."""
    if is_dataclass(config):
        return {field.name: to_json(getattr(config, field.name)) for field in fields(config)}
    if isinstance(config, dict):
        return {key: to_json(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [to_json(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def from_json(config_class: type[Config], value: Any) -> Config:
    """Inverse of `to_json`. Every field has to be there: a default of today isn't what was meant back then.

    Raises:
      ConfigError: unknown or missing field, wrong type, or a value that the class refuses.
    """
    return _build(config_class, value, "")


def load(config_class: type[Config], path: Path | str) -> Config:
    """Reads a configuration from a JSON file.

    Raises:
      ConfigError: no such file, not JSON, or see `from_json`; the message begins with the path.
    """
    if Path(path).is_fifo() or Path(path).is_char_device():  # one would never answer, the other never end
        raise ConfigError(f"{path} is no file")
    try:
        return from_json(config_class, json.loads(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} isn't JSON: {error}") from error


def _build(config_class: type, value: Any, name: str) -> Any:
    where = f"{name}: " if name else ""
    if not isinstance(value, dict):
        raise ConfigError(f"{where}{_shown(value)} isn't a {config_class.__name__}")
    known = [field.name for field in fields(config_class) if field.init]
    for key in value:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
            raise ConfigError(f"{where}{config_class.__name__} has no field {key!r}; {hint}")
    if missing := [key for key in known if key not in value]:
        raise ConfigError(f"{where}field {missing[0]!r} of {config_class.__name__} is missing")
    types = get_type_hints(config_class)
    built = {key: _convert(types[key], value[key], f"{name}.{key}" if name else key) for key in known}
    try:
        return config_class(**built)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}{error}") from error


def _convert(wanted: Any, value: Any, name: str) -> Any:
    """`value` as an instance of the annotation `wanted`; never rounds, never parses strings."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        classes = [choice for choice in arguments if is_dataclass(choice)]
        if len(classes) == 1 and isinstance(value, dict):
            return _build(classes[0], value, name)
        for choice in arguments:
            with contextlib.suppress(ConfigError):
                return _convert(choice, value, name)
    elif origin is Literal:
        for choice in arguments:
            if type(choice) is type(value) and choice == value:
                return choice
    elif is_dataclass(wanted):
        return _build(wanted, value, name)
    elif origin is tuple and isinstance(value, list):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        if len(arguments) == len(value):
            pairs = zip(arguments, value, strict=True)
            return tuple(_convert(kind, item, f"{name}[{i}]") for i, (kind, item) in enumerate(pairs))
    elif origin is dict and isinstance(value, dict):
        return {key: _convert(arguments[1], item, f"{name}.{key}") for key, item in value.items()}
    elif wanted is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    elif wanted is Path and type(value) is str:
        return Path(value)
    elif wanted in (int, bool, str, NoneType) and type(value) is wanted:
        return value
    raise ConfigError(f"{name} is {_shown(value)}, must be {_type_name(wanted)}")


def _type_name(wanted: Any) -> str:
    if get_origin(wanted) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(wanted))
    if get_origin(wanted) in (Union, UnionType):
        return " or ".join(_type_name(choice) for choice in get_args(wanted))
    if wanted is NoneType:
        return "None"
    return wanted.__name__ if isinstance(wanted, type) and not get_args(wanted) else str(wanted)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _one_line(box: str) -> str:
    """What tyro's message box says: its first section, and the nearest option's name from the second.

    The frame is drawn with box characters or, where the terminal isn't UTF-8, with dashes and spaces.
    """
    text = " ".join(line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:])
    cause, *rest = (section.strip() for section in re.split("[─-]{3,}", text) if section.strip())
    nearest = re.search(r"Perhaps you meant:.*?(--[^ ,]+)", " ".join(rest))
    return f"{cause}; did you mean {nearest[1]}?" if nearest else cause
