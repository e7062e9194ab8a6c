"""What `python -m launch.cosmos` does: one module a verb, and what several verbs share."""
