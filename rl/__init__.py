"""Controllers: scripted and learned policies, PPO, evaluation. Knows the gymnax interface, not the model.

    controller = rl.load()                     # the shipped one, or the folder of a training run
    action = controller(observation)

Importing this imports no JAX.
"""


def load(name_or_folder=None):
    """A trained controller: `controller(observation)` is its most likely action, int32 `[..., 5]`.

    The observation is that of the simulator or of the real game (collect.env), with any leading batch
    dimensions and any number of aircraft. The controller is a pytree: it can be called under jit and given
    to a compiled function as an argument.

    Args:
      name_or_folder: a training run or its policy folder; None or "shipped" is the controller that comes
        with the project.

    Raises CheckpointError, in one line, where there is none for this game's sectors and this version.
    """
    from rl.policy import load_controller

    return load_controller(name_or_folder)
