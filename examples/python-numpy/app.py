"""Fits a straight line to points with numpy."""

import numpy


def handler(event, context):
    points = numpy.array(event.get("points", [[0, 1], [1, 3], [2, 5]]), dtype=float)
    slope, offset = numpy.polyfit(points[:, 0], points[:, 1], 1)
    return {"numpy": numpy.__version__, "slope": round(float(slope), 6), "offset": round(float(offset), 6)}
