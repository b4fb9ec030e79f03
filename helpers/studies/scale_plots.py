"""Figures of notebook 13: seconds by size, what an image's seconds go to, and the store by number of rows."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

PER_ROW = {"fill": "written", "read": "read", "plan": "planned, all there", "plan_new": "planned, none there",
           "score": "scored"}  # fmt: skip
_MARKERS = "osD^vP<X>d*h"


def by_size(ax: Axes, table: pd.DataFrame, systems: list[tuple[str, int]]) -> None:
    """CPU seconds of one draw over the HR side, both logarithmic, a line for each upscaler and scale.

    Args:
        ax: where to draw.
        table: columns upscaler, scale, weights, side, cpu_per_draw.
        systems: upscaler and scale of all that any panel shows; the place decides on colour and marker.
    """
    for (name, scale), part in table.groupby(["upscaler", "scale"], sort=False):
        part, k = part.sort_values("side"), systems.index((name, scale))
        fresh = ", fresh weights" * (part.weights.iloc[0] == "fresh")
        how = {"marker": _MARKERS[k % len(_MARKERS)], "color": f"C{k}", "linestyle": "--" if fresh else "-"}
        ax.plot(part.side, part.cpu_per_draw, label=f"{name} x{scale}{fresh}", **how)
    ax.set(xscale="log", yscale="log", xlabel="HR side (pixels)", ylabel="CPU seconds per draw")
    sides = sorted(table.side.unique())
    ax.set_xticks(sides, map(str, sides))
    ax.minorticks_off()


def shares(ax: Axes, costs: Mapping[str, pd.Series]) -> None:
    """What the CPU seconds of one image go to: a stacked bar for each setting.

    Args:
        ax: where to draw.
        costs: name of a setting -> seconds by part.
    """
    table = pd.DataFrame(costs).T
    left = pd.Series(0.0, table.index)
    for part in table:
        share = table[part] / table.sum(axis=1)
        ax.barh(table.index, share, left=left, label=part)
        left += share
    ax.set(xlabel="share of an image's CPU seconds", xlim=(0, 1))
    ax.invert_yaxis()


def per_row(axes: tuple[Axes, Axes], table: pd.DataFrame) -> None:
    """Microseconds of CPU and bytes of memory a row, over the number of rows; hollow marks are of this run.

    Args:
        axes: of seconds, and of memory.
        table: columns step, rows, cpu, megabytes, here (bool).
    """
    for k, (step, name) in enumerate(PER_ROW.items()):
        part = table[table.step == step].sort_values("rows")
        for here, own in part.groupby("here"):
            how = {"marker": _MARKERS[k], "color": f"C{k}", "markerfacecolor": "white" if here else f"C{k}"}
            how |= {"linestyle": "none" if here else "-", "label": None if here and len(part) > len(own) else name}
            axes[0].plot(own.rows, 1e6 * own.cpu / own.rows, **how)
            axes[1].plot(own.rows, own.megabytes.clip(lower=1) * 2**20 / own.rows, **how)
    for ax, what in zip(axes, ("CPU microseconds a row", "memory, bytes a row"), strict=True):
        ax.set(xscale="log", yscale="log", xlabel="rows", ylabel=what)
