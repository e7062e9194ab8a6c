"""Store two raw answers of the real page for tests that run without a game.

    OPENSCOPE_URL=... python tests/collect/store_answers.py

Run it again when the schema changes; test_game.py fails until then.
"""

import json

from conftest import DATA

from collect import game as game_module
from collect.snapshot import parse


def main():
    """Write the answers at the start of KABQ, seed 11, and at its first scored event."""
    answers = []

    def keep(raw, *known, **how):
        answers.append(raw)
        return parse(raw, *known, **how)

    game_module.parse = keep
    with game_module.Game(airport="kabq", seed=11) as game:
        (DATA / "kabq_start.txt").write_text(answers[-1])
        (DATA / "kabq_static.json").write_text(json.dumps(game.static, indent=1) + "\n")
        while not len(game.snapshot.events):
            game.step()
        (DATA / "kabq_event.txt").write_text(answers[-1])


if __name__ == "__main__":
    main()
