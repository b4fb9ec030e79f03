"""The U-Net of ResShift: residual blocks that know the step, and layers of shifted-window attention (Swin).

Names of layers are those of the official files. Source: zsyOAOA/ResShift 3ce1d81, models/unet.py:603-895 and
models/swin_transformer.py.
"""

import math
from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

UNUSED = ".attn_mask"  # the files hold masks for one size only; the network makes those of the actual size
INDEX = ".relative_position_index"  # follows from the window


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels)


def strip_buffers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names and tensors of an official file without the buffers that follow from sizes.

    `module.` and `_orig_mod.`, which parallel training and compilation put before the names, go as well, as in the
    official loader (utils/util_net.py, `reload_model`).
    """
    stripped = {name.removeprefix("module.").removeprefix("_orig_mod."): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in stripped.items() if not name.endswith((UNUSED, INDEX))}


def embed_steps(steps: Tensor, channels: int) -> Tensor:
    """[cos, sin] of the step at frequencies from 1 down to nearly 1e-4; (N,) to (N, channels)."""
    half = channels // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=steps.device) / half)
    angles = steps.float()[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), 1)


class Residual(nn.Module):
    """Two convolutions; the step scales and shifts the second norm (FiLM)."""

    def __init__(self, channels: int, out: int, embedding: int):
        super().__init__()
        self.in_layers = nn.Sequential(_norm(channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out))
        # the place of the dropout, 0 in every published setting
        self.out_layers = nn.Sequential(_norm(out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Shapes (N, channels, h, w) and (N, embedding) to (N, out, h, w)."""
        scale, shift = self.emb_layers(embedding)[..., None, None].chunk(2, 1)
        h = self.out_layers[0](self.in_layers(x)) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers[1:](h)


class Attention(nn.Module):
    """Attention inside windows, with a learned bias for each relative position of two pixels."""

    def __init__(self, channels: int, window: int, heads: int):
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        place = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        difference = place[:, :, None] - place[:, None, :] + window - 1  # (2, window^2, window^2), from 0
        index = difference[0] * (2 * window - 1) + difference[1]
        self.register_buffer("relative_position_index", index, persistent=False)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Windows (N, windows, window^2, channels) kept; mask (windows, window^2, window^2) is added."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)  # N, windows, heads, n, d
        bias = self.relative_position_bias_table[self.relative_position_index].movedim(-1, 0)  # heads, n, n
        bias = bias if mask is None else bias + mask[:, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(attended.transpose(2, 3).flatten(-2))


class Mlp(nn.Module):
    """Two 1x1 convolutions with a GELU between."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) kept."""
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """Attention in windows of the map, moved by `shift` pixels around its border, and an MLP; both are residual."""

    def __init__(self, channels: int, window: int, shift: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1, self.attn = _norm(channels), Attention(channels, window, heads)
        self.norm2, self.mlp = _norm(channels), Mlp(channels, int(channels * mlp_ratio))

    def mask(self, windows: int, per_row: int) -> Tensor:
        """-100 between pixels that attend apart, else 0, (windows, window^2, window^2).

        The reference marks the regions of a map by its rows alone and then reads each window transposed
        (swin_transformer.py, `calculate_mask`): the lowest windows fall apart into a left and a right half, the others
        not at all. The files were trained so.
        """
        right = (torch.arange(self.window) >= self.window - self.shift).repeat(self.window)
        lowest = -100.0 * (right[:, None] != right).float()
        mask = torch.zeros(windows, *lowest.shape)
        mask[windows - per_row :] = lowest
        return mask

    def split(self, x: Tensor) -> Tensor:
        """Map (N, channels, h, w) to windows (N, windows, window^2, channels)."""
        n, channels, height, width = x.shape
        x = x.reshape(n, channels, height // self.window, self.window, width // self.window, self.window)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, self.window**2, channels)

    def join(self, x: Tensor, height: int, width: int) -> Tensor:
        """Inverse of `split`."""
        n, _, _, channels = x.shape
        x = x.reshape(n, height // self.window, width // self.window, self.window, self.window, channels)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(n, channels, height, width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) kept; h and w multiples of the window."""
        height, width = x.shape[-2:]
        h, mask = self.norm1(x), None
        if self.shift:
            h = h.roll((-self.shift, -self.shift), (2, 3))
            mask = self.mask(height * width // self.window**2, width // self.window).to(h)
        h = self.join(self.attn(self.split(h), mask), height, width)
        x = x + (h.roll((self.shift, self.shift), (2, 3)) if self.shift else h)
        return x + self.mlp(self.norm2(x))


class Project(nn.Module):
    """A 1x1 convolution under the name that the files have for it."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) to (N, out, h, w)."""
        return self.proj(x)


class Swin(nn.Module):
    """Swin blocks at their own width, every second one shifted by half a window; the layer itself is not residual."""

    def __init__(
        self, channels: int, width: int, resolution: int, *, depth: int, window: int, heads: int, mlp_ratio: float
    ):
        super().__init__()
        self.patch_embed, self.patch_unembed = Project(channels, width), Project(width, channels)
        shift = window // 2 if resolution > window else 0  # one window in training: nothing to shift
        size = min(window, resolution)
        self.blocks = nn.ModuleList(SwinBlock(width, size, shift * (i % 2), heads, mlp_ratio) for i in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) kept."""
        x = self.patch_embed(x)
        for block in self.blocks:
            x = block(x)
        return self.patch_unembed(x)


class Down(nn.Module):
    """Halve the size: 3x3 convolution of stride 2."""

    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) to half the size."""
        return self.op(x)


class Up(nn.Module):
    """Double the size: repeat the pixels, then a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) to twice the size."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Steps(nn.Sequential):
    """Layers one after the other, of which the residual blocks are given the step."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Shapes (N, channels, h, w) and (N, embedding) to (N, out, h', w')."""
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, Residual) else layer(x)
        return x


class ResShiftUNet(nn.Module):
    """Predicts x_0 from a scaled x_t, the step and the LR image; defaults are those of every published x4 file.

    Args:
        resolution: side of the latents that it was trained on; decides which levels attend and where windows shift.
        width: channels of the finest level at multiplier 1.
        multipliers: of the channels, one a level.
        blocks: residual blocks a level, one more on the way up.
        attention: resolutions with a Swin layer behind the first residual block.
        swin_width, swin_depth, head_channels, window, mlp_ratio: of the Swin layers.
    """

    def __init__(
        self,
        resolution: int = 64,
        width: int = 160,
        multipliers: Sequence[int] = (1, 2, 2, 4),
        blocks: int = 2,
        attention: Collection[int] = (64, 32, 16, 8),
        swin_width: int = 192,
        swin_depth: int = 2,
        head_channels: int = 32,
        window: int = 8,
        mlp_ratio: float = 4.0,
    ):
        super().__init__()
        self.width, self.multiple = width, window * 2 ** (len(multipliers) - 1)
        embedding = 4 * width
        heads = swin_width // head_channels
        how = {"depth": swin_depth, "window": window, "heads": heads, "mlp_ratio": mlp_ratio}
        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))

        channels = width * multipliers[0]
        self.input_blocks = nn.ModuleList([Steps(nn.Conv2d(3 + 3, channels, 3, padding=1))])
        widths, side = [channels], resolution
        for level, multiplier in enumerate(multipliers):
            for i in range(blocks):
                layers = [Residual(channels, width * multiplier, embedding)]
                channels = width * multiplier
                if side in attention and i == 0:
                    layers.append(Swin(channels, swin_width, side, **how))
                self.input_blocks.append(Steps(*layers))
                widths.append(channels)
            if level < len(multipliers) - 1:
                self.input_blocks.append(Steps(Down(channels)))
                widths.append(channels)
                side //= 2

        self.middle_block = Steps(
            Residual(channels, channels, embedding),
            Swin(channels, swin_width, side, **how),
            Residual(channels, channels, embedding),
        )

        self.output_blocks = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for i in range(blocks + 1):
                layers = [Residual(channels + widths.pop(), width * multiplier, embedding)]
                channels = width * multiplier
                if side in attention and i == 0:
                    layers.append(Swin(channels, swin_width, side, **how))
                if level and i == blocks:
                    layers.append(Up(channels))
                    side *= 2
                self.output_blocks.append(Steps(*layers))
        self.out = nn.Sequential(_norm(channels), nn.SiLU(), nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, x: Tensor, steps: Tensor, lr: Tensor) -> Tensor:
        """Predict x_0.

        Args:
            x: x_t, scaled, (N, 3, h, w); h and w multiples of `multiple`.
            steps: t - 1, whole numbers from 0, (N,).
            lr: LR image in [-1, 1], (N, 3, h, w).

        Returns:
            x_0, shape of x.

        Raises:
            ValueError: other shapes.
        """
        if x.shape != lr.shape or x.shape[-2] % self.multiple or x.shape[-1] % self.multiple:
            raise ValueError(
                f"x, lr: expected one shape with sides that are multiples of {self.multiple}, "
                f"got {tuple(x.shape)} and {tuple(lr.shape)}"
            )
        embedding = self.time_embed(embed_steps(steps, self.width))
        h, skips = torch.cat((x, lr), 1), []
        for block in self.input_blocks:
            h = block(h, embedding)
            skips.append(h)
        h = self.middle_block(h, embedding)
        for block in self.output_blocks:
            h = block(torch.cat((h, skips.pop()), 1), embedding)
        return self.out(h)
