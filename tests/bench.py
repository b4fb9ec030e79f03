"""`python -m tests.bench`: N_Q samples of one LR image and their distortions, against a plain loop.

Ours is `srflow.Sampler`, with the reference features of the distortion computed once per HR image; the other
one full pass of the network and one of LPIPS per sample (`tests/plain_srflow.py`). Same weights, same latents,
outputs compared. On a CPU one core is used and CPU seconds are compared, since other programs disturb them less
than wall time; on CUDA wall seconds. The last lines read `speedup NAME VALUE`.
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
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from helpers import distortions
from helpers.networks import srflow
from helpers.runtime import pick_device, seeded
from tests.plain_srflow import fill, plain_features

SIDES = {"df2k_4x": 64, "celeba_8x": 32}  # of the LR image; HR 256
HEAT = 0.5
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
    features, distance = distortions._FEATURES["lpips"]
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
    nets = [module.fFeatures for module in network.modules() if isinstance(module, srflow.Coupling)]
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
    parser.add_argument("--large", action="store_true", help="also the memory of 4X at 1024x1024 (minutes)")
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
            command = [sys.executable, "-m", "tests.bench", "--device", options.device, "--memory", *case]
            root = Path(__file__).parents[1]
            out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout
            size = lr_side * args[0].scale
            print(f"peak memory, {way}, {n_samples} sample(s) of {size}x{size}: {float(out):.2f} GB")
    print()
    for name, speedup in speedups.items():
        print(f"speedup {name} {speedup:.2f}")


if __name__ == "__main__":
    main()
