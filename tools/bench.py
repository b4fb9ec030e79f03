"""`python -m tools.bench`: N_Q samples of one LR image and their distortions, against a plain loop.

Ours is `srflow.Sampler`, with the reference features of the distortion computed once per HR image; the other
one full pass of the network and one of LPIPS per sample (`tests/plain_srflow.py`). Same weights, same latents,
outputs compared. Then the search of `upscalers.pulse`, all starts as one batch, against the official manner, one
start after the other; and the embedded flow in bf16 against float32, with a check of its scores. On a CPU one core
is used and CPU seconds are compared, since other programs disturb them less than wall time; on CUDA wall seconds.
The last lines read `speedup NAME VALUE`.
"""

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from helpers import datasets, distortions, generators
from helpers.downscalers import DOWNSCALERS
from helpers.images import quantize
from helpers.networks import srflow, srflow_layers, stylegan
from helpers.runtime import pick_device, seeded
from helpers.upscalers import UPSCALERS, pulse
from tests.plain_srflow import fill, plain_features

SIDES = {"df2k_4x": 64, "celeba_8x": 32}  # of the LR image; HR 256
HEAT = 0.5
CHECKED = ["bicubic", "dpid", "box", "nearest"]  # downscalers whose order bf16 must leave as it is
FACES = {"pulse_64": ((64, 512, 128), 40), "pulse_64_official_widths": ((64, 8192, 512), 2)}  # network, steps
TOLERANCE = 2e-4, 1e-4  # of SR values (up to 6 here) and distortions; float32 noise of the plain loop: 1.5e-5


def setting(name: str, side: int, n_samples: int, device: torch.device) -> tuple:
    """Network filled by rule, LR image, HR image, latents."""
    network = fill(srflow.build(name))
    lr = torch.rand(1, 3, side, side, generator=seeded("lr"))
    hr = torch.rand(1, 3, side * network.scale, side * network.scale, generator=seeded("hr"))
    shapes = network.latent_shapes(side, side)
    latents = [HEAT * torch.randn(n_samples, *shape, generator=seeded("z", *shape)) for shape in shapes]
    return network.to(device), lr.to(device), hr.to(device), [latent.to(device) for latent in latents]


def lpips_network(device: torch.device) -> nn.Module:
    """LPIPS-Alex with a random trunk of fixed seed: the same arithmetic, and nothing to download."""
    import lpips

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips 0.1.4 passes torchvision's old argument
        torch.manual_seed(0)
        return lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).to(device)


def now(device: torch.device) -> float:
    """CPU seconds of the process; on CUDA wall seconds, all work finished."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def timed(parts: dict[str, float], part: str, device: torch.device, function: Callable) -> Callable:
    """`function`, its seconds added to `parts[part]`."""

    def wrapper(*args, **kwargs):
        start = now(device)
        result = function(*args, **kwargs)
        parts[part] += now(device) - start
        return result

    return wrapper


@torch.no_grad()
def ours(sampler, lr, hr, latents, lpips, parts) -> tuple[Tensor, Tensor]:
    """SR images and distortions of all samples; seconds go to `parts`."""
    features, distance = distortions.perceptual.FEATURES["lpips"]
    clock = partial(timed, parts, device=lr.device)
    for method, part in (("encode", "encoder"), ("condition", "features"), ("couple", "couplings")):
        setattr(sampler, method, clock(part, function=getattr(type(sampler), method).__get__(sampler)))
    sr = sampler(lr, latents)
    reference = clock("distortion", function=features)(lpips, hr)
    samples = clock("distortion", function=features)(lpips, sr.clamp(0, 1))
    return sr, clock("distortion", function=distance)(lpips, samples, reference)


@torch.no_grad()
def plain(network, lr, hr, latents, lpips, parts) -> tuple[Tensor, Tensor]:
    """The same, one full pass after the other."""
    clock, images, values = partial(timed, parts, device=lr.device), [], []
    nets = [module.fFeatures for module in network.modules() if isinstance(module, srflow_layers.Coupling)]
    for net in nets:
        net.forward = clock("features", function=type(net).forward.__get__(net))
    for q in range(len(latents[0])):
        maps = clock("encoder", function=plain_features)(network, lr)
        images.append(network.flowUpsamplerNet.decode([latent[q : q + 1] for latent in latents], maps)[0])
        value = clock("distortion", function=lpips)(2 * hr - 1, 2 * images[-1].clamp(0, 1) - 1)
        values.append(value.flatten())
    for net in nets:
        del net.forward
    return torch.cat(images), torch.cat(values)


def measure(run: Callable, device: torch.device) -> tuple[dict[str, float], tuple[Tensor, Tensor]]:
    """Seconds by part of `run(parts=...)`, "total" and "wall" among them, and what it returned."""
    parts, start, wall = defaultdict(float), now(device), time.perf_counter()
    results = run(parts=parts)
    parts["total"], parts["wall"] = now(device) - start, time.perf_counter() - wall
    parts["couplings"] = parts["total"] - parts["encoder"] - parts["features"] - parts["distortion"]
    return parts, results


def compare(name, network, lr, hr, latents, *, repeats: int = 3, plain_repeats: int = 1) -> float:
    """Print times of both ways for one LR image and return their ratio.

    Raises:
        SystemExit: the outputs differ by more than float noise.
    """
    device, lpips, sampler = lr.device, lpips_network(lr.device), srflow.Sampler(network)
    fold = now(device)
    sampler.fold()
    fold = now(device) - fold
    fast = partial(ours, sampler, lr, hr, latents, lpips)
    slow = partial(plain, network, lr, hr, latents, lpips)
    with FlopCounterMode(display=False) as counter:  # and warm up
        fast(parts=defaultdict(float))
    runs = {"plain loop": [], "ours": []}
    for i in range(max(repeats, plain_repeats)):  # in turns, so that other load on the machine hits both
        if i < repeats:
            seconds, (sr, values) = measure(fast, device)
            runs["ours"].append(seconds)
        if i < plain_repeats:
            seconds, (plain_sr, plain_values) = measure(slow, device)
            runs["plain loop"].append(seconds)
    differences = (sr - plain_sr).abs().max().item(), (values - plain_values).abs().max().item()
    unit = "wall s" if device.type == "cuda" else "CPU s"
    n = len(latents[0])
    print(f"\n{name}: {lr.shape[2]}x{lr.shape[3]} to {hr.shape[2]}x{hr.shape[3]}, N_Q = {n}, {device}")
    print(f"{unit:12}{'encoder':>10}{'features':>10}{'couplings':>10}{'distortion':>11}{'total':>9}{'wall':>9}")
    medians = {}
    for way, times in runs.items():
        row = {part: statistics.median(t[part] for t in times) for part in times[0]}
        medians[way] = row["total"]
        print(
            f"{way:12}{row['encoder']:10.3f}{row['features']:10.3f}{row['couplings']:10.3f}"
            f"{row['distortion']:11.3f}{row['total']:9.3f}{row['wall']:9.3f}   median of {len(times)}"
        )
    gflop = counter.get_total_flops() / 1e9
    print(f"once per model: folding the weights {fold:.2f} s")
    print(f"largest difference: SR {differences[0]:.1e} (values up to {plain_sr.abs().max():.1f}), ", end="")
    print(f"distortion {differences[1]:.1e} (values up to {plain_values.max():.2f})")
    rate, peak = gflop / medians["ours"], matmul_rate(device)
    print(f"ours: {n / medians['ours']:.2f} SR images/s, {gflop:.0f} GFLOP at {rate:.0f} GFLOP/s, ", end="")
    print(f"{rate / peak:.0%} of this machine's float32 matrix product ({peak:.0f} GFLOP/s)")
    if not (differences[0] <= TOLERANCE[0] and differences[1] <= TOLERANCE[1]):
        raise SystemExit(f"{name}: outputs differ by more than {TOLERANCE}")
    return medians["plain loop"] / medians["ours"]


def plain_synthesis(state: dict[str, Tensor], styles: Tensor, noise: list[Tensor]) -> Tensor:
    """StyleGAN as PULSE's stylegan.py runs it below 128x128: weights scaled on every pass, pixels repeated."""
    layers, x = len(noise), state["blocks.4x4.const"].expand(len(styles), -1, -1, -1)
    x = x + state["blocks.4x4.bias"].view(1, -1, 1, 1)
    for layer in range(layers):
        side = 2 ** (layer // 2 + 2)
        block, epilogue = f"blocks.{side}x{side}", f"blocks.{side}x{side}.epi{layer % 2 + 1}"
        name = f"{block}.conv0_up" if layer % 2 == 0 else f"{block}.conv" if side == 4 else f"{block}.conv1"
        if layer:
            weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
            weight = weight * (2 / weight[0].numel()) ** 0.5
        if layer and layer % 2 == 0:
            n, channels, height, width = x.shape
            x = x.view(n, channels, height, 1, width, 1).expand(-1, -1, -1, 2, -1, 2).contiguous()
            x = F.conv2d(x.view(n, channels, 2 * height, 2 * width), weight, padding=1)
            blur = state[f"{name}.intermediate.kernel"].expand(x.shape[1], -1, -1, -1)
            x = F.conv2d(x, blur, padding=1, groups=x.shape[1]) + bias.view(1, -1, 1, 1)
        elif layer:
            x = F.conv2d(x, weight, bias, padding=1)
        x = F.leaky_relu(x + state[f"{epilogue}.noise.weight"].view(1, -1, 1, 1) * noise[layer], 0.2)
        lin = state[f"{epilogue}.style_mod.lin.weight"]
        style = F.linear(styles[:, layer], lin * lin.shape[1] ** -0.5, state[f"{epilogue}.style_mod.lin.bias"])
        style = style.view(len(x), 2, -1, 1, 1)
        x = F.instance_norm(x) * (style[:, 0] + 1) + style[:, 1]
    return F.conv2d(x, state["torgb.weight"] * x.shape[1] ** -0.5, state["torgb.bias"])


def plain_bicubic(hr: Tensor, scale: int) -> Tensor:
    """PULSE's bicubic.py: mirrored border, then a convolution with stride along each axis."""
    x = (torch.arange(4 * scale, dtype=torch.float64) - 2 * scale + 0.5).abs() / scale
    taps = torch.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
    taps = (taps / taps.sum()).to(hr)
    before, after = 3 * scale // 2, 3 * scale - 3 * scale // 2
    down = F.pad(hr, (0, 0, before, after), mode="reflect")
    down = F.conv2d(down, taps.view(1, 1, -1, 1).expand(3, -1, -1, -1), stride=(scale, 1), groups=3)
    down = F.pad(down, (before, after, 0, 0), mode="reflect")
    return F.conv2d(down, taps.view(1, 1, 1, -1).expand(3, -1, -1, -1), stride=(1, scale), groups=3)


def plain_search(state, lr, latents, noise, mean, std, steps: int) -> tuple[Tensor, Tensor]:
    """PULSE.py with the paper's setting, one start after the other; the last images and losses of each."""
    images, values = [], []
    for q in range(len(latents)):
        z, maps = latents[q : q + 1].clone().requires_grad_(), [each[q : q + 1] for each in noise]
        radius = (z.detach().square().sum(2, keepdim=True) + 1e-9).sqrt()
        adam, best = torch.optim.Adam([z], lr=0.4), float("inf")
        for step in range(steps):
            adam.param_groups[0]["lr"] = 0.4 * pulse.SCHEDULES["linear1cycledrop"](step, 200)
            adam.zero_grad()
            w = F.leaky_relu(z * std + mean, 0.2)
            sr = (plain_synthesis(state, w, maps) + 1) / 2
            l2 = (plain_bicubic(sr, sr.shape[2] // lr.shape[2]) - lr).square().mean((1, 2, 3)).clamp(min=2e-3).sum()
            apart = ((w[:, :, None] - w[:, None]).square().sum(3) + 1e-9).sqrt()
            across = ((w[:, :, None] + w[:, None]).square().sum(3) + 1e-9).sqrt()
            angles = 2 * torch.atan2(apart, across)
            total = 100 * l2 + 0.05 * (w.shape[2] * angles.square()).mean((1, 2)).sum() / 8
            if total.item() < best:
                best, _ = total.item(), sr.clone()
            total.backward()
            adam.step()
            with torch.no_grad():
                z.copy_(z / (z.square().sum(2, keepdim=True) + 1e-9).sqrt() * radius)
        images.append(sr.detach())
        values.append(total.detach())
    return torch.cat(images), torch.stack(values)


def batched_search(network, lr, latents, noise, steps: int) -> tuple[Tensor, Tensor]:
    """`upscalers.pulse`: the first steps of the paper's 200, all starts at once."""
    path = pulse.path(lr.expand(len(latents), -1, -1, -1), network, latents, noise, steps=200)
    *_, state = (next(path) for _ in range(steps))
    return state.sr, state.total


def compare_search(name: str, n_samples: int, device: torch.device, repeats: int = 3) -> float:
    """Print times of both searches for one LR image 8x8 and return their ratio.

    Raises:
        SystemExit: in float64 the two searches differ.
    """
    config, steps = FACES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        synthesis = stylegan.Synthesis(*config)
    for module in synthesis.modules():
        if isinstance(module, stylegan.Noise):
            nn.init.constant_(module.weight, 0.1)
    lr, seconds, results = torch.rand(1, 3, 8, 8, generator=seeded("lr")), {"plain loop": [], "ours": []}, {}
    for kind in (torch.float64, torch.float32):  # the first is the check, which rounding does not blur
        check = kind == torch.float64
        fit = torch.full((512,), -0.27), torch.full((512,), 0.48)
        network = generators.style_generator(synthesis.to(kind), *(f.to(kind) for f in fit), device=device)
        latents, noise = pulse.draw_starts(network, [seeded("start", q) for q in range(n_samples)])
        maps = [*noise[:-1], torch.zeros(n_samples, *network.noise_shapes[-1]).to(latents)]
        state, own = {key: each.to(device) for key, each in synthesis.state_dict().items()}, lr.to(latents)
        long = 2 if check else steps
        ours = partial(batched_search, network, own, latents, noise, long)
        theirs = partial(plain_search, state, own, latents, maps, network.mean, network.std, long)
        for _ in range(1 if check else repeats):
            for way, run in (("plain loop", theirs), ("ours", ours)):
                start, wall = now(device), time.perf_counter()
                results[way] = run()
                seconds[way].append((now(device) - start, time.perf_counter() - wall))
        if check:
            difference = (results["ours"][0] - results["plain loop"][0]).abs().max().item()
            if not difference < 1e-9:
                raise SystemExit(f"{name}: images differ by {difference} in float64")
            seconds = {"plain loop": [], "ours": []}
    unit = "wall" if device.type == "cuda" else "CPU"
    print(f"\n{name}: 8x8 to 64x64, N_Q = {n_samples}, {steps} steps, {device}; in float64 {difference:.0e} apart")
    medians = {way: [statistics.median(each) for each in zip(*times, strict=True)] for way, times in seconds.items()}
    for way, (total, wall) in medians.items():
        each = 1000 / steps / n_samples
        print(f"{way:12}{total * each:9.2f} {unit} ms a step and sample{wall * each:9.2f} wall   median of {repeats}")
    return medians["plain loop"][0] / medians["ours"][0]


def has_bf16_units(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 numbers itself; elsewhere float32 units do, after conversions."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(there for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)


@torch.no_grad()
def compare_precisions(scale: int, n_samples: int, device: torch.device) -> float:
    """Score a crop of a photograph in float32 and bf16, print times and the check, return the ratio of times."""
    image = datasets.names("photographs")[0]
    hr, rows, seconds = datasets.load("photographs", image).to(device), {}, {}
    for precision in ("float32", "bf16"):
        upscale = UPSCALERS["embedded_flow"](scale=scale, device=str(device), precision=precision)
        against = distortions.against("lpips_embedded", hr)
        lrs = [quantize(DOWNSCALERS[name](hr, scale)) for name in CHECKED]
        upscale(lrs[0], [seeded("warm up")])
        start = now(device)
        draws = [upscale(lr, [seeded(0, image, q) for q in range(n_samples)]) for lr in lrs]
        seconds[precision] = (now(device) - start) / len(lrs)
        rows[precision] = torch.stack([against(quantize(sr)) for sr in draws]).cpu()
    ratio, gap = seconds["float32"] / seconds["bf16"], (rows["bf16"] - rows["float32"]).abs().max()
    order = [[CHECKED[k] for k in each.mean(1).argsort()] for each in rows.values()]
    print(f"\nembedded_flow x{scale}, {hr.shape[2]}x{hr.shape[3]}, N_Q = {n_samples}: ", end="")
    print(", ".join(f"{name} {each:.2f} s an LR image" for name, each in seconds.items()))
    if not has_bf16_units(device):
        print(
            "this processor has no bf16 units: bf16 is converted and computed in float32, float32 is the faster choice"
        )
    print(f"check of scores: rows (lpips_embedded) differ by at most {gap:.4f}; order {', '.join(order[0])}, ", end="")
    print("the same in bf16" if order[0] == order[1] else f"in bf16 {', '.join(order[1])}")
    return ratio


def matmul_rate(device: torch.device) -> float:
    """GFLOP/s of a large square float32 matrix product, best of five."""
    size = 8192 if device.type == "cuda" else 1536
    x, times = torch.randn(size, size, device=device), []
    for _ in range(5):
        start = now(device)
        x @ x
        times.append(now(device) - start)
    return 2e-9 * size**3 / min(times)


def peak_memory(way: str, name: str, side: int, n_samples: int, device: torch.device) -> float:
    """GB that a fresh process has held at most after sampling once: resident, or of CUDA memory."""
    network, lr, _, latents = setting(name, side, n_samples, device)
    if way == "ours":
        srflow.Sampler(network)(lr, latents)
    else:
        with torch.no_grad():
            network.flowUpsamplerNet.decode([latent[:1] for latent in latents], plain_features(network, lr))
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose ru_maxrss starts at the size of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # macOS counts bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--samples", type=int, default=5, help="N_Q")
    parser.add_argument("--repeats", type=int, nargs=2, default=(3, 1), metavar=("OURS", "PLAIN"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--large", action="store_true", help="also 4X at 1024x1024 and a wide StyleGAN (minutes)")
    parser.add_argument("--memory", nargs=4, metavar=("WAY", "NAME", "SIDE", "SAMPLES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    if device.type == "cuda":  # PyTorch's default rounds the inputs of convolutions to 10 bits there
        torch.backends.cudnn.allow_tf32 = False
    if options.memory:
        way, name, side, n_samples = options.memory
        print(peak_memory(way, name, int(side), int(n_samples), device))
        return
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{options.threads} thread(s)"
    print(f"torch {torch.__version__}, {device} ({what}), float32; distortion: LPIPS-Alex, its trunk random")
    print("(the same arithmetic as with the downloaded one), clipped SR against a random HR image")
    speedups = {}
    for name, side in SIDES.items():
        repeats, plain_repeats = options.repeats
        args = setting(name, side, options.samples, device)
        speedups[name] = compare(name, *args, repeats=repeats, plain_repeats=plain_repeats)
        cases = [("plain", side, 1), ("ours", side, 1), ("ours", side, options.samples)]
        if options.large and name == "df2k_4x":
            cases += [("plain", 256, 1), ("ours", 256, 1), ("ours", 256, 3)]
        for way, lr_side, n_samples in cases:
            case = (way, name, str(lr_side), str(n_samples))
            command = [sys.executable, "-m", "tools.bench", "--device", options.device, "--memory", *case]
            root = Path(__file__).parents[1]
            out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout
            size = lr_side * args[0].scale
            print(f"peak memory, {way}, {n_samples} sample(s) of {size}x{size}: {float(out):.2f} GB")
    for scale in (4, 8):
        speedups[f"bf16_embedded_flow_{scale}x"] = compare_precisions(scale, options.samples, device)
    for name in FACES if options.large else ["pulse_64"]:
        speedups[name] = compare_search(name, options.samples, device)
    print()
    for name, speedup in speedups.items():
        print(f"speedup {name} {speedup:.2f}")


if __name__ == "__main__":
    main()
