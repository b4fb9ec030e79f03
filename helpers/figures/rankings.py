"""Numbers to axes: one style, one colour per downscaler, and the plots that two or more notebooks draw."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from zlib import crc32

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from helpers.images import check_images
from helpers.stats import rankings

# Inches: one column, whole text width.
WIDTHS = {"cvpr": (3.25, 6.875), "ieee": (3.5, 7.16), "elsevier": (3.54, 7.48), "lncs": (4.8, 4.8)}
WIDTHS["neurips"] = (5.5, 5.5)
_NAMES = [
    "bicubic",
    "dpid",
    "bilinear",
    "perceptual",
    "lanczos",
    "l0",
    "box",
    "nearest",
    "hamming",
    "l0_smooth",
]
COLOURS = dict(zip(_NAMES, sns.color_palette("colorblind").as_hex(), strict=True))
MARKERS = dict(zip(COLOURS, "osD^vP<X>d", strict=True))
_KIN = {  # another convention of a downscaler: its colour, a marker of its own
    "bicubic": {"bicubic_float": "p", "matlab_bicubic": "h", "torch_bicubic": "8"},
    "bilinear": {"matlab_bilinear": "h", "torch_bilinear": "8"},
    "nearest": {"nearest_topleft": "8"},
}
for _plain, _markers in _KIN.items():
    COLOURS |= dict.fromkeys(_markers, COLOURS[_plain])
    MARKERS |= _markers
_OWN = ("#222222", "*o^sDvP")  # the reader's own: black
_METRICS = {"psnr": "PSNR (dB)", "ms_ssim": "MS-SSIM", "lpips_embedded": "lpips_embedded"}  # not LPIPS
_LEVELS = {
    "blur": "sigma (pixels)",
    "blur_full": "sigma (pixels)",
    "noise": "sigma (range 1)",
    "contrast": "contrast factor",
    "otsu": "thresholds",
    "jpeg": "quality",
}


def use_style() -> None:
    """Set Matplotlib's defaults once a notebook: seaborn's colorblind colours, 7-8 pt text, embedded fonts.

    Sizes hold at print width (`size`), so nothing is scaled afterwards. The backend is left alone: without a
    display Matplotlib takes Agg by itself.
    """
    sns.set_theme(style="ticks", palette="colorblind", font="DejaVu Sans")
    text = dict.fromkeys(["xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize"], 7)
    text |= dict.fromkeys(["font.size", "axes.labelsize", "axes.titlesize", "figure.titlesize"], 8)
    lines = {"lines.linewidth": 1.2, "lines.markersize": 4.5, "axes.linewidth": 0.6, "grid.linewidth": 0.4}
    ticks = {f"{axis}tick.major.{what}": x for axis in "xy" for what, x in (("width", 0.6), ("size", 2.5))}
    files = {"pdf.fonttype": 42, "ps.fonttype": 42, "savefig.dpi": 300, "figure.dpi": 100}
    shape = {"figure.constrained_layout.use": True, "axes.spines.top": False, "axes.spines.right": False}
    plt.rcParams.update(text | lines | ticks | files | shape | {"image.interpolation": "nearest"})


def size(columns: int = 1, aspect: float = 0.62, venue: str = "cvpr") -> tuple[float, float]:
    """Figure size in inches: the venue's width for 1 or 2 columns, and `aspect` times that as height.

    Raises:
        ValueError: unknown venue, or another number of columns.
    """
    if venue not in WIDTHS or columns not in (1, 2):
        raise ValueError(f"expected a venue of {list(WIDTHS)} and 1 or 2 columns, got {venue!r} and {columns!r}")
    width = WIDTHS[venue][columns - 1]
    return width, aspect * width


def look(name: str) -> dict[str, str]:
    """Colour and marker of a method, the same in every figure; unknown names (the reader's own) are black.

    Returns:
        {"color": ..., "marker": ...}, to be passed on to Matplotlib.
    """
    colour, markers = _OWN
    return {
        "color": COLOURS.get(name, colour),
        "marker": MARKERS.get(name, markers[crc32(str(name).encode()) % len(markers)]),
    }


def save(fig: Figure, name: str, figures_dir: str | Path = "../figures") -> tuple[Path, Path]:
    """Write `name`.pdf and `name`.png (300 dpi) without a date: an unchanged figure is an unchanged file.

    Args:
        fig: the figure; its size is kept (nothing is cropped), so text has the size it was given.
        name: for example "00_ranking": notebook number and content.
        figures_dir: folder; made if it is not there.

    Returns:
        The two paths.

    Raises:
        ValueError: `name` holds more than letters, digits, "_" and "-".
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"expected a name of letters, digits, '_' and '-', got {name!r}")
    folder = Path(figures_dir)
    folder.mkdir(parents=True, exist_ok=True)
    pdf, png = folder / f"{name}.pdf", folder / f"{name}.png"
    fig.savefig(pdf, dpi=300, metadata=dict.fromkeys(["CreationDate", "Creator", "Producer"]))
    fig.savefig(png, dpi=300, metadata={"Software": None})
    return pdf, png


def plot_ranking(
    ax: Axes, scores_table: pd.DataFrame, paired_table: pd.DataFrame | None = None, alpha: float = 0.05
) -> None:
    """Scores as dots with 95 % intervals, the best on top, the value beside each.

    Args:
        ax: where to draw.
        scores_table: of `rankings.scores`.
        paired_table: of `rankings.paired`. All pairs: bars on the right join neighbours between which no
            difference was shown. Against a baseline: a hollow dot shows none to the baseline.
        alpha: level for the Holm-adjusted p.
    """
    table = scores_table.sort_values("rank", kind="stable")
    names, places = list(table.iloc[:, 0]), np.arange(len(table))
    apart = {}
    if paired_table is not None:
        apart = {frozenset(pair): p < alpha for *pair, p in paired_table[["f", "g", "p_holm"]].to_numpy()}
    all_pairs = len(apart) == len(names) * (len(names) - 1) // 2 > len(names) - 1
    baseline = paired_table.g.iloc[0] if apart and not all_pairs else None
    for place, name, line in zip(places, names, table.itertuples(), strict=True):
        hollow = baseline is not None and name != baseline and not apart.get(frozenset((name, baseline)), False)
        _dot(ax, name, line.mean, line.low, line.high, place, hollow)
    lanes = _lanes(_groups(names, apart)) if all_pairs else []
    to_axes = ax.get_yaxis_transform()
    for lane, (first, last) in ((k, run) for k, runs in enumerate(lanes) for run in runs):
        x = 1.02 + 0.025 * lane
        ax.plot([x, x], [first - 0.25, last + 0.25], color="0.35", lw=1.6, transform=to_axes, clip_on=False)
    for place, mean in zip(places, table["mean"], strict=True):
        _beside(ax, 1.03 + 0.025 * len(lanes), place, f"{mean:.3f}")
    what = [f"IDA-RD, {_metric(table)}, {_direction(table)} is better", _interval(table)]
    if lanes:
        what.append(f"bars: Holm p \N{GREATER-THAN OR EQUAL TO} {alpha:g} for each pair")
    elif baseline is not None:
        what.append(f"hollow: Holm p \N{GREATER-THAN OR EQUAL TO} {alpha:g} against {_short(baseline, 12)}")
    ax.set_xlabel("\n".join(what))
    _rows(ax, names)


def plot_paired(ax: Axes, paired_table: pd.DataFrame, alpha: float = 0.05) -> None:
    """Forest plot of paired differences with 95 % intervals; a hollow dot: no difference shown.

    Args:
        ax: where to draw.
        paired_table: of `rankings.paired`, best read with a baseline.
        alpha: level for the Holm-adjusted p.
    """
    better = paired_table.difference * np.where(paired_table.lower_is_better, 1, -1)
    table = paired_table.loc[better.sort_values(kind="stable").index]
    one = table.g.nunique() == 1
    for place, line in enumerate(table.itertuples()):
        _dot(ax, line.f, line.difference, line.low, line.high, place, not line.p_holm < alpha)
        p = "< 0.001" if line.p_holm < 0.001 else f"= {line.p_holm:.3f}"
        _beside(ax, 1.03, place, line.note or f"{line.difference:+.3f}, p {p}".replace("-", "\N{MINUS SIGN}"))
    ax.axvline(0, color="0.35", lw=0.8, zorder=1.5)
    versus = f" to {_short(table.g.iloc[0], 12)}" if one else ""
    what = [f"difference{versus}", f"{_metric(table)}, {_direction(table)} is better", _interval(table)]
    what.append(f"p: Wilcoxon, Holm over {table.family.iloc[0]}")
    if (~(table.p_holm < alpha)).any():
        what[-1] += f"; hollow: p \N{GREATER-THAN OR EQUAL TO} {alpha:g}"
    ax.set_xlabel("\n".join(what))
    _rows(
        ax,
        list(table.f)
        if one
        else [f"{_short(f, 12)} \N{MINUS SIGN} {_short(g, 12)}" for f, g in zip(table.f, table.g, strict=True)],
    )


def plot_ranks(ax: Axes, tables: Mapping[str, pd.DataFrame]) -> None:
    """Rank of each method under several conditions, such as scales or image sets, with 95 % rank intervals.

    A vertical bar is the interval: bars of two methods that overlap say that resampled images swap them. Lines only
    lead the eye from one condition to the next; the names stand in the order of the last one.

    Args:
        ax: where to draw.
        tables: of `rankings.ranks` by the name of the condition, left to right, all with the same methods.

    Raises:
        ValueError: no table, or tables of different methods.
    """
    places = {title: table.set_index(table.columns[0]) for title, table in tables.items()}
    if not places or len({frozenset(table.index) for table in places.values()}) != 1:
        raise ValueError(f"expected tables of the same methods, got {[list(table.index) for table in places.values()]}")
    order = list(list(places.values())[-1].sort_values("rank", kind="stable").index)
    aside = 0.6 * (np.arange(len(order)) / max(len(order) - 1, 1) - 0.5)  # so that intervals do not hide
    for k, name in enumerate(order):
        style, x = look(name), np.arange(len(places)) + aside[k]
        lines = [table.loc[name] for table in places.values()]
        for at, line in zip(x, lines, strict=True):
            ax.plot([at, at], [line.rank_low, line.rank_high], color=style["color"], lw=2, solid_capstyle="butt")
        ax.plot(x, [line["rank"] for line in lines], **style, lw=0.5)
        ax.text(
            1.02, k + 1, _short(name), transform=ax.get_yaxis_transform(), va="center", fontsize=7, color=style["color"]
        )
    labels = [f"{title}\n{table.n.iloc[0]} images" for title, table in places.items()]
    ax.set_xticks(range(len(places)), labels)
    ax.set_yticks(range(1, len(order) + 1))
    ax.set(xlim=(-0.5, len(places) - 0.5), ylim=(len(order) + 0.4, 0.6), ylabel="rank, 1 is best\n(bar: 95 % interval)")
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)


def plot_monotonicity(axes: Axes | Sequence[Axes], rows: pd.DataFrame, by: str = "downscaler") -> None:
    """Score against level with 95 % intervals: a panel for each degradation, a line for each downscaler.

    Contrast above and below 1 are two questions and two panels. Each title carries Spearman's rho.

    Args:
        axes: as many as there are panels, in order of name (`degradation_panels(rows)` counts them).
        rows: one row per draw; those without a degradation are ignored.
        by: what the lines are.

    Raises:
        ValueError: another number of axes than of panels.
    """
    panels_of, axes = degradation_panels(rows), np.ravel(axes)
    if len(axes) != len(panels_of):
        raise ValueError(f"expected {len(panels_of)} axes for {list(panels_of)}, got {len(axes)}")
    for ax, (title, part) in zip(axes, panels_of.items(), strict=True):
        rho = rankings.monotonicity(part, part.degradation.iloc[0], by).spearman
        for k, (name, lines) in enumerate(part.groupby(by)):
            table = rankings.scores(lines, "level").sort_values("level")
            ends = np.nan_to_num(np.abs(table[["low", "high"]].to_numpy().T - table["mean"].to_numpy()))
            aside = 0.02 * np.ptp(table.level) * (k - (part[by].nunique() - 1) / 2)  # so that intervals do not hide
            ax.errorbar(table.level + aside, table["mean"], ends, **look(name), label=_short(name), capsize=1.5)
        span = f"{rho.min():.2g}" if rho.min() == rho.max() else f"{rho.min():.2g} to {rho.max():.2g}"
        ax.set_title(f"{title}\n$\\rho$ = {span}".replace("-", "\N{MINUS SIGN}"))
        ax.margins(x=0.12)
        ax.set_xlabel(_LEVELS.get(part.degradation.iloc[0], "level"))
        ax.set_xticks(sorted(part.level.unique()))
        ax.set_xticklabels([f"{level:g}" for level in sorted(part.level.unique())])
        if ax.get_subplotspec() is None or ax.get_subplotspec().is_first_col():
            ax.set_ylabel(f"IDA-RD, {_metric(table)},\n{_direction(table)} is better")
    if rows[by].nunique() > 1:
        handles, labels = max((ax.get_legend_handles_labels() for ax in axes), key=lambda pair: len(pair[1]))
        columns = max(1, int(axes[0].figure.get_figwidth() / 0.9))
        axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def degradation_panels(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each panel of `plot_monotonicity`, by title; contrast is split at 1.

    Raises:
        ValueError: no row has a degradation with two or more levels on one side.
    """
    panels_of = {}
    for name, part in rows[rows.degradation.fillna("") != ""].groupby("degradation"):
        sides = {f"{name} decrease": part.level < 1, f"{name} increase": part.level > 1}
        for title, chosen in sides.items() if name == "contrast" else [(name, part.level.notna())]:
            if part.level[chosen].nunique() > 1:
                panels_of[title] = part[chosen]
    if not panels_of:
        raise ValueError("expected rows with two or more levels of a degradation, got none")
    return panels_of


def panels(
    images: Sequence[Tensor],
    titles: Sequence[str],
    *,
    scores: Sequence[float | str | None] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    overview: bool = True,
    columns: int = 4,
    width: float = WIDTHS["cvpr"][1],
) -> Figure:
    """Images side by side: one crop, one range, nearest neighbour (pixels stay squares).

    Args:
        images: (1, 3, H, W) in [0, 1] each; other sizes (LR) are shown at the size of the first.
        titles: one above each.
        scores: one in the corner of each; numbers get three decimals, None leaves it empty.
        crop: (top, left, height, width) in pixels of the first image; None shows all of it.
        overview: with a crop, first show the whole first image with the crop marked.
        columns: panels in a line.
        width: of the figure, in inches.

    Raises:
        ValueError: no such images; as many titles and scores are expected; the crop leaves the image.
    """
    scores = [None] * len(images) if scores is None else scores
    if not len(images) == len(titles) == len(scores) or not images:
        raise ValueError(
            f"expected as many titles and scores as images, got {len(images)}, {len(titles)}, {len(scores)}"
        )
    for title, image in zip(titles, images, strict=True):
        check_images(image, name=title)
    height, breadth = images[0].shape[-2:]
    top, left, tall, wide = box = (0, 0, height, breadth) if crop is None else crop
    if min(box) < 0 or min(tall, wide) < 1 or top + tall > height or left + wide > breadth:
        raise ValueError(f"expected a crop (top, left, height, width) inside {height}x{breadth}, got {crop}")
    shown = [(image, title, score, box) for image, title, score in zip(images, titles, scores, strict=True)]
    if crop is not None and overview:
        shown.insert(0, (images[0], f"{titles[0]}, whole", None, (0, 0, height, breadth)))
    fig, axes = _grid(len(shown), columns, width, tall / wide)
    for ax, (image, title, score, (y, x, h, w)) in zip(axes, shown, strict=True):
        ax.imshow(image[0].permute(1, 2, 0).cpu().numpy(), extent=(0, breadth, height, 0), vmin=0, vmax=1)
        ax.set(xlim=(x, x + w), ylim=(y + h, y))
        _title(ax, title)
        _corner(ax, score)
    if crop is not None and overview:
        axes[0].add_patch(Rectangle((left, top), wide, tall, fill=False, edgecolor="yellow", linewidth=1))
    return fig


def difference_maps(
    hr: Tensor,
    sr: Mapping[str, Tensor],
    *,
    scores: Mapping[str, float | str] | None = None,
    columns: int = 4,
    width: float = WIDTHS["cvpr"][1],
) -> Figure:
    """Where each method loses: |x^ - x| averaged over draws and channels, in 8-bit levels, one scale for all.

    The scale ends at the 99.5th percentile over all maps, so that one bright pixel does not darken the rest;
    the title carries the mean of each map.

    Args:
        hr: the HR image, (1, 3, H, W) in [0, 1].
        sr: draws of the same height and width for each name, (Q, 3, H, W).
        scores: what stands in the corner of a map, by name; numbers get three decimals.
        columns: panels in a line.
        width: of the figure, in inches.

    Raises:
        ValueError: no such images, another height or width, or scores of other names.
    """
    check_images(hr)
    for name, image in sr.items():
        check_images(image, name=name)
        if image.shape[1:] != hr.shape[1:]:
            raise ValueError(f"{name}: expected shape (Q, *{tuple(hr.shape[1:])}), got {tuple(image.shape)}")
    if not sr:
        raise ValueError("expected one SR image or more, got none")
    if scores is not None and set(scores) != set(sr):
        raise ValueError(f"expected a score for each of {list(sr)}, got {list(scores)}")
    maps = {name: 255 * (draws.cpu() - hr.cpu()).abs().mean((0, 1)).numpy() for name, draws in sr.items()}
    top = max(float(np.quantile(list(maps.values()), 0.995)), 1e-3)
    fig, axes = _grid(len(maps), columns, width, hr.shape[-2] / hr.shape[-1], beside=0.55, lines_of_title=2)
    for ax, (name, values) in zip(axes, maps.items(), strict=True):
        shown = ax.imshow(values, cmap="magma", vmin=0, vmax=top)
        _title(ax, name, f"mean {values.mean():.1f}")
        _corner(ax, scores[name] if scores else None)
    bar = fig.colorbar(shown, ax=axes, extend="max", fraction=0.04, aspect=30, pad=0.01)
    bar.set_label("|SR \N{MINUS SIGN} HR| (of 255)", fontsize=7)
    return fig


def _dot(ax: Axes, name: str, mean: float, low: float, high: float, place: int, hollow: bool) -> None:
    style = look(name)
    ax.plot([low, high], [place, place], color=style["color"])  # NaN ends draw nothing
    ax.plot(mean, place, **style, markerfacecolor="white" if hollow else style["color"], linestyle="none")


def _rows(ax: Axes, names: Sequence[str]) -> None:
    """One line of the plot for each name, the first on top."""
    ax.set_yticks(range(len(names)), [_short(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="0.85")
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)


def _beside(ax: Axes, x: float, place: int, text: str) -> None:
    """Small text right of the axes, on one line of the plot."""
    ax.text(x, place, text, transform=ax.get_yaxis_transform(), va="center_baseline", ha="left", fontsize=7)


def _groups(names: Sequence[str], apart: Mapping[frozenset, bool]) -> list[tuple[int, int]]:
    """Longest runs of neighbours in which no pair is told apart; runs of one are left out."""
    runs = []
    for first in range(len(names)):
        last = first
        while last + 1 < len(names) and not any(
            apart[frozenset((f, names[last + 1]))] for f in names[first : last + 1]
        ):
            last += 1
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs


def _lanes(runs: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Runs side by side only where they overlap."""
    lanes = []
    for run in runs:
        free = next((lane for lane in lanes if lane[-1][1] < run[0]), None)
        if free is None:
            lanes.append(free := [])
        free.append(run)
    return lanes


def _grid(
    n: int, columns: int, width: float, aspect: float, *, beside: float = 0, lines_of_title: int = 1
) -> tuple[Figure, np.ndarray]:
    """n axes without ticks, at most `columns` in a line; `beside` inches stay free on the right."""
    lines = -(-n // columns)
    columns = -(-n // lines)
    height = lines * ((width - beside) / columns * aspect + 0.08 + 0.14 * lines_of_title)
    fig = plt.figure(figsize=(width, height), layout="constrained")
    fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    axes = np.array([fig.add_subplot(lines, columns, k + 1) for k in range(n)])
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return fig, axes


def _title(ax: Axes, name: str, second: str = "") -> None:
    """A title no wider than its panel."""
    longest = int(ax.figure.get_figwidth() / ax.get_subplotspec().get_gridspec().ncols * 12)
    ax.set_title(f"{_short(name, longest)}\n{second}" if second else _short(name, longest), pad=3)


def _corner(ax: Axes, score: float | str | None) -> None:
    """A score in the lower left corner of a panel, three decimals unless it is text; None leaves it empty."""
    if score is None:
        return
    where = {"xy": (0, 0), "xycoords": "axes fraction", "xytext": (3, 3.5), "textcoords": "offset points"}
    back = {"facecolor": "black", "alpha": 0.7, "pad": 1.5, "linewidth": 0}
    ax.annotate(score if isinstance(score, str) else f"{score:.3f}", **where, color="white", fontsize=7, bbox=back)


def _metric(table: pd.DataFrame) -> str:
    name = str(table.distortion.iloc[0])
    plain = name.removeprefix("1-")
    label = _METRICS.get(plain, plain.upper().replace("_", "-"))
    return f"1 \N{MINUS SIGN} {label}" if name != plain else label


def _direction(table: pd.DataFrame) -> str:
    return "lower" if table.lower_is_better.iloc[0] else "higher"


def _interval(table: pd.DataFrame) -> str:
    n = f"{table.n.min()}" if table.n.nunique() == 1 else f"{table.n.min()} to {table.n.max()}"
    few = ", indicative" if table.interval.str.contains("indicative").any() else ""
    return f"95 % interval, {n} images{few}"


def _short(name: object, longest: int = 18) -> str:
    """A label that fits: a path or a command keeps its end."""
    text = f"{name:g}" if isinstance(name, float) else str(name)
    return text if len(text) <= longest else "\N{HORIZONTAL ELLIPSIS}" + text[1 - longest :]
