"""The real game: the page in lock-step, as an environment, and as recorded episodes."""
