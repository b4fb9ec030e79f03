"""Set one style for all figures: sizes, colours and markers of the downscalers, names of the axes."""

from zlib import crc32

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

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
_PAIRS = ["irn", "tirn", "sain", "hyperthumbnail", "dlv_style", "hcd"]  # learned: dark colours
COLOURS |= dict(zip(_PAIRS, sns.color_palette("dark").as_hex()[:6], strict=True))
MARKERS |= dict(zip(_PAIRS, "*pHhd8", strict=True))
_KIN = {  # another convention of a downscaler: its colour, a marker of its own
    "bicubic": {"bicubic_float": "p", "matlab_bicubic": "h", "torch_bicubic": "8", "bicubic_linear": "*"},
    "bilinear": {"matlab_bilinear": "h", "torch_bilinear": "8", "bilinear_linear": "*"},
    "nearest": {"nearest_topleft": "8"},
    "box": {"box_linear": "*"},
    "hamming": {"hamming_linear": "*"},
    "lanczos": {"lanczos_linear": "*"},
}
for _plain, _markers in _KIN.items():
    COLOURS |= dict.fromkeys(_markers, COLOURS[_plain])
    MARKERS |= _markers
_OWN = ("#222222", "*o^sDvP")  # the reader's own: black
_METRICS = {"psnr": "PSNR (dB)", "ms_ssim": "MS-SSIM", "lpips_embedded": "lpips_embedded"}  # not LPIPS
LEVELS = {  # what the level of a degradation is
    "blur": "sigma (pixels)",
    "blur_full": "sigma (pixels)",
    "noise": "sigma (range 1)",
    "contrast": "contrast factor",
    "otsu": "thresholds",
    "jpeg": "quality",
    "jpeg_444": "quality",
    "webp": "quality",
    "avif": "quality",
    "lost_bits": "bits",
    "dithered": "bits that stay",
    "resized": "factor",
    "wide_gamut": "round trips",
}
STRENGTHS = LEVELS | {  # what `stats.detection.strength` makes of it, where that is another number
    "contrast": "|contrast factor \N{MINUS SIGN} 1|",
    "otsu": "grey levels per class",
    "jpeg": "101 \N{MINUS SIGN} quality",
    "mixed": "stages",
}


def use_style() -> None:
    """Set Matplotlib's defaults once a notebook: seaborn's colorblind colours, 7-8 pt text, embedded fonts.

    Sizes hold at print width (`size`), so nothing is scaled afterwards. Files have 300 dpi; pictures inside a notebook
    have 100 (the inline backend takes `figure.dpi`), which keeps it small. The backend is left alone: without a display
    Matplotlib takes Agg by itself.
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


def metric_label(table: pd.DataFrame) -> str:
    """The distortion of a table for an axis, with its unit: "PSNR (dB)", "1 - MS-SSIM"."""
    name = str(table.distortion.iloc[0])
    plain = name.removeprefix("1-")
    label = _METRICS.get(plain, plain.upper().replace("_", "-"))
    return f"1 \N{MINUS SIGN} {label}" if name != plain else label


def shorten(name: object, longest: int = 18) -> str:
    """Cut a label to `longest` characters; a path or a command keeps its end."""
    text = f"{name:g}" if isinstance(name, float) else str(name)
    return text if len(text) <= longest else "\N{HORIZONTAL ELLIPSIS}" + text[1 - longest :]
