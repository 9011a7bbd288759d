"""Films: the still part of a figure is drawn once, and each frame adds what moves; GIF by Pillow, MP4 by ffmpeg."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn.display._style import COLOURS

ByteArray = npt.NDArray[np.uint8]

__all__ = ["LEAST_DPI", "LEAST_RATE", "film_kind", "frames_of", "write_film"]

LEAST_RATE, LEAST_DPI = 0.01, 10.0
"""A frame of a GIF lasts eleven minutes at most, and below so many pixels per inch there are no letters."""

_SHADES = 12
"""Steps from each colour to white, for the smooth edges of lines and what is half transparent."""


def film_kind(path: Path) -> str:
    """Ending of a film, ``".gif"`` or ``".mp4"``; refuses others, and MP4 without ffmpeg."""
    kind = path.suffix.lower()
    if kind not in (".gif", ".mp4"):
        raise ValueError(f"path must end in .gif or .mp4 (or use to_html); got {path.name!r}.")
    if kind == ".mp4" and _ffmpeg() is None:
        raise RuntimeError(
            "MP4 needs the program ffmpeg (or the package imageio-ffmpeg, which brings it), and neither was found; "
            "save as .gif, or use to_html."
        )
    return kind


def frames_of(figure: Any, show: Callable[[int], Iterable[Any]], count: int, dpi: float) -> Callable[[int], ByteArray]:
    """Make a function that draws frame k of a figure as pixels ``(height, width, 3)``.

    Parameters
    ----------
    figure : matplotlib Figure
        Drawn once with its layout, which is then kept.
    show : callable
        ``show(k)`` moves what depends on the frame and returns these artists.
    count : int
        Number of frames.
    dpi : float
        Pixels per inch.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    # The layout is found once: solving it again takes most of the time of a frame.
    canvas.draw()
    figure.set_layout_engine(None)
    above = _drawn_above(figure, list(show(0)))
    for artist in above:
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)

    def frame(k: int) -> ByteArray:
        if not 0 <= k < count:
            raise IndexError(k)
        show(k)
        canvas.restore_region(still)
        for artist in above:
            artist.axes.draw_artist(artist)
        return np.array(canvas.buffer_rgba())[:, :, :3]

    return frame


def _drawn_above(figure: Any, moving: list[Any]) -> list[Any]:
    """Artists that move and those of their axes that lie over them, in the order of drawing."""
    above = []
    for axes in figure.axes:
        own = [artist.get_zorder() for artist in moving if artist.axes is axes]
        if own:
            # The legend stands outside of the axes, where nothing moves.
            parts = [part for part in axes.get_children() if part not in (axes.patch, axes.get_legend())]
            over = [part for part in parts if part.get_zorder() >= min(own) and part.get_visible()]
            above += sorted(over, key=lambda part: part.get_zorder())
    return above


def write_film(path: Path, frame: Callable[[int], ByteArray], count: int, fps: float) -> None:
    """Write ``count`` frames as the ending of the path says."""
    if film_kind(path) == ".gif":
        _write_gif(path, frame, count, fps)
    else:
        _write_mp4(path, frame, count, fps)


def _write_gif(path: Path, frame: Callable[[int], ByteArray], count: int, fps: float) -> None:
    from PIL import Image

    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette().ravel().tolist())

    def images() -> Iterator[Image.Image]:
        for k in range(count):
            yield Image.fromarray(frame(k)).quantize(palette=palette, dither=Image.Dither.NONE)

    pictures = images()
    first = next(pictures)
    duration = max(round(1000.0 / fps), 1)
    # Optimised: pixels that stay are left out.
    first.save(path, format="GIF", save_all=True, append_images=pictures, duration=duration, loop=0, optimize=True)


def _palette() -> ByteArray:
    """Red, green and blue of our colours, of black, and of their shades up to white, ``(k, 3)``.

    One palette for all frames: to find one for each takes longer than to draw it, and the colours would flicker.
    """
    pure = ["#000000", *COLOURS.values()]
    colours = np.array([[int(text[k : k + 2], 16) for k in (1, 3, 5)] for text in pure], dtype=np.float64)
    part = np.linspace(0.0, 1.0, _SHADES + 1)[:, None, None]
    shades = np.round(255.0 + part * (colours - 255.0)).astype(np.uint8)
    return np.unique(shades.reshape(-1, 3), axis=0)


def _write_mp4(path: Path, frame: Callable[[int], ByteArray], count: int, fps: float) -> None:
    height, width = frame(0).shape[:2]
    command = [
        *(str(_ffmpeg()), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width}x{height}", "-r", f"{fps:.6g}", "-i", "-"),
        # Players want even sizes and this layout of the colours.
        *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white", "-pix_fmt", "yuv420p", str(path)),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stdin is not None
    try:
        for k in range(count):
            process.stdin.write(frame(k).tobytes())
        _, message = process.communicate()
    except BrokenPipeError:
        _, message = process.communicate()
    except BaseException:
        process.kill()
        process.communicate()
        raise
    if process.returncode != 0:
        last = message.decode(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"ffmpeg could not write {path.name}: {''.join(last) or 'it gave no reason'}")


def _ffmpeg() -> str | None:
    """Program ffmpeg of the system, or that of the package imageio-ffmpeg; None without either."""
    found = shutil.which("ffmpeg")
    if found is None and importlib.util.find_spec("imageio_ffmpeg") is not None:
        return importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    return found
