"""What a recording holds: the features of its steps and episodes, and how values are rounded on writing."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from tensorflow_datasets import features as f

from collect.slots import COLUMNS
from collect.tables import EVENTS, RUNWAYS, STREAMS
from wm.sector import traffic as tr

TERMS = ("score", "loss", "stranded")
# Rounding by unit, far below what the world model resolves: 0.2 m, 0.06 ft, 0.003 degrees, 0.01 kt.
STEPS = {"nm": 2.0**-13, "ft": 2.0**-4, "rad": 2.0**-14, "kt": 2.0**-7}
METADATA = {
    "airport": f.Text(),
    "seed": f.Scalar(np.int64),
    "schema_version": f.Scalar(np.int32),
    "key": f.Text(),  # what tells the episode from others, as JSON
    "about": f.Text(),  # the rest, as JSON
    "static": f.Text(),
    "routes": f.Text(),
    "callsigns": f.Text(),
}


def rounded(name: str, values: np.ndarray) -> np.ndarray:
    """Round a column to the step of the unit in its name; other columns stay as they are."""
    step = STEPS.get(name.rsplit("_", 1)[-1])
    if step is None:
        return values
    return (np.round(np.asarray(values, np.float64) / step) * step).astype(np.float32)


def _columns(struct_class, size: int) -> dict:
    return {
        name: f.Tensor(shape=(size,), dtype=np.dtype(spec["dtype"]))
        for name, spec in tr.schema(struct_class).items()
    }


def _observation(columns: int) -> dict:
    """The features of what is seen at the start of a step, without its picture."""
    return {
        "traffic": f.FeaturesDict(_columns(tr.Traffic, columns)),
        "runways": f.FeaturesDict(_columns(tr.Runways, RUNWAYS)),
        "since_spawn_s": f.Tensor(shape=(STREAMS,), dtype=np.float32),
        "wind_speed_kt": f.Scalar(np.float32),
        "wind_from_rad": f.Scalar(np.float32),
        "time_s": f.Scalar(np.float32),
        "score": f.Scalar(np.float32),
        "slots": f.Tensor(shape=(columns,), dtype=np.int32),
        "overflow": f.Scalar(np.int32),
    }


def features(picture_px: int | None = None, pictures: int = 1, columns: int = COLUMNS) -> f.FeaturesDict:
    """The features of a data set, with pictures of that size or without, and room for `columns` aircraft.

    `observation/picture` shows the start of a step, `observation/picture_page` says which page its data
    blocks are on (collect.pictures), -1 where none was taken and the last is repeated. Of several `pictures`
    a decision the others follow in `between`, as picture_1, page_1 and so on; the last step has no course and
    repeats its picture there.
    """
    observation, between = _observation(columns), {}
    if picture_px is not None:
        picture = f.Image(shape=(picture_px, picture_px, 3), dtype=np.uint8, encoding_format="png")
        observation |= {"picture": picture, "picture_page": f.Scalar(np.int32)}
        if pictures > 1:  # names, because TFDS stores lists of pictures in steps only with TensorFlow
            shots = {f"picture_{i}": picture for i in range(1, pictures)}
            shots |= {f"page_{i}": f.Scalar(np.int32) for i in range(1, pictures)}
            between = {"between": f.FeaturesDict(shots)}
    step = {
        "observation": f.FeaturesDict(observation),
        "action": f.Tensor(shape=(5,), dtype=np.int32),
        "command": f.Text(),
        "events": f.Tensor(shape=(EVENTS, 3), dtype=np.int32),
        "terms": f.FeaturesDict({name: f.Scalar(np.float32) for name in TERMS}),
        "reward": f.Scalar(np.float32),
        "discount": f.Scalar(np.float32),
        "is_first": f.Scalar(np.bool_),
        "is_last": f.Scalar(np.bool_),
        "is_terminal": f.Scalar(np.bool_),
        **between,
    }
    return f.FeaturesDict({"steps": f.Dataset(step), "episode_metadata": f.FeaturesDict(METADATA)})


def signature(features) -> str:
    """Names, shapes and types of all features."""
    return repr(sorted(_flatten(features.get_tensor_info())))


def _flatten(tree, path: str = ""):
    if not isinstance(tree, dict):
        yield path, str(tree.shape), str(np.dtype(tree.np_dtype))
        return
    for name, branch in tree.items():
        yield from _flatten(branch, f"{path}/{name}")
