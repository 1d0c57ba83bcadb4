"""A picture of how busy a job's nodes and GPUs were, drawn by matplotlib."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ...pictures import new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .history import Course

_NAMED_NODES = 10
"""More nodes' lines are drawn without a name each."""


def draw_courses(courses: Sequence[Course], title: str, path: str) -> None:
    """Draw one panel for each measure, with a line for each node and a thick one for their mean, to a PNG or SVG file.

    Raises:
        SlurmFsxError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    measures = list(dict.fromkeys(course.measure for course in courses))
    figure = new_figure(9, 1 + 2 * len(measures))
    panels = figure.subplots(len(measures), 1, sharex=True, squeeze=False)[:, 0]
    for panel, measure in zip(panels, measures):
        own = [course for course in courses if course.measure == measure]
        names = len(own) - 1 <= _NAMED_NODES
        for course in sorted(own, key=lambda each: not each.node):
            style = (
                {"linewidth": 1, "alpha": 0.6, "label": course.node if names else None}
                if course.node
                else {"linewidth": 2.5, "color": "black", "label": "mean of the nodes" if len(own) > 1 else None}
            )
            times = [datetime.fromtimestamp(when).astimezone() for when, _ in course.points]
            # A single point makes no line.
            marker = "o" if len(times) == 1 else None
            panel.plot(times, [value for _, value in course.points], marker=marker, markersize=4, **style)
        panel.set_ylabel(f"{measure.name} in {measure.unit}")
        # A line at 100 % is not to vanish in the frame.
        panel.set_ylim(bottom=0, top=1.05 * measure.top if measure.top else None)
        panel.grid(visible=True, alpha=0.3)
        if panel is panels[0] and len(own) > 1:
            # Above the panels, which all have the same lines.
            panel.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize="small", ncol=6, frameon=False)
    # The title holds a user's words: matplotlib would take what stands between two $ for a formula.
    figure.suptitle(title.replace("$", r"\$"))
    panels[-1].tick_params(axis="x", rotation=30)  # not autofmt_xdate, which moves what the layout has placed
    figure.savefig(path)
