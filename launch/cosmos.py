"""NVIDIA Cosmos: convert, inspect, fine-tune, generate, time.

    python -m launch.cosmos info --model predict2.5-2b-action
    python -m launch.cosmos VERB --help

Every verb is a module of its own, launch/cosmos_VERB.py, imported when it is asked for.
"""

import importlib
import os
import sys
from pathlib import Path

from launch import runs


def verbs() -> dict[str, str]:
    """What each verb does, from the first line of its module, by name."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("cosmos_*.py")):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        if first.startswith('"""`'):
            verb, _, line = first.removeprefix('"""`').partition("`: ")
            found[verb] = line.removesuffix("\"\"\"")
    return found


def main(argv: list[str] | None = None) -> None:
    """Do what the first word says with the others."""
    argv = sys.argv[1:] if argv is None else argv
    # Left alone jax takes three quarters of a GPU's memory; these models want nearly all of it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")
    known = verbs()
    if argv and argv[0] in known:
        importlib.import_module(f"launch.cosmos_{argv[0]}").main(argv[1:])
        return
    lines = [f"    {verb:10s} {line}" for verb, line in known.items()]
    if argv and argv[0] in ("-h", "--help"):
        print("\n".join([__doc__.strip(), "", *lines]))
        return
    named = f"no verb {argv[0]!r}" if argv else "name a verb"
    runs.fail(f"{named}: {', '.join(known)} (python -m launch.cosmos --help says what they do)", 2)


if __name__ == "__main__":
    main()
