"""Windows that a pixel model drew, kept beside what was recorded, and how alike the two are."""

from pathlib import Path

import cv2
import numpy as np

from launch.shared import video
from wm.cosmos.scope import rollout
from wm.cosmos.scope.rollout import Window

SHOWN = 4  # windows in drawn.png and drawn.mp4
FILM_FPS = 4.0


class Film:
    """The pictures of some windows, drawn beside recorded."""

    def __init__(self, windows: list[Window]):
        self.windows, self.kept = windows, []

    def __call__(self, number: int, pictures: np.ndarray) -> None:
        """Keep picture `number` of the windows."""
        self.kept.append(pictures[: len(self.windows)])

    def true(self, index: int, number: int) -> np.ndarray:
        """What was recorded of a window, [H, W, 3]."""
        window = self.windows[index]
        return window.hour.palette[window.hour.pictures[window.start + 1 + number]]

    def save(self, folder: Path) -> None:
        """drawn.png: the first, fourth, tenth and last picture of the first windows, recorded above drawn;
        drawn.mp4: all of their pictures, recorded at the left, drawn at the right.
        """
        chosen = sorted({n for n in (0, 3, 9, len(self.kept) - 1) if n < len(self.kept)})
        strips, shown = [], range(min(SHOWN, len(self.windows)))
        for index in shown:
            strips.append(np.concatenate([self.true(index, n) for n in chosen], 1))
            strips.append(np.concatenate([self.kept[n][index] for n in chosen], 1))
        cv2.imwrite(str(folder / "drawn.png"), np.concatenate(strips)[..., ::-1])
        side = self.windows[0].hour.side
        with video.writer(folder / "drawn.mp4", side, 2 * side, FILM_FPS) as append:
            for index in shown:
                pairs = [(self.true(index, n), drawn[index]) for n, drawn in enumerate(self.kept)]
                append(np.stack([np.concatenate(pair, 1) for pair in pairs]))

    def likeness(self, count: int) -> dict[str, list[float]]:
        """PSNR (dB) and SSIM of the count-th drawn picture of every window, whole and around aircraft."""
        found: dict[str, list[float]] = {"psnr": [], "ssim": [], "psnr_aircraft": [], "ssim_aircraft": []}
        for index, window in enumerate(self.windows):
            true, drawn = self.true(index, count - 1), self.kept[count - 1][index]
            squares = np.square(true.astype(np.float32) - drawn).mean(-1)
            alike, near = ssim_map(true, drawn), np.zeros(squares.shape, bool)
            for place, _ in rollout.true_place(window.hour, window.start + count).values():
                column, row = np.round(place).astype(int)
                near[max(0, row - 48) : row + 16, max(0, column - 32) : column + 32] = True
            for name, where in (("", slice(None)), ("_aircraft", near)):
                if where is near and not near.any():
                    continue
                found[f"psnr{name}"].append(10 * np.log10(255.0**2 / max(squares[where].mean(), 1e-3)))
                found[f"ssim{name}"].append(alike[where].mean())
        return found


def ssim_map(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004) of the greys of two pictures uint8 at every pixel."""
    x, y = (picture.astype(np.float32).mean(-1) for picture in (one, other))
    blurred = lambda z: cv2.GaussianBlur(z, (11, 11), 1.5)  # noqa: E731
    mean_x, mean_y = blurred(x), blurred(y)
    varied_x, varied_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    shared = blurred(x * y) - mean_x * mean_y
    a, b = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_x * mean_y + a) * (2 * shared + b)
    return above / ((mean_x**2 + mean_y**2 + a) * (varied_x + varied_y + b))
