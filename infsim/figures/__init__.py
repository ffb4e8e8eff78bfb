"""What it looks like: one function, one figure.

Each returns a `matplotlib.figure.Figure`; `save` writes it as PDF, PNG or SVG.
"""

from infsim.figures.latency import latency_cdf
from infsim.figures.nodes import node_timeline
from infsim.figures.overview import comparison
from infsim.figures.residuals import residuals
from infsim.figures.style import save
from infsim.figures.throughput import throughput_bars

__all__ = ["comparison", "latency_cdf", "node_timeline", "residuals", "save", "throughput_bars"]
