"""What JAX makes of a function for a GPU, on a machine without one."""

import jax
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

H100 = AbstractDevice("NVIDIA H100 80GB HBM3", None, "gpu")


def for_a_gpu(function, *arguments) -> str:
    """The text of the lowered program; from 0.11 on JAX asks for which card."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    card = AbstractMesh((1,), ("card",), axis_types=(AxisType.Auto,), abstract_device=H100)
    with jax.sharding.use_abstract_mesh(card):
        return jax.jit(function).trace(*shapes).lower(lowering_platforms=("cuda",)).as_text()
