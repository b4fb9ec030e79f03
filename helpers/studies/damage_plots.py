"""Plot what notebook 03 shows: damaged LR images, rises of the score, ranks by upscaler, steps of the factor."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from helpers import figures
from helpers.figures.rankings import set_names
from helpers.stats import findings
from helpers.studies import damage

LOOKS = {
    damage.FLOW: {"color": "#0173b2", "marker": "o"},
    damage.STILL: {"color": "#56b4e9", "marker": "s"},
    damage.CONTROL: {"color": "#de8f05", "marker": "^"},
}
SHADES = ("#222222", "#56b4e9", "#0173b2", "#01406b", "#de8f05", "#029e73", "#cc78bc", "#ca9161")
MARKERS = "oD^vsPX*"


def sheet(rows: Mapping[str, Sequence[tuple[str, Tensor, float | None]]], width: float = 6.875) -> Figure:
    """Lines of pictures with a name on the left of each line.

    Args:
        rows: name of the line -> (title, image of shape (1, 3, H, W), number in the corner or None).
        width: in inches.
    """
    columns = max(map(len, rows.values()))
    fig, axes = plt.subplots(
        len(rows), columns, figsize=(width, (width / columns + 0.16) * len(rows)), layout="constrained", squeeze=False
    )
    fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for ax, (title, image, score) in zip(line, pictures, strict=False):
            ax.imshow(figures.to_pixels(image))
            ax.set_title(title, fontsize=7, pad=2)
            if score is not None:
                back = {"facecolor": "black", "alpha": 0.7, "pad": 1.5, "linewidth": 0}
                ax.text(0.03, 0.04, f"{score:.3f}", transform=ax.transAxes, color="white", fontsize=7, bbox=back)
        line[0].set_ylabel(name, fontsize=7)
    return fig


def rises(table: pd.DataFrame, *, percent: bool = False) -> Figure:
    """Rise of the score against the strength of each type of damage; levels that change no image are left out.

    Args:
        table: of `damage.rises`.
        percent: as in `figures.plot_detection`.
    """
    table = table[~table.identical.groupby([table.type, table.level]).transform("all")]
    table = table.sort_values("f_us", key=lambda names: names.map(list(LOOKS).index), kind="stable")
    types = list(dict.fromkeys(table.sort_index().type))
    lines = -(-len(types) // 3)
    fig, axes = plt.subplots(lines, 3, figsize=figures.size(2, 0.29 * lines), layout="constrained", squeeze=False)
    for ax, title in zip(axes.flat, types, strict=False):
        figures.plot_detection(ax, table[table.type == title], "f_us", LOOKS, percent=percent)
        ax.set_title(title)
        ax.minorticks_off()
    for ax in axes.flat[len(types) :]:
        ax.remove()
    unit = "% of S without damage" if percent else f"D = {_label(table)}"
    for ax in axes[:, 0]:
        ax.set_ylabel(f"rise of the score\n({unit})")
    handles = [plt.Line2D([], [], **LOOKS[f_us], label=f_us) for f_us in dict.fromkeys(table.f_us)]
    hollow = {"marker": "o", "ls": "none", "markerfacecolor": "white", "label": "hollow: interval reaches 0"}
    handles.append(plt.Line2D([], [], color="0.3", **hollow))
    title = f"mean and 95 % interval, {table.n.max()} photographs, paired"
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, title=title)
    return fig


def ranks(places: Mapping[str, pd.DataFrame], taus: Mapping[tuple[str, str], float]) -> Figure:
    """Ranks of the downscalers under each upscaler and D: a column that repeats the paper falls from top to bottom.

    Args:
        places: D -> names x upscalers, of `damage.places`, names in the paper's order, most lost first.
        taus: (upscaler, D) -> Kendall's tau to that order.
    """
    names = list(next(iter(places.values())).index)
    columns = [(f_us, d) for f_us in LOOKS for d in places if f_us in places[d]]
    table = np.array([[places[d].loc[name, f_us] for f_us, d in columns] for name in names])
    fig, ax = plt.subplots(figsize=figures.size(2, 0.4), layout="constrained")
    ax.imshow(table, cmap="RdYlBu_r", aspect="auto", vmin=-0.5, vmax=len(names) + 1.5)
    for (row, column), rank in np.ndenumerate(table):
        ax.text(column, row, f"{rank:g}", ha="center", va="center", fontsize=8)
    labels = [f"{_short(d)}\n$\\tau$ {taus[f_us, d]:.2f}" for f_us, d in columns]
    ax.set_xticks(range(len(columns)), labels, fontsize=6.5)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylabel("paper's order,\nmost lost on top")
    for f_us in dict.fromkeys(f_us for f_us, _ in columns):
        at = [k for k, column in enumerate(columns) if column[0] == f_us]
        ax.axvline(at[-1] + 0.5, color="white", lw=4)
        ax.text(np.mean(at), -0.65, f"{f_us} (1 loses least)", ha="center", va="bottom")
    return fig


def twice(pairs: Mapping[str, tuple[pd.Series, pd.Series]], label: str) -> Figure:
    """Rise of the score by damage before and after downscaling, side by side.

    Args:
        pairs: of `damage.twice`.
        label: what D is called.
    """
    fig, ax = plt.subplots(figsize=figures.size(1, 1.15), layout="constrained")
    for k, (when, colour, marker) in enumerate((("before", "#de8f05", "D"), ("after", "#0173b2", "o"))):
        values = [findings.mean(both[k]) for both in pairs.values()]
        _spans(ax, values, np.arange(len(values)) + 0.3 * k - 0.15, colour, marker, f"{when} downscaling")
    set_names(ax, list(pairs))
    ax.axvline(0, color="0.6", lw=0.8, zorder=0)
    ax.set_xlabel(f"rise of the score (D = {label})\n95 % interval, {values[0].n} photographs")
    ax.legend(loc="lower right", frameon=False)
    return fig


def conditions(tables: Mapping[str, pd.DataFrame], label: str) -> Figure:
    """Scores of the mix and of BSRGAN's settings, one mark an upscaler.

    Args:
        tables: upscaler -> photographs x damage, of `damage.conditions`.
        label: what D is called.
    """
    fig, ax = plt.subplots(figsize=figures.size(1, 0.85), layout="constrained")
    for k, (f_us, table) in enumerate(tables.items()):
        values = [findings.mean(table[name]) for name in table]
        places = np.arange(len(values)) + 0.3 * k - 0.15
        _spans(ax, values, places, LOOKS[f_us]["color"], LOOKS[f_us]["marker"], f_us)
    told = {
        "mix 1": "contrast and blur",
        "mix 2": "... and noise",
        "mix 3": "... and quantised",
        damage.NONE: "no damage",
    }
    set_names(ax, [told.get(name, f"BSRGAN {name}") for name in table])
    ax.set_xlabel(f"IDA-RD, {label}, lower is better\n95 % interval, {values[0].n} photographs")
    fig.legend(loc="outside lower center", ncols=2, frameon=False)
    return fig


def factors(tables: Mapping[str, pd.DataFrame], label: str) -> Figure:
    """Scores along the scaling factor, a panel an upscaler, a line a damage.

    Args:
        tables: upscaler -> photographs x (damage, factor), of `damage.by_factor`.
        label: what D is called.
    """
    fig, axes = plt.subplots(
        1, len(tables), figsize=figures.size(2, 0.4), sharey=True, layout="constrained", squeeze=False
    )
    for ax, (f_us, table) in zip(axes.flat, tables.items(), strict=True):
        kinds = list(dict.fromkeys(table.columns.get_level_values(0)))
        kinds.sort(key=lambda name: (name != damage.NONE, name))
        for k, name in enumerate(kinds):
            values = pd.DataFrame(
                {s: findings.mean(table[name, s]) for s in table[name]}, index=findings.Quantity._fields
            ).T
            at = np.arange(len(values)) + 0.06 * (k - (len(kinds) - 1) / 2)
            ends = np.nan_to_num(np.abs(values[["low", "high"]].to_numpy().T - values.value.to_numpy()))
            ax.errorbar(at, values.value, ends, color=SHADES[k], marker=MARKERS[k], ms=3.5, lw=1, label=name)
        ax.set(title=f_us, xlabel="scaling factor")
        ax.set_xticks(range(len(values)), [f"x{s}" for s in values.index])
    axes[0, 0].set_ylabel(f"IDA-RD, {label},\nlower is better")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    title = f"95 % interval, {values.n.iloc[0]:.0f} photographs"
    fig.legend(handles, labels, loc="outside lower center", ncols=len(kinds), frameon=False, title=title)
    return fig


def _spans(
    ax: Axes, values: Sequence[findings.Quantity], places: np.ndarray, colour: str, marker: str, label: str
) -> None:
    """A mark and its 95 % interval for each value."""
    ax.hlines(places, [each.low for each in values], [each.high for each in values], color=colour, lw=1)
    ax.plot([each.value for each in values], places, color=colour, marker=marker, ms=3.5, ls="none", label=label)


def _label(table: pd.DataFrame) -> str:
    return figures.style.metric_label(table)


def _short(metric: str) -> str:
    """What D is called, in narrow lines."""
    name = figures.style.metric_label(pd.DataFrame({"distortion": [metric]}))
    return name.replace("_", "\n").replace(" \N{MINUS SIGN} ", " \N{MINUS SIGN}\n")
