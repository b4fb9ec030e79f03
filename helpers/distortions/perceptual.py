"""The networks behind LPIPS, DISTS and the embedded distance: loading, features of an image, distance of features."""

import json
import warnings
from collections.abc import Callable
from functools import lru_cache

import torch
from safetensors import safe_open
from torch import Tensor, nn

from helpers import weights
from helpers.networks.compact_lpips import CompactLPIPS
from helpers.runtime import shielded

# lpips, piq and torchvision are imported where they are used: they take seconds, and most distortions need none

EMBEDDED = "compact_lpips"  # the checkpoint that comes with the repository
NEEDS = {"lpips": (("alexnet", "alexnet_features"),), "dists": (("vgg16",), ("dists",))}  # any of each group
SQUEEZENET = ("squeezenet", "squeezenet_features")


def _trunk(network: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """Load the convolutions `features.*` of the first of `names` that is here; the classifier is not used."""
    path = next((path for name in names if (path := weights.locate(name))), None) or weights.fetch(names[0])
    state = {key.removeprefix("features."): value for key, value in weights.load_state(path).items()}
    state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    return weights.load_into(network, state, path)


@lru_cache(maxsize=8)
@shielded()
def network(name: str, device: torch.device) -> nn.Module:
    """Load the network of a distortion; built once a process for each device, and shared: leave it unchanged.

    Args:
        name: "lpips", "lpips_embedded" or "dists".
        device: where to put it.

    Returns:
        The network in eval mode, without gradients of its weights. No library downloads anything by itself.

    Raises:
        ValueError: the weights are not here and cannot be fetched; says what to do.
    """
    built = {"lpips": _lpips_network, "lpips_embedded": _embedded_network, "dists": _dists_network}[name]()
    return built.eval().requires_grad_(False).to(device)


def alexnet() -> nn.Sequential:
    """Load the convolutions of torchvision's AlexNet, on the CPU, in eval mode.

    Returns:
        Images normalised by ImageNet's mean and deviation, (N, 3, H, W), to the features of the last layer.

    Raises:
        ValueError: as `network`.
    """
    from torchvision import models

    return _trunk(_empty(models.alexnet), NEEDS["lpips"][0]).eval().requires_grad_(False)


def squeezenet() -> nn.Sequential:
    """Load the convolutions of torchvision's SqueezeNet 1.1, on the CPU, in eval mode, for gradients of images alone.

    Returns:
        Images normalised by ImageNet's mean and deviation, (N, 3, H, W), to the features of the last layer; nothing
        in it works in place.

    Raises:
        ValueError: as `network`.
    """
    from torchvision import models

    trunk = _trunk(_empty(models.squeezenet1_1), SQUEEZENET).eval().requires_grad_(False)
    for layer in trunk.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    return trunk


def _embedded_network() -> CompactLPIPS:
    path = weights.embedded(EMBEDDED)
    with safe_open(path, "pt") as file:
        config = {name: json.loads(file.metadata()[name]) for name in ("widths", "features")}
    network = CompactLPIPS(**config)
    network.load_state_dict(weights.load_state(path))  # float16 in the file
    return network


def _lpips_network() -> nn.Module:
    import lpips as package

    trunk = alexnet()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips 0.1.4 passes torchvision's old argument
        network = package.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)  # trained heads
    for number in range(1, network.net.N_slices + 1):
        for index, layer in getattr(network.net, f"slice{number}").named_children():
            layer.load_state_dict(trunk[int(index)].state_dict())
    return network


def _lpips_features(network: nn.Module, images: Tensor) -> list[Tensor]:
    taps = network.net(network.scaling_layer(2 * images.float() - 1))
    return [tap / (tap.square().sum(1, keepdim=True).sqrt() + 1e-10) for tap in taps]


def _lpips_distance(network: nn.Module, sr: list[Tensor], hr: list[Tensor]) -> Tensor:
    layers = zip(network.lins, sr, hr, strict=True)
    return sum(head((x - y).square()).mean((1, 2, 3)) for head, x, y in layers)


def _empty(build: Callable) -> nn.Sequential:
    """Build the convolutions of a torchvision network without values: nothing drawn, no classifier."""
    with torch.device("meta"):
        return build(weights=None).features.to_empty(device="cpu")


def _dists_network() -> nn.Module:
    import piq
    from torchvision import models

    path = weights.fetch("dists")
    state = weights.load_state(path)
    if {key: value.shape[1] for key, value in state.items()} != {"alpha": 1475, "beta": 1475}:
        raise ValueError(f"{path}: expected alpha and beta of 1475 channels, got {list(state)}")
    total = state["alpha"].sum() + state["beta"].sum()  # so that equal images are at distance 0
    channels = [3, 64, 128, 256, 512, 512]
    channel_weights = [part / total for key in ("alpha", "beta") for part in state[key].split(channels, 1)]
    network = piq.DISTS.__new__(piq.DISTS)  # its own __init__ downloads; the one of its parent does not
    piq.ContentLoss.__init__(
        network,
        _trunk(_empty(models.vgg16), NEEDS["dists"][0]),
        layers=["3", "8", "15", "22", "29"],  # after the last ReLU of each of the five blocks
        weights=channel_weights,
        replace_pooling=True,
        reduction="none",
        allow_layers_weights_mismatch=True,
    )
    return network


def _dists_features(network: nn.Module, images: Tensor) -> list[Tensor]:
    images, side = images.float(), min(images.shape[-2:])
    if side > 256:
        images = nn.functional.interpolate(
            images,
            scale_factor=256 / side,
            recompute_scale_factor=False,
            mode="bilinear",
            align_corners=False,
        )
    return network.get_features(images)


def _dists_distance(network: nn.Module, sr: list[Tensor], hr: list[Tensor]) -> Tensor:
    similarities = network.compute_distance(sr, hr)
    weighted = zip(similarities, network.weights, strict=True)
    return 1 - sum((similarity * weight.to(similarity)).sum((1, 2, 3)) for similarity, weight in weighted)


FEATURES = {  # of a network and images; the distance of two sets of them
    "lpips": (_lpips_features, _lpips_distance),
    "lpips_embedded": (lambda network, images: network(images.float()), CompactLPIPS.distance),
    "dists": (_dists_features, _dists_distance),
}
