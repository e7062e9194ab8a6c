"""Text embeddings: finding and reading a precomputed one, and projecting it for cross-attention."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wm.cosmos.networks.config import DiTConfig
from wm.cosmos.weights.sources import TEXT_FILE, WeightsError, open_source


def find(names: Iterable[str], where: str) -> str | None:
    """The text embedding among the names of files, or None; of several that of the empty prompt.

    Raises:
      WeightsError: there are several, and not one of them is of the empty prompt.
    """
    found = [name for name in names if TEXT_FILE in name and not name.rpartition("/")[2].startswith(".")]
    chosen = [name for name in found if "empty" in name] if len(found) > 1 else found
    if found and len(chosen) != 1:
        raise WeightsError(f"{where} holds several text embeddings: name one of {', '.join(found)} by --text")
    return chosen[0] if chosen else None


def read(path: Path | str) -> np.ndarray:
    """A precomputed text embedding (1, K, E) float32: the only tensor of a safetensors, torch or .npy file.

    Raises:
      WeightsError: the file holds something else.
    """
    path = Path(path)
    try:
        embedding = np.load(path, allow_pickle=False) if path.suffix == ".npy" else _only_tensor(path)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise WeightsError(f"{path} can't be read as a text embedding: {error}") from error
    if embedding.ndim == 2:
        embedding = embedding[None]
    if embedding.ndim != 3 or embedding.shape[0] != 1:
        raise WeightsError(f"{path}: a text embedding is (1, tokens, width), this one is {embedding.shape}")
    return np.asarray(embedding, np.float32)


def _only_tensor(path: Path) -> np.ndarray:
    with open_source(path) as source:
        if len(source.shapes) != 1:
            raise WeightsError(
                f"{path} holds {len(source.shapes)} tensors; give a file with the embedding alone"
            )
        return np.asarray(source.read(next(iter(source.shapes))), np.float32)


def check(config: DiTConfig, embedding: np.ndarray) -> None:
    """Raises WeightsError unless the model takes text embeddings of that width, raw or projected."""
    width = embedding.shape[-1]
    if width not in (config.context_width, config.text_width):
        wanted = (
            f"{config.text_width} or {config.context_width}" if config.text_width else config.context_width
        )
        raise WeightsError(f"the text embedding is {width} wide; this model takes {wanted}")


def project(config: DiTConfig, params: Any, embedding: np.ndarray) -> np.ndarray:
    """Embedding (1, K, E) as cross-attention reads it, (1, K, context_width) float32.

    What is projected once needn't be again: the model takes either.

    Raises:
      WeightsError: E is neither the width of raw text embeddings nor of projected ones.
    """
    check(config, embedding)
    if embedding.shape[-1] == config.context_width:
        return embedding
    layer = params["text_proj"]
    kernel, bias = (jnp.asarray(layer[name], jnp.float32) for name in ("kernel", "bias"))
    projected = jnp.matmul(jnp.asarray(embedding), kernel, precision=jax.lax.Precision.HIGHEST) + bias
    return np.asarray(jax.nn.gelu(projected, approximate=False))
