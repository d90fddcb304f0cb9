"""Charts as SVG that stands in the page itself and takes the page's own colours and letters."""

import html
import io
import re
from collections.abc import Callable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#010203"  # stands for the page's text colour, which an SVG cannot know
# Legible on white and on black; told apart without colour by dashes and by marks.
LINES = (("-", "#3d7fc4"), ("--", "#c9711a"), (":", "#2c9c78"), ("-.", "#b065b5"))
MARKS = ("o", "s", "^", "D")
GROUP_ID = re.compile(r'(?<=<g) id="(?!line-)[^"]*"')  # the same in every chart, and used by none
INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
STYLE = {**dict.fromkeys(INKED, INK), "svg.fonttype": "none", "font.size": 9}


def to_svg(
    draw: Callable[[Axes], None], title: str, words: str, size: tuple[float, float] = (3.5, 2.3)
) -> str:
    """Returns what `draw` puts on axes of `size` inches, named and described for who cannot see it.

    No two charts of a page may have one title: it keeps their ids apart.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": title}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(buffer, format="svg", metadata=NO_METADATA, transparent=True)
    drawn = buffer.getvalue().partition("<svg")[2]  # without the XML prologue
    start, _, rest = GROUP_ID.sub("", drawn).replace(INK, "currentColor").partition(">")
    name = f"<title>{html.escape(title)}</title><desc>{html.escape(words)}</desc>"
    return f'<svg role="img"{start}>{name}{rest}'
