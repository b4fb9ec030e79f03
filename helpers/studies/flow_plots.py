"""Plot what only the notebook on the flow shows: parts of a score, quantities and ranks along the heat, densities."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from helpers.figures.rankings import set_names
from helpers.figures.style import look

FLAT = {"linewidth": 0}  # bars without an edge


def parts(ax: Axes, table: pd.DataFrame, columns: Mapping[str, str], *, times: float = 1000.0) -> None:
    """Stacked bars: what each condition's score is made of, with the 95 % interval of the score.

    Args:
        ax: where to draw.
        table: of `decomposition.split` or `decomposition.floor`: the name first, score, score_low, score_high.
        columns: parts that add up to the score, and their colours.
        times: factor on all of them, named by the caller's label.
    """
    places, left = np.arange(len(table)), np.zeros(len(table))
    for column, colour in columns.items():
        ax.barh(places, times * table[column], left=left, color=colour, label=column, height=0.7, **FLAT)
        left = left + times * table[column].to_numpy()
    ax.hlines(places, times * table.score_low, times * table.score_high, color="0.2", lw=0.8)
    set_names(ax, table.iloc[:, 0])


def intervals(ax: Axes, table: pd.DataFrame, column: str) -> None:
    """A dot and its 95 % interval for each line of a table, the first on top.

    Args:
        ax: where to draw.
        table: the name first, and `column`, `column`_low, `column`_high.
        column: what is drawn.
    """
    for place, line in enumerate(table.to_dict("records")):
        style = look(line[table.columns[0]])
        ax.plot([line[f"{column}_low"], line[f"{column}_high"]], [place, place], color=style["color"])
        ax.plot(line[column], place, **style, ls="none")
    set_names(ax, table.iloc[:, 0])


def along(ax: Axes, table: pd.DataFrame, names: Sequence[str], *, bands: Sequence[str] = ()) -> None:
    """Lines of a quantity along the heat, one for each condition.

    Args:
        ax: where to draw.
        table: index (heat, condition), columns value, low, high (of a 95 % interval) in this order.
        names: conditions to draw.
        bands: those whose interval is drawn; bands of seven conditions would hide each other.
    """
    for name in names:
        lines = table.xs(name, level=1).sort_index()
        heats, (value, low, high) = lines.index.to_numpy(float), lines.to_numpy(float).T
        ax.plot(heats, value, **look(name), ms=3, lw=0.9, label=name)
        if name in bands:
            ax.fill_between(heats, low, high, color=look(name)["color"], alpha=0.15, linewidth=0)


def rank_paths(ax: Axes, tables: Mapping[float, pd.DataFrame], names: Sequence[str]) -> None:
    """Rank of each condition at every heat, with its 95 % rank interval as a bar.

    Args:
        ax: where to draw; the heats stand at equal steps.
        tables: of `rankings.ranks` by heat, in the order of the axis.
        names: conditions, all in every table.
    """
    for k, name in enumerate(names):
        lines = pd.DataFrame([table.set_index(table.columns[0]).loc[name] for table in tables.values()])
        x = np.arange(len(tables)) + 0.1 * (k - (len(names) - 1) / 2)  # so that bars do not hide
        low, high = lines.rank_low.astype(float), lines.rank_high.astype(float)
        ax.vlines(x, low, high, color=look(name)["color"], lw=1.4)
        ax.plot(x, lines["rank"].astype(float), **look(name), ms=3, lw=0.7, label=name)
    ax.set_xticks(range(len(tables)), [f"{heat:g}" for heat in tables])
    ax.set_yticks(range(1, len(names) + 1))
    ax.set(xlabel="heat", ylim=(len(names) + 0.4, 0.6))


def crosses(ax: Axes, table: pd.DataFrame, *, labels: bool = False) -> None:
    """Two quantities of each condition against each other, both with intervals.

    Args:
        ax: where to draw.
        table: index condition, columns x, x_low, x_high, y, y_low, y_high.
        labels: also write the name left of each point.
    """
    for name, line in table.iterrows():
        style = look(name)
        ax.plot([line.x_low, line.x_high], [line.y, line.y], color=style["color"], lw=0.7)
        ax.plot([line.x, line.x], [line.y_low, line.y_high], color=style["color"], lw=0.7)
        ax.plot(line.x, line.y, **style, ls="none", label=name)
        if labels:
            where = {"xytext": (-5, 0), "textcoords": "offset points", "ha": "right", "va": "center_baseline"}
            ax.annotate(name, (line.x, line.y), **where, fontsize=6.5)


def densities(ax: Axes, values: Mapping[str, np.ndarray], *, end: float = 8.0) -> None:
    """Histograms as lines on a logarithmic axis, against N(0, 1).

    Args:
        ax: where to draw.
        values: samples by name.
        end: what lies beyond -end and end is counted in the outermost bins.
    """
    edges = np.linspace(-end, end, 65)
    for name, sample in values.items():
        density = np.histogram(sample.clip(-end, end), edges, density=True)[0]
        label = f"{name}, sd {sample.std():.2f}"
        ax.plot((edges[1:] + edges[:-1]) / 2, density, color=look(name)["color"], label=label)
    ax.plot(edges, np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi), color="0.2", ls="--", label="N(0, 1)")
    ax.set(yscale="log", ylim=(1e-5, 3))
