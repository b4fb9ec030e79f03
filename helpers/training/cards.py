"""What the cards of the embedded flows and of the face generator state, measured on images that were not trained on."""

from collections.abc import Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from helpers.degradations import DEGRADATIONS
from helpers.distortions import DISTORTIONS, psnr
from helpers.downscalers import DOWNSCALERS, bicubic
from helpers.generators import StyleGenerator
from helpers.images import quantize
from helpers.iqa import kid
from helpers.networks.compact_flow import CompactFlow
from helpers.runtime import seeded
from helpers.training.flow import dequantize
from helpers.upscalers import draw_latents, pulse

HEATS = (0.0, 0.6, 0.7, 0.8, 0.9, 1.0)
SPECKLE = 0.25  # of the range [0, 1]: a pixel further from the mean of the draws is speckle, or texture nobody can know


@torch.no_grad()
def quality(
    network: CompactFlow,
    images: Sequence[tuple[str, Tensor]],
    *,
    heat: float = 1.0,
    n_samples: int = 2,
    metrics: Sequence[str] = ("psnr", "ssim", "ms_ssim"),
    seed: int = 0,
) -> list[dict]:
    """Measure likelihood, consistency and distortions of a flow on bicubic LR images.

    Args:
        network: the flow, in eval mode.
        images: names and HR images in [0, 1], (1, 3, H, W).
        heat: standard deviation of the latents of the "heat" columns.
        n_samples: draws per image; the columns hold their mean.
        metrics: names in `DISTORTIONS`.
        seed: with the image's name, the key of noise and draws.

    Returns:
        A dict per image: bits_per_dimension (of the dequantized image), lr_psnr (dB, of the samples downscaled again
        against the LR image), and each metric at heat 0 ("psnr_0") and at `heat` ("psnr_heat"), and of bicubic
        interpolation ("psnr_bicubic").
    """
    rows = []
    for name, hr in images:
        hr = hr.to(next(network.parameters()))
        lr = bicubic(hr, network.scale)
        noisy = dequantize(hr, network.noise, seeded(seed, name, "dequantize"))
        row = {"image": name, "bits_per_dimension": network.encode(noisy, lr)[1].item()}
        generators = [seeded(seed, name, q) for q in range(n_samples)]
        samples = {
            "0": _draw(network, lr, generators[:1], 0.0),
            "heat": _draw(network, lr, generators, heat),  # the first goes on where heat 0 left its generator
            "bicubic": F.interpolate(lr, scale_factor=network.scale, mode="bicubic"),
        }
        for label, sr in samples.items():
            row |= {f"{metric}_{label}": DISTORTIONS[metric](quantize(sr), hr).mean().item() for metric in metrics}
        again = bicubic(quantize(samples["heat"]), network.scale)
        rows.append(row | {"lr_psnr": psnr(again, lr).mean().item()})
    return rows


@torch.no_grad()
def draws(
    network: CompactFlow,
    name: str,
    hr: Tensor,
    *,
    heats: Sequence[float] = HEATS,
    n_samples: int = 5,
    n_others: int = 2,
    n_speckle: int = 16,
    distortion: str = "lpips",
    seed: int = 0,
) -> dict[str, float]:
    """Measure the draws of a flow on the bicubic LR image of one photograph.

    Args:
        network: the flow, in eval mode.
        name: of the image; draw q takes the key (seed, name, q), as it does in `runs`.
        hr: HR image in [0, 1], (1, 3, H, W).
        heats: standard deviations of the latents, the same latents at each.
        n_samples: draws at heat 1.0 that D and LR consistency are means of.
        n_others: draws at each other heat; heat 0 is drawn once.
        n_speckle: draws at heat 1.0 of the speckle share, `n_samples` or more.
        distortion: D, a name in `DISTORTIONS`.

    Returns:
        D at each heat ("lpips_0.8") and of bicubic interpolation ("lpips_bicubic"); PSNR at heat 0 and of bicubic
        interpolation in dB; lr_psnr in dB, of draws at heat 1.0 downscaled again against the LR image; speckle, the
        share of pixels of the draws at heat 1.0 that lie further than `SPECKLE` from the mean of all of them in some
        channel, and speckle_hr, the share of the photograph's own pixels that do.

    Raises:
        ValueError: fewer draws of the speckle share than of D.
    """
    if n_speckle < n_samples:
        raise ValueError(f"n_speckle: expected n_samples, {n_samples}, or more, got {n_speckle}")
    hr, against = hr.to(next(network.parameters())), DISTORTIONS[distortion]
    lr = quantize(bicubic(hr, network.scale))
    plain = quantize(F.interpolate(lr, scale_factor=network.scale, mode="bicubic"))

    def drawn(heat: float, n: int) -> Tensor:
        return quantize(_draw(network, lr, [seeded(seed, name, q) for q in range(n)], heat))

    many, middle = drawn(1.0, n_speckle), drawn(0.0, 1)
    samples = {heat: {0.0: middle, 1.0: many[:n_samples]}.get(heat) for heat in heats}
    row = {
        f"{distortion}_{heat:g}": against(drawn(heat, n_others) if sr is None else sr, hr).mean().item()
        for heat, sr in samples.items()
    }
    far = [(each - many.mean(0)).abs().amax(1) > SPECKLE for each in (many, hr)]
    return row | {
        f"{distortion}_bicubic": against(plain, hr).item(),
        "psnr_0": psnr(middle, hr).item(),
        "psnr_bicubic": psnr(plain, hr).item(),
        "lr_psnr": psnr(bicubic(many[:n_samples], network.scale), lr).mean().item(),
        "speckle": far[0].double().mean().item(),
        "speckle_hr": far[1].double().mean().item(),
    }


@torch.no_grad()
def stability(
    network: CompactFlow,
    images: Sequence[tuple[str, Tensor]],
    *,
    heat: float = 1.0,
    n_samples: int = 2,
    degradations: Sequence[tuple[str, float]] = (),
    seed: int = 0,
) -> list[dict]:
    """Measure how stable a flow is on unfamiliar LR images: every downscaler's, and bicubic ones with each degradation.

    Args:
        network, images, heat, n_samples, seed: as in `quality`.
        degradations: pairs of name and level.

    Returns:
        A dict per condition: non_finite (share of samples with a NaN or an infinity) and largest (absolute value
        before clipping, over all samples).
    """
    conditions = {name: (function, None, None) for name, function in DOWNSCALERS.items()}
    conditions |= {f"{name} {level:g}": (bicubic, DEGRADATIONS[name], level) for name, level in degradations}
    rows = []
    for label, (downscale, degrade, level) in conditions.items():
        bad, largest = [], 0.0
        for name, hr in images:
            lr = quantize(downscale(hr.to(next(network.parameters())), network.scale))
            if degrade is not None:
                lr = quantize(degrade(lr, level, seeded(seed, name, "degradation")))
            sr = _draw(network, lr, [seeded(seed, name, q) for q in range(n_samples)], heat)
            bad += (~sr.isfinite().flatten(1).all(1)).tolist()
            largest = max(largest, sr.nan_to_num().abs().max().item())
        rows.append({"condition": label, "non_finite": sum(bad) / len(bad), "largest": largest})
    return rows


def _draw(network: CompactFlow, lr: Tensor, generators: Sequence[Generator], heat: float) -> Tensor:
    latents = draw_latents(network.latent_shapes(*lr.shape[-2:]), generators, heat)
    return network.sample(lr, [z.to(lr) for z in latents])


def inversion(
    network: StyleGenerator, images: Sequence[tuple[str, Tensor]], scale: int, *, n_samples: int = 3, seed: int = 0,
    **options,
) -> pd.DataFrame:  # fmt: skip
    """Measure how well the search in a generator answers bicubic LR images.

    Args:
        network: the generator.
        images: names and HR images in [0, 1], (1, 3, R, R).
        scale: s.
        n_samples: N_Q.
        seed: with the name and the sample's number, the key of a start.
        options: of `pulse.search`.

    Returns:
        A row per image: residual and lr_psnr (dB; of the samples against the LR image, means over samples), converged
        (share), psnr (dB, to the HR image), spread (between samples), psnr_bicubic (of interpolation).
    """
    rows = []
    for part in [images[at : at + 8] for at in range(0, len(images), 8)]:
        hr = torch.cat([image for _, image in part])
        lr = quantize(bicubic(hr, scale))
        starts = [seeded(seed, name, q) for name, _ in part for q in range(n_samples)]
        found = pulse.search(lr.repeat_interleave(n_samples, 0), network, starts, **options)
        each = zip(part, lr, found.sr.cpu().split(n_samples), found.residual.cpu().split(n_samples),
                   found.converged.cpu().split(n_samples), strict=True)  # fmt: skip
        for (name, image), low, sr, residual, converged in each:
            plain = F.interpolate(low[None], scale_factor=scale, mode="bicubic").clamp(0, 1)
            rows.append({
                "image": name, "residual": residual.mean().item(), "lr_psnr": (-10 * residual.log10()).mean().item(),
                "converged": converged.double().mean().item(), "psnr": psnr(sr, image).mean().item(),
                "spread": kid.spread(sr) if n_samples > 1 else float("nan"), "psnr_bicubic": psnr(plain, image).item(),
            })  # fmt: skip
    return pd.DataFrame(rows)
