"""The real game: the page in lock-step, as an environment, and as recorded episodes.

Reading recordings (collect.dataset) needs no browser and no Playwright; playing the game does.
"""


class GameError(RuntimeError):
    """The real game cannot be played; the message says in one line why and what would help."""


class GameFault(GameError):
    """The game's own code fails at this airport with this seed; another seed may do."""
