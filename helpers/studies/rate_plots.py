"""Plot D over bits: curves of downscalers beside no downscaling, differences at equal bits, heat and rate at once."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from helpers.figures import look
from helpers.studies.rate_axis import WHOLE

_WHOLE = {"color": "0.25", "ls": "--"}


def curves(ax: Axes, found: pd.DataFrame, names: Sequence[str], *, decibels: bool = False) -> None:
    """Mean D over mean rate of each downscaler, a mark for each quality; no downscaling is dashed.

    Args:
        ax: where to draw.
        found: points of one codec and D, and of one reader; those of `WHOLE` may be among them.
        names: downscalers.
        decibels: draw squared errors as PSNR.
    """
    for name in [*names, WHOLE]:
        part = found[found.downscaler == name].groupby("quality")[["rate", "value"]].mean()
        if len(part):
            style = _WHOLE if name == WHOLE else look(name) | {"ms": 3, "ls": "-"}
            value = -10 * np.log10(part.value) if decibels else part.value
            ax.plot(part.rate, value, **style, lw=1, label=name)
    log_rate(ax)


def codecs(ax: Axes, found: pd.DataFrame, *, decibels: bool = False) -> None:
    """Mean D over mean rate of each codec of the whole picture, a mark for each quality or level.

    Args:
        ax: where to draw.
        found: points of `WHOLE` and one D, of several codecs.
        decibels: draw squared errors as PSNR.
    """
    for k, (name, part) in enumerate(found.groupby("codec", sort=False)):
        part = part.groupby("quality")[["rate", "value"]].mean()
        value = -10 * np.log10(part.value) if decibels else part.value
        ax.plot(part.rate, value, "s--" if name.startswith("beta") else "o-", color=f"C{k}", ms=3, lw=1, label=name)
    log_rate(ax)


def log_rate(ax: Axes) -> None:
    """A logarithmic axis of bits per HR pixel with plain numbers."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ticks = [tick for tick in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10) if low <= tick <= high]
    ax.set_xticks(ticks)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("bits per HR pixel")


def differences(ax: Axes, tables: Mapping[str, pd.DataFrame]) -> None:
    """Differences of D at equal rates with 95 % intervals: below zero the first curve is the better one.

    Args:
        ax: where to draw.
        tables: what is compared -> table of `rate_axis.gain`.
    """
    for k, (name, table) in enumerate(tables.items()):
        ax.plot(table.rate, table.value, color=f"C{k}", lw=1.2, label=name)
        ax.fill_between(table.rate, table.low, table.high, color=f"C{k}", alpha=0.15, lw=0)
    ax.axhline(0, color="0.35", lw=0.8)
    log_rate(ax)


def realism(ax: Axes, curve: pd.DataFrame, distortion: str, style: str, label: str) -> None:
    """KID over D of answers on one way, in its order; the ends are named, bars are the intervals of KID.

    Args:
        ax: where to draw.
        curve: index kind, a heat or a text; columns `distortion`, value, low, high. Nothing is drawn of none.
        distortion: a column.
        style, label: of the line.
    """
    if not len(curve):
        return
    ax.plot(curve[distortion], curve.value, style, ms=3.5, lw=1, label=label)
    ax.vlines(curve[distortion], curve.low, curve.high, color="0.8", lw=0.8, zorder=0)
    names = [name if isinstance(name, str) else f"heat {name:g}" for name in curve.index[[0, -1]]]
    ends = curve[[distortion, "value"]].to_numpy()[[0, -1]]
    if np.allclose(*ends, rtol=0.25):  # one mark on the other
        names, ends = [f"{names[0]} to {names[1].split()[-1]}"], ends[:1]
    for name, at in zip(names, ends, strict=True):
        ax.annotate(name, at, xytext=(4, 6), textcoords="offset points", fontsize=7)
    ax.locator_params(axis="x", nbins=5)


def surface(ax: Axes, table: pd.DataFrame, value: str, colour: str, label: str) -> None:
    """Rate, distortion and realism at once: a line of marks for each heat, coloured by realism.

    Args:
        ax: where to draw.
        table: columns heat, rate, `value`, `colour`; a line a heat and quality.
        value, colour: columns of the height and of the colour.
        label: of the colour bar.
    """
    for heat, part in table.groupby("heat"):
        part = part.sort_values("rate")
        ax.plot(part.rate, part[value], color="0.8", lw=0.8, zorder=1)
        end = part.iloc[-1]
        ax.annotate(
            f"{heat:g}", (end.rate, end[value]), xytext=(5, 0), textcoords="offset points", va="center", fontsize=6
        )
    marks = ax.scatter(table.rate, table[value], c=table[colour], cmap="viridis", s=16, zorder=2)
    ax.figure.colorbar(marks, ax=ax, label=label, pad=0.08)
    log_rate(ax)
