"""The small anchor-free detector: network, label assignment, loss, training and export. Needs PyTorch."""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from . import CLASS_NAMES

STRIDES = (8, 16, 32)
BINS = 12
"""An edge's distance from its cell's centre is a mean over BINS whole strides, the first being -1."""
CLASSES = len(CLASS_NAMES)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)
    )


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Stage(nn.Module):
    """Half of the channels go through residual blocks, half go past them."""

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        half = outputs // 2
        self.past, self.through = conv(inputs, half, 1), conv(inputs, half, 1)
        self.blocks = nn.Sequential(*(Residual(half) for _ in range(blocks)))
        self.join = conv(2 * half, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([self.past(x), self.blocks(self.through(x))], dim=1))


class Detector(nn.Module):
    """Images ``[N, 3, H, W]`` (RGB, 0-1) to class logits ``[N, C, A]`` and edge logits ``[N, 4, BINS, A]``."""

    def __init__(self, width: int, height: int, channels: tuple[int, ...] = (16, 32, 64, 80, 96)) -> None:
        super().__init__()
        c1, c2, c3, c4, c5 = channels
        self.stem = nn.Sequential(conv(3, c1, 3, 2), conv(c1, c2, 3, 2), Stage(c2, c2, 1))
        self.level3 = nn.Sequential(conv(c2, c3, 3, 2), Stage(c3, c3, 2))
        self.level4 = nn.Sequential(conv(c3, c4, 3, 2), Stage(c4, c4, 2))
        self.level5 = nn.Sequential(conv(c4, c5, 3, 2), Stage(c5, c5, 1))
        self.context = nn.Sequential(conv(3 * c5, c5, 1))
        self.narrow5, self.narrow4 = conv(c5, c4, 1), conv(c4, c3, 1)
        self.up4, self.up3 = Stage(2 * c4, c4, 1), Stage(2 * c3, c3, 1)
        self.down3, self.down4 = conv(c3, c3, 3, 2), conv(c4, c4, 3, 2)
        self.out4, self.out5 = Stage(2 * c3, c4, 1), Stage(2 * c4, c5, 1)
        levels = (c3, c4, c5)
        self.edge_heads = nn.ModuleList(nn.Sequential(conv(c, 48), nn.Conv2d(48, 4 * BINS, 1)) for c in levels)
        self.class_heads = nn.ModuleList(nn.Sequential(conv(c, 48), nn.Conv2d(48, CLASSES, 1)) for c in levels)
        for head in self.class_heads:
            nn.init.constant_(head[-1].bias, math.log(0.01 / 0.99))
        self.sizes = [(height // s, width // s) for s in STRIDES]
        centres, strides = _cells(self.sizes)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)
        self.register_buffer("bins", torch.arange(BINS).float() - 1, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        p3 = self.level3(self.stem(images))
        p4 = self.level4(p3)
        p5 = self.level5(p4)
        wide = functional.max_pool2d(p5, 5, 1, 2)
        p5 = self.narrow5(self.context(torch.cat([p5, wide, functional.max_pool2d(wide, 5, 1, 2)], dim=1)))
        p4 = self.narrow4(self.up4(torch.cat([p4, functional.interpolate(p5, scale_factor=2.0)], dim=1)))
        p3 = self.up3(torch.cat([p3, functional.interpolate(p4, scale_factor=2.0)], dim=1))
        q4 = self.out4(torch.cat([self.down3(p3), p4], dim=1))
        q5 = self.out5(torch.cat([self.down4(q4), p5], dim=1))
        classes, edges = [], []
        for i, level in enumerate((p3, q4, q5)):
            cells = self.sizes[i][0] * self.sizes[i][1]
            classes.append(self.class_heads[i](level).reshape(-1, CLASSES, cells))
            edges.append(self.edge_heads[i](level).reshape(-1, 4, BINS, cells))
        return torch.cat(classes, dim=2), torch.cat(edges, dim=3)

    def boxes(self, edges: Tensor) -> Tensor:
        """Edge logits to xyxy boxes ``[N, 4, A]`` in input pixels."""
        distances = (edges.softmax(dim=2) * self.bins[None, None, :, None]).sum(dim=2) * self.strides
        return torch.cat([self.centres - distances[:, :2], self.centres + distances[:, 2:]], dim=1)


class Exported(nn.Module):
    """The detector with its head output ``[N, 4 + C, A]``: cx, cy, w, h in input pixels, then scores."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        logits, edges = self.detector(images)
        low, high = self.detector.boxes(edges).split(2, dim=1)
        return torch.cat([(low + high) / 2, high - low, logits.sigmoid()], dim=1)


def _cells(sizes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Cell centres ``[2, A]`` (x, y) in input pixels and strides ``[A]``."""
    centres, strides = [], []
    for (rows, columns), stride in zip(sizes, STRIDES, strict=True):
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        centres.append((torch.stack([x.flatten(), y.flatten()]) + 0.5) * stride)
        strides.append(torch.full((rows * columns,), float(stride)))
    return torch.cat(centres, dim=1), torch.cat(strides)


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and complete IoU of xyxy boxes, which broadcast; the last axis holds the corners."""
    size_a, size_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = size_a.clamp(min=0).prod(-1) + size_b.clamp(min=0).prod(-1) - shared
    iou = shared / union.clamp(min=1e-6)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    apart = ((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2).square().sum(-1)
    angle_a, angle_b = (torch.atan2(s[..., 0], s[..., 1].clamp(min=1e-3)) for s in (size_a, size_b))
    shape = 4 / math.pi**2 * (angle_a - angle_b).square()
    weight = (shape / (1 - iou + shape).clamp(min=1e-6)).detach()
    return iou, iou - apart / hull.square().sum(-1).clamp(min=1e-6) - weight * shape


@torch.no_grad()
def assign(model: Detector, scores: Tensor, boxes: Tensor, objects: Tensor, most: int = 10) -> tuple[Tensor, ...]:
    """Task-aligned assignment: which cells answer for which object.

    ``scores [N, A, C]``, ``boxes [N, A, 4]``, ``objects [N, M, 6]`` (xyxy, class or -1, 1 if ignored).
    Returns each cell's object ``[N, A]``, whether it has one, its target score, and whether it is on ignored truth.
    """
    centres = model.centres.T[None, None]
    asked = (objects[..., 4] >= 0) & (objects[..., 5] == 0)
    corners = objects[..., :4]
    middle, half = (corners[..., :2] + corners[..., 2:]) / 2, (corners[..., 2:] - corners[..., :2]) / 2
    reach = torch.maximum(half[:, :, None], model.strides[None, None, :, None] * 0.6)
    near = ((centres - middle[:, :, None]).abs() < reach).all(-1)
    hidden = near & ((objects[..., 4] >= 0) & (objects[..., 5] == 1))[..., None]
    near &= asked[..., None]
    iou = _overlap(corners[:, :, None], boxes[:, None])[0]
    class_ids = objects[..., 4].clamp(min=0).long()
    class_scores = scores.transpose(1, 2).gather(1, class_ids[..., None].expand(-1, -1, scores.shape[1]))
    alignment = class_scores.sqrt() * iou.pow(6) * near
    top = alignment.topk(most, dim=2)
    chosen = torch.zeros_like(near).scatter_(2, top.indices, top.values > 1e-9)
    claims = torch.where(chosen, iou, torch.full_like(iou, -1.0))
    best_iou, owner = claims.max(dim=1)
    positive = best_iou >= 0
    chosen &= torch.zeros_like(chosen).scatter_(1, owner[:, None], True)
    alignment = alignment * chosen
    scale = (iou * chosen).amax(2, keepdim=True) / alignment.amax(2, keepdim=True).clamp(min=1e-9)
    target = (alignment * scale).amax(1) * positive
    return owner, positive, target, hidden.any(1) & ~positive


def loss(model: Detector, images: Tensor, objects: Tensor) -> Tensor:
    """Class, overlap and edge-distribution losses, summed."""
    with torch.autocast(images.device.type, dtype=torch.bfloat16):
        logits, edges = model(images)
    logits, edges = logits.float().transpose(1, 2), edges.float()
    boxes = model.boxes(edges).transpose(1, 2)
    owner, positive, target, ignored = assign(model, logits.detach().sigmoid(), boxes.detach(), objects)
    owned = objects.gather(1, owner[..., None].expand(-1, -1, 6))
    wanted = functional.one_hot(owned[..., 4].clamp(min=0).long(), CLASSES) * target[..., None]
    total = target.sum().clamp(min=1)
    class_loss = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    class_loss = (class_loss * ~ignored[..., None]).sum() / total
    weight = target[positive]
    corners = owned[..., :4][positive]
    overlap_loss = ((1 - _overlap(boxes[positive], corners)[1]) * weight).sum() / total
    cells = positive.nonzero()[:, 1]
    centres, strides = model.centres.T[cells], model.strides[cells][:, None]
    distances = torch.cat([centres - corners[:, :2], corners[:, 2:] - centres], dim=1) / strides + 1
    distances = distances.clamp(0, BINS - 1.01)
    log_shares = edges.permute(0, 3, 1, 2)[positive].log_softmax(-1)
    low = distances.floor()
    low_share = log_shares.gather(-1, low.long()[..., None])[..., 0]
    high_share = log_shares.gather(-1, low.long()[..., None] + 1)[..., 0]
    edge_loss = -(low_share * (low + 1 - distances) + high_share * (distances - low)).mean(-1)
    return class_loss + 5.0 * overlap_loss + 1.0 * (edge_loss * weight).sum() / total


def augment(frames: Tensor, objects: Tensor, size: tuple[int, int], pad: int) -> tuple[Tensor, Tensor]:
    """Mirror, zoom, shift and recolour: frames ``[N, 3, h, w]`` uint8 to padded inputs ``[N, 3, H, W]`` 0-1."""
    batch, _, height, width = frames.shape
    device = frames.device
    mirror = torch.where(torch.rand(batch, device=device) < 0.5, -1.0, 1.0)
    zoom = torch.exp(torch.empty(batch, device=device).uniform_(math.log(0.75), math.log(1.5)))
    zoom = torch.where(torch.rand(batch, device=device) < 0.4, torch.ones_like(zoom), zoom)
    room = (1 - 1 / zoom).abs()[:, None] * torch.tensor([1.0, 1.0], device=device)
    shift = room * torch.empty(batch, 2, device=device).uniform_(-1, 1)
    matrix = torch.zeros(batch, 2, 3, device=device)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, :, 2] = mirror / zoom, 1 / zoom, shift
    grid = functional.affine_grid(matrix, [batch, 3, height, width], align_corners=False)
    images = frames.float() / 255 - pad / 255
    images = functional.grid_sample(images, grid, mode="bilinear", align_corners=False)
    contrast = torch.empty(batch, 1, 1, 1, device=device).uniform_(0.8, 1.2)
    gains = torch.empty(batch, 3, 1, 1, device=device).uniform_(0.88, 1.12)
    images = ((images * contrast + pad / 255) * gains * torch.empty_like(contrast).uniform_(0.75, 1.25)).clamp(0, 1)
    top = (size[1] - height) // 2
    padded = functional.pad(images, (0, 0, top, size[1] - height - top), value=pad / 255)

    span = torch.tensor([width, height], device=device)
    points = objects[..., :4].reshape(batch, -1, 2, 2) / span * 2 - 1
    points = (points - shift[:, None, None]) * zoom[:, None, None, None]
    points[..., 0] *= mirror[:, None, None]
    points = (points + 1) / 2 * span
    low, high = points.amin(2), points.amax(2)
    before = (high - low).prod(-1)
    low, high = (torch.minimum(corner.clamp(min=0), span.float()) for corner in (low, high))
    sides = high - low
    left = sides.prod(-1) / before.clamp(min=1e-6)
    moved = objects.clone()
    offset = torch.tensor([0, top], device=device)
    moved[..., :2], moved[..., 2:4] = low + offset, high + offset
    gone = (left < 0.02) | (objects[..., 4] < 0)
    moved[..., 4] = torch.where(gone, -1.0, objects[..., 4])
    small = (sides.amax(-1) < 7.0) | (sides.amin(-1) < 2.6) | (left < 0.2)
    moved[..., 5] = torch.maximum(objects[..., 5], small.float())
    return padded, moved


def fit(
    frames: NDArray[np.uint8],
    objects: NDArray[np.float32],
    size: tuple[int, int],
    pad: int,
    steps: int,
    batch: int,
    seconds: float,
) -> Detector:
    """Train on frames ``[F, h, w, 3]`` and objects ``[F, M, 6]``; the averaged weights come back."""
    torch.manual_seed(7)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    data = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2)
    labels = torch.from_numpy(objects).to(device)
    model = Detector(*size).to(device).to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(model).eval()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.03}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.99), fused=device.type == "cuda")
    generator = torch.Generator(device="cpu").manual_seed(11)
    order, started = torch.empty(0, dtype=torch.long), time.monotonic()
    for step in range(steps):
        elapsed = time.monotonic() - started
        done = min(1.0, max(step / steps, elapsed / seconds))
        rate = 3e-3 * min(1.0, (step + 1) / 300) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        if len(order) < batch:
            order = torch.randperm(len(data), generator=generator)
        picked, order = order[:batch].to(device), order[batch:]
        images, targets = augment(data[picked], labels[picked], size, pad)
        value = loss(model, images.contiguous(memory_format=torch.channels_last), targets)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        _average(averaged, model, min(0.9995, (step + 1) / (step + 20)))
        if step % 250 == 0 or step == steps - 1 or done >= 1:
            print(f"step {step:5d}  loss {value.item():.3f}  rate {rate:.5f}  {elapsed:4.0f} s", flush=True)
        if done >= 1:
            break
    return averaged.cpu()


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, keep: float) -> None:
    old, new = ([t for t in m.state_dict().values() if t.is_floating_point()] for m in (averaged, model))
    torch._foreach_lerp_(old, new, 1 - keep)


def export(detector: Detector, path: Path, size: tuple[int, int]) -> None:
    """Write the ONNX file with only the batch axis dynamic and the metadata that exporters embed."""
    import onnx

    model = Exported(detector.eval().to(memory_format=torch.contiguous_format)).eval()
    torch.onnx.export(
        model, (torch.zeros(1, 3, size[1], size[0]),), str(path), opset_version=17, dynamo=False,
        input_names=["images"], output_names=["output0"],
        dynamic_axes={"images": {0: "batch"}, "output0": {0: "batch"}},
    )  # fmt: skip
    proto = onnx.load(str(path))
    cells = sum(rows * columns for rows, columns in detector.sizes)
    for axis, length in zip(proto.graph.output[0].type.tensor_type.shape.dim[1:], (4 + CLASSES, cells), strict=True):
        axis.dim_value = length
    proto.ir_version = 8
    onnx.helper.set_model_props(
        proto,
        {
            "description": "Onpace street demo detector, trained on rendered scenes only",
            "author": "Onpace",
            "license": "Apache-2.0",
            "task": "detect",
            "stride": str(max(STRIDES)),
            "imgsz": str([size[1], size[0]]),
            "names": str(dict(enumerate(CLASS_NAMES))),
        },
    )
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))
