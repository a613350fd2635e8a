"""Curves of several seeds as a table and a picture."""

import numpy as np

from multimodal.world.pretraining_gain import COLOURS, Curve, plot, table

ERRORS = {"random": [(1.0, 0.8), (0.9, 0.6)], "BEST-RQ": [(0.9, 0.3), (0.7, 0.5)]}
CURVES = [
    Curve(start=start, seed=seed, steps=(40, 80), errors=errors)
    for start, runs in ERRORS.items()
    for seed, errors in enumerate(runs)
]


def test_the_table_has_mean_and_deviation():
    lines = table(CURVES).splitlines()
    assert lines[0] == "| step | random | BEST-RQ |"
    for line, index, step in ((lines[2], 0, 40), (lines[3], 1, 80)):
        cells = [str(step)]
        for runs in ERRORS.values():
            found = [errors[index] for errors in runs]
            cells.append(f"{np.mean(found):.3f} ± {np.std(found, ddof=1):.3f}")
        assert line == "| " + " | ".join(cells) + " |"


def test_lower_errors_lie_lower_in_the_picture():
    pixels = np.asarray(plot(CURVES))
    heights = {}
    for start, colour in COLOURS.items():
        rows, columns = np.nonzero((pixels == colour).all(axis=-1))
        drawn = rows[(columns > 600) & (rows > 80)]  # the ends of the curves, not the legend
        assert len(drawn)
        heights[start] = drawn.mean()
    assert heights["BEST-RQ"] > heights["random"]
