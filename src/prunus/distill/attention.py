"""Distillation between hidden layers: what a teacher's layers attend to, and which student layer learns it.

A layer's output F is a tensor [n, channels, *positions], or [n, channels] for vectors. Two kinds of map say what it
attends to, each a unit vector a_i for each example i of the batch:

- spatial: a_i is the mean over channels of F_i^2, flattened over the positions, divided by its length;
- similarity: a_i is row i of F F^T (F flattened to [n, d]), divided by its length: how like example i is to each other.

A vector has one position, so its spatial map is the number 1 whatever the layer computes, and no gradient comes of it.
There the similarity map is used.
"""

from __future__ import annotations

import contextlib
import math
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunus.errors import ModuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


POOLS: Final[tuple[Callable[..., Tensor], ...]] = (
    functional.adaptive_avg_pool1d,
    functional.adaptive_avg_pool2d,
    functional.adaptive_avg_pool3d,
)
"""Averages over a grid of positions, by its number of axes less one."""


TINY: Final = 1e-12
"""Length below which a map is not divided by it: a layer that gives zeros attends to nothing."""


class MapKind(StrEnum):
    """What is compared between two layers; see the module's text."""

    SPATIAL = "spatial"
    SIMILARITY = "similarity"


def activations(module: nn.Module) -> tuple[str, ...]:
    """Name the activations of a module (ReLU and its like), in the order in which they were registered.

    Raises:
        ModuleError: it has none that is a module of its own.
    """
    names = tuple(name for name, part in module.named_modules() if type(part).__module__ == nn.ReLU.__module__)
    if not names:
        msg = (
            f"{type(module).__name__} holds no activation as a module; expected the names of the layers to distil from"
        )
        raise ModuleError(msg)
    return names


def layers_of(module: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Find layers by name, as ``module.named_modules()`` says them.

    Raises:
        ModuleError: there is no layer of such a name; the message lists those that there are.
    """
    parts = dict(module.named_modules())
    unknown = [name for name in names if name not in parts]
    if unknown:
        msg = f"{type(module).__name__} has no layer {unknown[0]!r}; expected some of {', '.join(filter(None, parts))}"
        raise ModuleError(msg)
    return [parts[name] for name in names]


@contextlib.contextmanager
def watch(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect what some layers give while a module runs, with hooks; the module itself stays as it is.

    Args:
        module: any module.
        names: of the layers, as ``module.named_modules()`` says them.

    Yields:
        A dictionary that holds each layer's latest output by name, float [n, channels, ...].

    Raises:
        ModuleError: there is no layer of such a name, or a layer gives no tensor of two dimensions or more.
    """
    parts = layers_of(module, names)
    outputs: dict[str, Tensor] = {}

    def keep(name: str, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim < 2:
            got = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            msg = f"layer {name!r} gives {got}; expected one tensor [n, channels, ...]"
            raise ModuleError(msg)
        outputs[name] = output

    with contextlib.ExitStack() as hooks:
        for name, part in zip(names, parts, strict=True):
            hook = part.register_forward_hook(lambda _part, _inputs, output, name=name: keep(name, output))
            hooks.callback(hook.remove)
        yield outputs


def spatial_map(feature: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """Mean of the squared channels at each position, flattened, of unit length.

    Args:
        feature: float [n, channels, *positions].
        size: number of positions along each axis to pool the squares to (averages); None for its own.

    Returns:
        float [n, n_positions].

    References:
        Zagoruyko and Komodakis, ICLR 2017, "Paying More Attention to Attention", arXiv 1612.03928.
    """
    return functional.normalize(_squares(feature, size), dim=1)


def _squares(feature: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """Spatial maps before they are divided by their length."""
    squares = feature.square().mean(dim=1, keepdim=True)
    if size is not None and tuple(size) != tuple(squares.shape[2:]):
        if not 1 <= len(size) <= 3 or len(size) != squares.ndim - 2:
            msg = f"got positions {list(squares.shape[2:])} and {list(size)}; expected as many axes: compare by similarity"
            raise ModuleError(msg)
        squares = POOLS[len(size) - 1](squares, list(size))
    return squares.flatten(1)


def similarity_map(feature: Tensor) -> Tensor:
    """Inner products of each example with all of the batch, of unit length.

    Args:
        feature: float [n, ...].

    Returns:
        float [n, n].

    References:
        Tung and Mori, ICCV 2019, "Similarity-Preserving Knowledge Distillation", arXiv 1907.09682, equations 1 and 2.
    """
    return functional.normalize(_products(feature), dim=1)


def _products(feature: Tensor) -> Tensor:
    """Similarity maps before they are divided by their length."""
    flat = feature.flatten(1)
    return flat @ flat.T


def map_kind(features: Sequence[Tensor]) -> MapKind:
    """Tell how these layers can be compared: by positions where each has several along as many axes, else by similarity."""
    axes = {feature.ndim for feature in features}
    several = all(feature[0, 0].numel() > 1 for feature in features)
    return MapKind.SPATIAL if several and len(axes) == 1 and axes <= {3, 4, 5} else MapKind.SIMILARITY


def map_distances(student: Sequence[Tensor], teacher: Sequence[Tensor], kind: MapKind) -> Tensor:
    """Mean squared difference of the maps of each student layer and each teacher layer, for each example.

    Args:
        student: features, float [n, channels, ...]; their spatial maps are pooled to each teacher layer's positions.
        teacher: features.
        kind: of the maps.

    Returns:
        float [n, n_teacher, n_student].
    """
    if kind is MapKind.SIMILARITY:
        ours = [_with_length(_products(f)) for f in student]
        rows = [[_mean_square(own, shown) for own in ours] for shown in (_with_length(_products(f)) for f in teacher)]
    else:
        rows = [
            [_mean_square(_with_length(_squares(s, t.shape[2:])), _with_length(_squares(t))) for s in student]
            for t in teacher
        ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def _with_length(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Give float [n, p] with the length of each row, float [n]."""
    return maps, torch.sqrt(torch.clamp(maps.square().sum(dim=1), min=TINY**2))


def _mean_square(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """Mean over p of (a_p / |a| - b_p / |b|)^2 = (2 - 2 cos) / p, without the divided arrays; float [n]."""
    return (2.0 - 2.0 * (a[0] * b[0]).sum(dim=1) / (a[1] * b[1])) / a[0].shape[1]


def attention_transfer_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], kind: MapKind | None = None
) -> Tensor:
    """Distance of the maps of layers that are paired by hand: sum over the pairs of the mean over the batch.

    Args:
        student: features, one for each of the teacher's, float [n, channels, ...].
        teacher: features.
        kind: of the maps; None for what :func:`map_kind` says.

    References:
        Zagoruyko and Komodakis, ICLR 2017, "Paying More Attention to Attention", arXiv 1612.03928, equation 2, with the
        mean of squares that their published code has in place of the norm.
    """
    kind = kind or map_kind([*student, *teacher])
    return torch.stack([map_distances([s], [t], kind).mean() for s, t in zip(student, teacher, strict=True)]).sum()


def soft_target_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence from the teacher's softened outputs, times the temperature squared.

    For class scores: T^2 mean_i KL(softmax(t_i / T) || softmax(s_i / T)). For one number an example it is the same of
    two normal distributions of standard deviation T around the outputs: T^2 (s - t)^2 / (2 T^2), so T drops out.

    Args:
        student: float [n, n_classes], or [n] or [n, 1] for one number an example.
        teacher: of the same shape.
        temperature: T, above 0.

    References:
        Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531.
    """
    if student.ndim == 1 or student.shape[1] == 1:
        return 0.5 * functional.mse_loss(student, teacher)
    log_p, log_q = (functional.log_softmax(x / temperature, dim=1) for x in (teacher, student))
    return temperature**2 * functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


class AttentionDistillation(nn.Module):
    """Attention-based feature distillation: it learns which student layers each teacher layer teaches.

    With v the channels' means over the positions, q_t = BN(W_t v_t) for each teacher layer, k_s = relu(BN(W_s v_s)) for
    each student layer and BN(B k_s) cut into one key k_{s,t} for each teacher layer,

        a_{t,s} = softmax over s of (q_t . k_{s,t} + p_t . p_s) / sqrt(width)
        loss    = sum_t mean_batch sum_s a_{t,s} |map_t - map_s|^2 / n_positions

    with learned positions p. Its parameters are trained together with the student's, by the same optimiser.

    References:
        Ji, Heo, Park, AAAI 2021, "Show, Attend and Distill", arXiv 2102.02973, and its authors' code, which scales the
        whole sum by sqrt(width) and has no ReLU on the queries.
    """

    def __init__(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        *,
        width: int = 128,
        kind: MapKind | None = None,
        seed: int = 0,
    ) -> None:
        """Draw a new pairing.

        Args:
            student: an example of each student layer's output, float [n, channels, ...].
            teacher: an example of each teacher layer's output.
            width: of queries and keys.
            kind: of the maps that are compared; None for what :func:`map_kind` says.
            seed: of the first weights.
        """
        super().__init__()
        self.width, self.kind = width, kind or map_kind([*student, *teacher])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.queries = nn.ModuleList(self._projection(feature.shape[1], width) for feature in teacher)
            self.keys = nn.ModuleList(self._projection(feature.shape[1], width) for feature in student)
            self.bilinear = self._projection(width, width * len(teacher))
            self.teacher_positions = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(teacher), width)))
            self.student_positions = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(student), width)))

    @staticmethod
    def _projection(n_inputs: int, n_outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(n_inputs, n_outputs), nn.BatchNorm1d(n_outputs))

    def refit(self, student: Sequence[Tensor]) -> None:
        """Draw new keys for student layers whose number of channels has changed; all else stays as it was learned.

        Args:
            student: an example of each student layer's output, as the layers are now.
        """
        for number, feature in enumerate(student):
            linear = self.keys[number].get_submodule("0")
            if linear.in_features != feature.shape[1]:
                self.keys[number] = self._projection(feature.shape[1], self.width)

    def attention(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Weigh the student layers for each teacher layer.

        Args:
            student: features, float [n, channels, ...].
            teacher: features.

        Returns:
            float [n, n_teacher, n_student]; sums to 1 over the last axis.
        """
        q = torch.stack([query(_means(f)) for query, f in zip(self.queries, teacher, strict=True)], dim=1)
        k = torch.stack([functional.relu(key(_means(f))) for key, f in zip(self.keys, student, strict=True)], dim=1)
        keys = self.bilinear(k.flatten(0, 1)).view(len(q), len(student), len(teacher), self.width)
        positions = self.teacher_positions @ self.student_positions.T
        logits = (keys * q[:, None]).sum(dim=3).transpose(1, 2) + positions
        return torch.softmax(logits / math.sqrt(self.width), dim=2)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the loss, a scalar; arguments as in :meth:`attention`."""
        weight = self.attention(student, teacher)
        return (weight * map_distances(student, teacher, self.kind)).sum(dim=(1, 2)).mean()


def _means(feature: Tensor) -> Tensor:
    """Mean over the positions, float [n, channels]."""
    return feature.flatten(2).mean(dim=2) if feature.ndim > 2 else feature
