"""Fit two distributions with generators that no two-layer discriminator tells from the data, and show them.

Run with ``python examples/gan_demo.py``. With matplotlib installed the pictures are written to ``demo_output/``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from cvxnn import gan

OUT = Path(__file__).resolve().parent.parent / "demo_output"
SHARES = (0.001, 0.01, 0.1)


def mixture(n_samples: int = 60) -> np.ndarray:
    """Three clusters in the plane."""
    rng = np.random.default_rng(0)
    angles = 2.0 * np.pi * (np.arange(n_samples) % 3) / 3.0
    centres = 2.0 * np.column_stack([np.cos(angles), np.sin(angles)])
    return centres + 0.25 * rng.standard_normal((n_samples, 2))


def digits() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Images of digits, their mean, and images drawn from closed-form generators of falling detail."""
    images = load_digits().data / 16.0
    mean = images.mean(axis=0)
    X = images - mean
    largest = float(np.linalg.norm(X, 2)) ** 2
    drawn = []
    rng = np.random.default_rng(1)
    code = rng.standard_normal((8, X.shape[1]))
    print(f"digits ({len(X)} x {X.shape[1]}), quadratic discriminator")
    for share in SHARES:
        # The factor (S^2 - beta)_+^(1/2) V^T turns white codes into samples of the matched second moment.
        generator = gan.quadratic_generator(X, share * largest)
        factor = np.linalg.svd(generator.samples, full_matrices=False)
        moments = factor[1][:, None] * factor[2] / np.sqrt(len(X))
        drawn.append(mean + code @ moments)
        rank = int(np.sum(factor[1] > 1e-9 * factor[1][0]))
        print(
            f"  beta_d = {share:5.1%} of the largest moment: {rank:2d} of {X.shape[1]} directions, "
            f"norm^2 {generator.objective:9.1f}, proved least to {generator.gap:.0e}, "
            f"constraint holds: {generator.discriminator.constraint_holds}"
        )
    return images, mean, drawn


def plane() -> tuple[np.ndarray, list[tuple[float, gan.Generator]]]:
    """Three clusters, and generators against a ReLU discriminator of growing penalty."""
    X = mixture()
    found = []
    print(f"three clusters ({len(X)} x 2), ReLU discriminator")
    for beta_d in (0.5, 5.0, 20.0):
        generator = gan.relu_generator(X, beta_d, tol=1e-3, time_limit=60.0)
        found.append((beta_d, generator))
        print(
            f"  beta_d = {beta_d:4.1f}: norm^2 {generator.objective:7.2f} (data {np.sum(X**2):.2f}, "
            f"every generator at least {generator.lower_bound:.2f}), {generator.status.value}; "
            f"the best discriminator sees at most {generator.discriminator.upper:.4f}"
        )
    return X, found


def draw(images: np.ndarray, drawn: list[np.ndarray], X: np.ndarray, found: list[tuple[float, gan.Generator]]) -> None:
    """Write one picture for each distribution, where matplotlib is installed."""
    try:
        import matplotlib
    except ImportError:
        print("Pictures need matplotlib: pip install cvxnn[plot]")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    OUT.mkdir(exist_ok=True)
    figure, axes = pyplot.subplots(1 + len(drawn), 8, figsize=(8, 4.6))
    titles = ["data", *(f"beta_d {share:.1%}" for share in SHARES)]
    for row, rows, title in zip(axes, [images[:8], *drawn], titles, strict=True):
        for axis, image in zip(row, rows, strict=True):
            axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0.0, vmax=1.0)
            axis.set_axis_off()
        row[0].set_title(title, loc="left", fontsize=9)
    figure.tight_layout()
    figure.savefig(OUT / "gan_digits.png", dpi=120)

    figure, axes = pyplot.subplots(1, len(found), figsize=(9, 3.2), sharex=True, sharey=True)
    for axis, (beta_d, generator) in zip(axes, found, strict=True):
        axis.scatter(*X.T, s=10, color="0.6", label="data")
        axis.scatter(*generator.samples.T, s=14, marker="x", label="generator")
        axis.set_title(f"beta_d = {beta_d:g}", fontsize=9)
        axis.set_aspect("equal")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(OUT / "gan_plane.png", dpi=120)
    print(f"Pictures: {OUT / 'gan_digits.png'}, {OUT / 'gan_plane.png'}")


def main() -> None:
    """Fit, print and draw."""
    images, _, drawn = digits()
    X, found = plane()
    draw(images, drawn, X, found)


if __name__ == "__main__":
    main()
