"""What goes wrong around a run, done on purpose: inputs that do not belong, and interruptions."""
