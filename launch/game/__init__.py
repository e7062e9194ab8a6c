"""The checks of `python -m launch.check_game`: one module each, `run(config, folder)`."""
