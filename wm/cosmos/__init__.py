"""NVIDIA's Cosmos world foundation models in Flax.

    networks   transformers, autoencoders, action inputs, adapters, and the models' sizes; knows no other room
    training   what is minimised and by what, clips, a small world to try it on, and what a model costs
    sampling   drawing clips and continuing them; knows networks and training
    weights    published files, and models as this project keeps and exports them; knows networks
    generator  a checkpoint as one function; knows all of them

    generator = wm.cosmos.load("runs/cosmos")
    video = generator(start, actions, jax.random.key(0))

Importing this imports no JAX.
"""


def load(folder, coder=None, frames=None, **how):
    """A generator of video: `generator(start, actions, key)` is float32 `[B, T, H, W, 3]` in [-1, 1].

    Args:
      folder: a fine-tuning run (launch.cosmos finetune), a transformer's weights, or a repository as
        launch.cosmos convert writes it.
      coder: the autoencoder's folder; left out: the one beside the transformer, or that of the run.
      frames: of a chunk, given ones included; left out: as many as the run's clips had, or 17.
      how: fields of wm.cosmos.sampling.sample.SampleConfig, such as steps=4.

    Raises WeightsError or CheckpointError, in one line, where there is none.
    """
    from wm.cosmos.generator import load as load_generator

    return load_generator(folder, coder, frames, **how)
