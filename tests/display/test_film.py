"""Films: each frame against the picture drawn afresh, colours of the GIF, and what ffmpeg is given."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.display import COLOURS, DynamicsDisplay
from cvxnn.display._film import frames_of
from cvxnn.landscape import dynamics

X = np.column_stack([np.linspace(-1.0, 1.0, 6), np.ones(6)])
DPI = 50.0


def display() -> DynamicsDisplay:
    problem = Problem(X, [0.0, 0.5, 0.1, 0.7, 0.2, 1.0], beta=0.01)
    run = dynamics(problem, width=30, scale=0.5, steps=40, step_size=0.02, record=10, optima_every=2)
    return DynamicsDisplay.from_dynamics(run)


def of_labels() -> DynamicsDisplay:
    problem = Problem(np.vander(np.arange(12.0) / 6.0, 4), np.arange(12) % 3, beta=0.1, loss="softmax")
    return DynamicsDisplay.from_dynamics(dynamics(problem, width=8, steps=40, record=10))


@pytest.mark.parametrize("make", [display, of_labels])
def test_frames_are_the_pictures_drawn_afresh(make):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    film = make().plot(record=0)
    frame = frames_of(film.figure_, film._show, 5, DPI)
    for k in (0, 3, 1):
        whole = make().plot(record=k)
        whole.figure_.set_dpi(DPI)
        canvas = FigureCanvasAgg(whole.figure_)
        canvas.draw()
        # The layout of the film is that of its first frame.
        for ours, theirs in zip(whole.figure_.axes, film.figure_.axes, strict=True):
            ours.set_position(theirs.get_position())
        whole.figure_.set_layout_engine(None)
        canvas.draw()
        np.testing.assert_array_equal(frame(k), np.asarray(canvas.buffer_rgba())[:, :, :3])
    with pytest.raises(IndexError):
        frame(5)


@pytest.mark.parametrize(("option", "least"), [("fps", 0.01), ("dpi", 10.0)])
def test_least_rate_and_size_are_written_and_less_is_refused(option, least, tmp_path):
    path = tmp_path / "film.gif"
    with pytest.raises(ValueError, match=f"{option} must be "):
        display().save(path, **{"dpi": DPI, option: 0.9 * least})
    assert not path.exists()
    assert display().save(path, **{"dpi": DPI, option: least}).stat().st_size > 0


def test_gif_has_our_colours_and_plays_at_the_rate(tmp_path):
    from PIL import Image

    shown = display().plot()
    before = [line.get_animated() for axes in shown.axes_ for line in axes.lines]
    path = shown.save(tmp_path / "film.gif", fps=5.0, dpi=DPI)
    with Image.open(path) as film:
        assert film.n_frames == 5 and film.size == (500, 360)
        film.seek(4)
        assert film.info["duration"] == 200 and film.info["loop"] == 0
        seen = {"#{:02X}{:02X}{:02X}".format(*pixel) for _, pixel in film.convert("RGB").getcolors(1 << 20)}
    wanted = {COLOURS[name] for name in ("network", "descent", "optimum", "data", "negative")}
    assert wanted | {"#FFFFFF"} <= seen
    # The picture that was drawn before the film is as it was.
    assert [line.get_animated() for axes in shown.axes_ for line in axes.lines] == before == [False] * len(before)


def fake_ffmpeg(folder, monkeypatch, body: str) -> None:
    """Put a program named ffmpeg before all others."""
    program = folder / "ffmpeg"
    program.write_text(f"#!{sys.executable}\nimport sys\n{body}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_mp4_pipes_every_frame_into_ffmpeg(tmp_path, monkeypatch):
    fake_ffmpeg(tmp_path, monkeypatch, "open(sys.argv[-1], 'wb').write(sys.stdin.buffer.read())")
    shown = display()
    pixels = np.fromfile(shown.save(tmp_path / "film.mp4", dpi=DPI), dtype=np.uint8).reshape(5, 360, 500, 3)
    again = shown.plot(record=0)
    frame = frames_of(again.figure_, again._show, 5, DPI)
    np.testing.assert_array_equal(pixels, [frame(k) for k in range(5)])


@pytest.mark.parametrize("reads", ["sys.stdin.buffer.read()", ""])
def test_a_failure_of_ffmpeg_is_told_in_its_words(tmp_path, monkeypatch, reads):
    fake_ffmpeg(tmp_path, monkeypatch, f"{reads}\nsys.exit('no codec for mp4')")
    with pytest.raises(RuntimeError, match=r"ffmpeg could not write film\.mp4: no codec for mp4"):
        display().save(tmp_path / "film.mp4", dpi=DPI)


@pytest.mark.parametrize("found", [True] if shutil.which("ffmpeg") or find_spec("imageio_ffmpeg") else [])
def test_mp4_by_the_ffmpeg_at_hand(tmp_path, found):
    from cvxnn.display._film import _ffmpeg

    path = display().save(tmp_path / "film.mp4", dpi=DPI)
    assert path.read_bytes()[4:8] == b"ftyp"
    # Decoded again, it has as many frames of that size.
    command = [str(_ffmpeg()), "-loglevel", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    assert len(subprocess.run(command, check=True, capture_output=True).stdout) == 5 * 360 * 500 * 3


def test_mp4_without_ffmpeg_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("cvxnn.display._film.importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"MP4 needs the program ffmpeg .* use to_html\.$"):
        display().save(tmp_path / "film.mp4")
