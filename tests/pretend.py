"""Tensors that say they are on "cuda" or "mps" and compute on the CPU: where devices mix, they raise as a device does.

They carry values, so what looks at values goes its usual way, results can be compared with the CPU's, and gradients
flow; `FakeTensorMode` has neither values nor, without the device, gradients. What they cannot show: whether a device
has an operation at all, how it rounds, how fast it is.
"""

import contextlib
import functools

import torch
import torch._dynamo  # optimisers import it, which it does not survive where torch says that there are devices
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICES = ("cuda", "mps")
_INDEXING = ("index.", "_index_put_impl_", "index_put")  # indices may stay on the CPU


class Pretender(Tensor):
    """A CPU tensor, `inner`, under another device's name."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: self.claim)
    is_cuda = property(lambda self: self.claim.type == "cuda")
    is_mps = property(lambda self: self.claim.type == "mps")
    is_cpu = property(lambda self: False)

    @staticmethod
    def __new__(cls, real: Tensor, claim: torch.device):
        if claim.type == "mps" and real.dtype in (torch.float64, torch.complex128):
            raise TypeError(f"Cannot convert a MPS Tensor to {real.dtype} as the MPS framework doesn't support it")
        how = {"strides": real.stride(), "storage_offset": real.storage_offset(), "dtype": real.dtype}
        self = Tensor._make_wrapper_subclass(cls, real.shape, **how)
        self.inner, self.claim = real, claim
        return self

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        flat = tree_flatten((args, kwargs or {}))[0]
        claims = {each.claim for each in flat if isinstance(each, Pretender)}
        _refuse_mixture(func, args, flat, claims)
        args, kwargs = tree_map_only(Pretender, lambda each: each.inner, (args, kwargs or {}))
        out = func(*args, **kwargs)
        known = {id(each.inner): each for each in flat if isinstance(each, Pretender)}  # changed in place
        [claim] = claims
        return tree_map_only(Tensor, lambda each: known[id(each)] if id(each) in known else cls(each, claim), out)

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def tolist(self) -> list:
        return self.inner.tolist()

    def __deepcopy__(self, memo: dict) -> Tensor:
        return Pretender(self.inner.clone(), self.claim).requires_grad_(self.requires_grad)

    def __repr__(self, **_) -> str:
        return f"{self.claim} {self.inner}"

    def __format__(self, how: str) -> str:
        return format(self.inner, how)

    def numpy(self, **_):
        raise TypeError(f"can't convert {self.claim} device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    def __reduce_ex__(self, protocol: int):
        return self.inner.__reduce_ex__(protocol)


def _refuse_mixture(func, args, flat, claims) -> None:
    name = func.__name__
    if name.startswith("copy_") or torch._C._current_autograd_node():  # the engine makes its zeros on the CPU
        return
    if any(isinstance(each, torch.Generator) for each in flat):
        raise RuntimeError(f"{name}: Expected a '{claims}' device type for generator but found 'cpu'")
    if name.startswith(_INDEXING) and isinstance(args[0], Pretender):
        flat = [args[0], *args[2:3]]
    plain = [each for each in flat if isinstance(each, Tensor) and not isinstance(each, Pretender)]
    if any(each.ndim for each in plain) or len(claims) > 1:
        found = ", ".join(map(str, [*claims, "cpu"]))
        raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found {found}")


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images: Tensor, claim: torch.device) -> Tensor:
        ctx.came_from = images.device
        real = images.inner if isinstance(images, Pretender) else images.detach()
        return real.detach().clone() if claim.type == "cpu" else Pretender(real.clone(), claim)

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None]:
        return _Move.apply(slope, ctx.came_from), None


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    if tensor.device == device:
        return tensor
    if not tensor.requires_grad:
        return _Move.forward(type("", (), {})(), tensor, device)
    return _Move.apply(tensor, device)


def _known(device: object) -> torch.device | None:
    """A device, "cuda" with its number; None for what is none."""
    if isinstance(device, str | torch.device):
        device = torch.device(device)
        return torch.device(device.type, device.index or 0) if device.type in DEVICES else device
    return None


_TO = {Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.type_as}


class _Claims(TorchFunctionMode):
    """Reads where tensors are wanted, which the operations below need not know."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in _TO:
            return self.to(func, *args, **kwargs)
        if func is Tensor.new_tensor:
            return _moved(func(*args, **kwargs), args[0].device)
        if func is Tensor.__deepcopy__ and isinstance(args[0], Pretender):
            return args[0].__deepcopy__(args[1])
        device = _known(kwargs.get("device"))
        if device is None or (device.type == "cpu" and not any(isinstance(each, Pretender) for each in args)):
            return func(*args, **kwargs)
        if device.type not in (*DEVICES, "cpu"):
            return func(*args, **kwargs)
        if device.type != "cpu" and kwargs.get("generator") is not None:
            raise RuntimeError(f"Expected a '{device.type}' device type for generator but found 'cpu'")
        grad = kwargs.pop("requires_grad", False)
        out = func(*args, **(kwargs | {"device": "cpu"}))
        if isinstance(out, Tensor):
            out = _moved(out, device)
            return out.requires_grad_() if grad else out
        return out

    def to(self, func, tensor, *args, **kwargs):
        if func in (Tensor.cpu, Tensor.cuda):
            return _moved(tensor, _known("cpu" if func is Tensor.cpu else "cuda"))
        other = next((each for each in (*args, kwargs.get("other")) if isinstance(each, Tensor)), None)
        device = next(filter(None, map(_known, (*args, kwargs.get("device")))), None)
        device = other.device if other is not None else device
        dtype = other.dtype if other is not None else kwargs.get("dtype")
        dtype = next((each for each in args if isinstance(each, torch.dtype)), dtype)
        layout = {"memory_format": kwargs["memory_format"]} if kwargs.get("memory_format") else {}
        if device is not None and device.type == "cpu":  # converted on the CPU, which knows every type
            tensor = _moved(tensor, device)
        if dtype is not None or layout:
            tensor = Tensor.to(tensor, dtype=dtype or tensor.dtype, **layout)
        return tensor if device is None else _moved(tensor, device)


@contextlib.contextmanager
def pretend(monkeypatch, kind: str, count: int = 1):
    """Let torch say that there are `count` devices of a kind, "cuda" or "mps", which hold `Pretender`s."""
    for cached in CACHES():
        cached.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: kind == "cuda")
        patch.setattr(torch.cuda, "device_count", functools.cache(lambda: count * (kind == "cuda")))
        patch.setattr(
            torch.cuda, "get_device_name", lambda device=None: f"Pretender {torch.device(device or kind).index or 0}"
        )
        patch.setattr(torch.cuda, "empty_cache", lambda: None)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # autocast asks
        patch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)  # optimisers ask
        patch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            with _Claims():
                yield torch.device(kind, 0)
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(before)
            for cached in CACHES():
                cached.cache_clear()


def CACHES() -> list:
    """What a process keeps that may lie on a device."""
    from helpers import distortions
    from helpers.iqa import trained
    from helpers.rescalers import registry
    from helpers.runs import cell
    from helpers.upscalers import pulse_losses

    kept = [distortions.network, registry.made, cell._loaded, pulse_losses._proxy_matrix]
    kept += [trained._maniqa_network, trained._contrique_network]
    return [each for each in kept if hasattr(each, "cache_clear")]


def back(tensor: Tensor) -> Tensor:
    """The values, on the CPU; it must have been on a device."""
    assert isinstance(tensor, Pretender), tensor.device
    return tensor.inner.detach()
