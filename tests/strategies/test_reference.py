"""Every strategy against the formula of its paper, written dense and naive here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from adaptr import strategies
from adaptr.algebra import stream
from adaptr.algebra.dense import Dense
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.strategies.base import Place

SHAPES = [(12, 7), (6, 15)]
WEIGHTS = {"equal": [1.0, 1.0, 1.0], "mixed": [0.7, -0.4, 0.5]}
SEED = 3


def low(shape: tuple[int, int], ranks: tuple[int, ...] = (2, 3, 2), seed: int = 0) -> list[Operator]:
    g = torch.Generator().manual_seed(seed)
    out, into = shape
    return [LowRank(torch.randn(out, r, generator=g), torch.randn(r, into, generator=g), 0.5 + r) for r in ranks]


def dense(shape: tuple[int, int], count: int = 3, seed: int = 1) -> list[Operator]:
    g = torch.Generator().manual_seed(seed)
    return [Dense(torch.randn(shape, generator=g)) for _ in range(count)]


def composed(name: str, ops: list[Operator], weights: list[float], **config: Any) -> Tensor:
    strategy = strategies.get(name)
    made = strategy.make(ops, weights, strategy.config(config), Place("layer", SEED), None, None)
    return made.operator.dense(torch.float64)


def whole(ops: list[Operator]) -> list[Tensor]:
    """The deltas as the strategies' element-wise work sees them: fp32, then exact in fp64."""
    return [op.dense(torch.float32).double() for op in ops]


def top(D: Tensor, share: float) -> Tensor:
    k = max(1, round(share * D.numel()))
    edge = D.abs().flatten().sort(descending=True).values[k - 1]
    return torch.where(D.abs() >= edge, D, 0.0)


def elected(parts: list[Tensor], weights: list[float], lam: float) -> Tensor:
    """TIES' election and mean, one element at a time."""
    out = torch.zeros(parts[0].shape, dtype=torch.float64)
    for at in range(out.numel()):
        values = [(w * D.flatten()[at].item(), abs(w)) for D, w in zip(parts, weights, strict=True)]
        sign = math.copysign(1.0, sum(v for v, _ in values)) if sum(v for v, _ in values) else 0.0
        agreeing = [(v, w) for v, w in values if v * sign > 0]
        if agreeing:
            out.view(-1)[at] = lam * sum(v for v, _ in agreeing) / sum(w for _, w in agreeing)
    return out


def stays(number: int, shape: tuple[int, int]) -> Tensor:
    """The uniform numbers in [0, 1) behind the mask of input `number`."""
    bits = stream.integers(SEED, f"layer:{number}", math.prod(shape)).view(shape)
    return (bits.double() + 2.0**63) * 2.0**-64


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
class TestElements:
    def test_ties(self, shape: tuple[int, int], weights: list[float]) -> None:
        ops = low(shape)
        want = elected([top(D, 0.3) for D in whole(ops)], weights, 1.5)
        torch.testing.assert_close(composed("ties", ops, weights, density=0.3, lam=1.5), want, rtol=1e-5, atol=1e-5)

    def test_magnitude_prune(self, shape: tuple[int, int], weights: list[float]) -> None:
        ops = dense(shape)
        want = sum(w * top(D, 0.4) for D, w in zip(whole(ops), weights, strict=True))
        found = composed("magnitude-prune", ops, weights, density=0.4)
        torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)

    def test_dare_given_the_mask(self, shape: tuple[int, int], weights: list[float]) -> None:
        ops = low(shape)
        masks = [stays(i, shape) < 0.25 for i in range(3)]
        want = sum(w * D * m / 0.25 for D, m, w in zip(whole(ops), masks, weights, strict=True))
        torch.testing.assert_close(composed("dare", ops, weights, density=0.25), want, rtol=1e-5, atol=1e-4)

    def test_dare_ties_given_the_mask(self, shape: tuple[int, int], weights: list[float]) -> None:
        ops = low(shape)
        thinned = [D * (stays(i, shape) < 0.4) / 0.4 for i, D in enumerate(whole(ops))]
        found = composed("dare-ties", ops, weights, density=0.4, lam=0.9)
        torch.testing.assert_close(found, elected(thinned, weights, 0.9), rtol=1e-5, atol=1e-4)

    def test_della_given_the_numbers(self, shape: tuple[int, int], weights: list[float]) -> None:
        ops, n = dense(shape), shape[1]
        parts = []
        for i, D in enumerate(whole(ops)):
            bits = stream.integers(SEED, f"layer:{i}", math.prod(shape)).view(shape)
            drawn = ((bits >> 11) & (2**53 - 1)).double() * 2.0**-53
            rank = D.abs().argsort(1, descending=True).argsort(1)
            chance = 1 - ((1 - 0.5) - 0.3 / 2 + 0.3 * rank / n)
            parts.append(torch.where(drawn < chance, D / chance, 0.0))
        found = composed("della", ops, weights, density=0.5, epsilon=0.3)
        torch.testing.assert_close(found, elected(parts, weights, 1.0), rtol=1e-5, atol=1e-5)

    def test_breadcrumbs(self, shape: tuple[int, int], weights: list[float]) -> None:
        ops = dense(shape)
        want = torch.zeros(shape, dtype=torch.float64)
        for D, w in zip(whole(ops), weights, strict=True):
            order = D.abs().flatten().argsort()
            kept = order[D.numel() - round(0.6 * D.numel()) : D.numel() - round(0.1 * D.numel())]
            want.view(-1)[kept] += 0.3 * w * D.flatten()[kept]
        found = composed("breadcrumbs", ops, weights, beta=0.4, gamma=0.9, alpha=0.3)
        torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)


def svd(D: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Without directions of zero."""
    U, S, V = torch.linalg.svd(D, full_matrices=False)
    k = int((1e-9 * S[0] < S).sum())
    return U[:, :k], S[:k], V[:k]


def nearest(M: Tensor) -> Tensor:
    U, _, V = torch.linalg.svd(M, full_matrices=False)
    return U @ V


def exact(ops: list[Operator]) -> list[Tensor]:
    return [op.dense(torch.float64) for op in ops]


@pytest.mark.parametrize("kind", [low, dense], ids=["low-rank", "dense"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
class TestCore:
    """In the core space as on the dense deltas."""

    def test_iso_c(self, kind: Any, shape: tuple[int, int], weights: list[float]) -> None:
        ops = kind(shape)
        U, S, V = svd(sum(w * D for D, w in zip(exact(ops), weights, strict=True)))
        torch.testing.assert_close(
            composed("iso-c", ops, weights, alpha=1.3), 1.3 * S.mean() * U @ V, rtol=1e-5, atol=1e-5
        )

    def test_iso_cts(self, kind: Any, shape: tuple[int, int], weights: list[float]) -> None:
        ops = kind(shape)
        scaled = [w * D for D, w in zip(exact(ops), weights, strict=True)]
        U, S, V = svd(sum(scaled))
        own = round((len(S) - int(len(S) * 0.5)) / 3)
        k = len(S) - 3 * own
        us, ss, vs = [U[:, :k]], [S[:k]], [V[:k]]
        for D in scaled:
            u, s, v = torch.linalg.svd(D - U[:, :k] @ U[:, :k].T @ D, full_matrices=False)
            us, ss, vs = [*us, u[:, :own]], [*ss, s[:own]], [*vs, v[:own]]
        want = torch.cat(ss).mean() * nearest(torch.cat(us, 1)) @ nearest(torch.cat(vs))
        torch.testing.assert_close(composed("iso-cts", ops, weights, common=0.5), want, rtol=1e-5, atol=1e-5)

    def test_tsv(self, kind: Any, shape: tuple[int, int], weights: list[float]) -> None:
        ops = kind(shape)
        parts = []
        for D, w in zip(exact(ops), weights, strict=True):
            U, S, V = svd(w * D)
            k = max(1, len(S) // 3)
            parts.append((U[:, :k], S[:k], V[:k]))
        U, S, V = (
            torch.cat([p[0] for p in parts], 1),
            torch.cat([p[1] for p in parts]),
            torch.cat([p[2] for p in parts]),
        )
        want = nearest(U) @ S.diag() @ nearest(V)
        torch.testing.assert_close(composed("tsv", ops, weights), want, rtol=1e-5, atol=1e-5)

    def test_knots(self, kind: Any, shape: tuple[int, int], weights: list[float]) -> None:
        ops = kind(shape)
        U, S, V = svd(torch.cat(exact(ops), 1))
        merged = elected([top(part, 0.3) for part in V.split(shape[1], 1)], weights, 1.0)
        found = composed("knots", ops, weights, density=0.3)
        torch.testing.assert_close(found, U @ S.diag() @ merged, rtol=1e-4, atol=1e-4)

    def test_linear_and_cat_are_the_sum(self, kind: Any, shape: tuple[int, int], weights: list[float]) -> None:
        ops = kind(shape)
        want = sum(w * D for D, w in zip(exact(ops), weights, strict=True))
        for name in ("linear", "cat", "task-arithmetic"):
            torch.testing.assert_close(composed(name, ops, weights), want, rtol=1e-6, atol=2e-6)

    def test_svd_is_the_optimum(self, kind: Any, shape: tuple[int, int], weights: list[float]) -> None:
        ops = kind(shape)
        want = sum(w * D for D, w in zip(exact(ops), weights, strict=True))
        made = strategies.get("svd").make(ops, weights, None, Place("layer"), 2, None)
        best = float(torch.linalg.svdvals(want)[2:].norm())
        found = float((made.operator.dense(torch.float64) - want).norm())
        assert found == pytest.approx(best, rel=1e-5)
        assert math.sqrt(made.wrong) == pytest.approx(best, rel=1e-5)
        assert math.sqrt(made.size) == pytest.approx(float(want.norm()), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
class TestGeometry:
    def test_slerp(self, shape: tuple[int, int]) -> None:
        ops = low(shape, (2, 3))
        a, b = exact(ops)
        angle = torch.acos((a * b).sum() / a.norm() / b.norm())
        want = (torch.sin(0.7 * angle) * a + torch.sin(0.3 * angle) * b) / torch.sin(angle)
        torch.testing.assert_close(composed("slerp", ops, [0.7, 0.3]), want, rtol=1e-5, atol=1e-5)

    def test_karcher(self, shape: tuple[int, int]) -> None:
        """The mean on the sphere, by small steps along the tangent on dense vectors."""
        ops, weights = low(shape), torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
        units = [D.flatten() / D.norm() for D in exact(ops)]
        x = sum(w * u for u, w in zip(units, weights, strict=True))
        x = x / x.norm()
        for _ in range(3000):
            pull = torch.zeros_like(x)
            for u, w in zip(units, weights, strict=True):
                angle = torch.acos((x @ u).clamp(-1, 1))
                pull += w * angle / torch.sin(angle) * (u - torch.cos(angle) * x)
            x = x + 0.05 * pull
            x = x / x.norm()
        size = sum(w * D.norm() for D, w in zip(exact(ops), weights, strict=True))
        found = composed("karcher", ops, weights.tolist())
        torch.testing.assert_close(found, (size * x).view(shape), rtol=1e-4, atol=1e-5)

    def test_regmean(self, shape: tuple[int, int], tmp_path: Path) -> None:
        ops, weights = low(shape), [0.5, 0.2, 0.3]
        g = torch.Generator().manual_seed(5)
        X = [torch.randn(40, shape[1], generator=g, dtype=torch.float64) for _ in ops]
        save_file({f"layer:{i}": x.T @ x for i, x in enumerate(X)}, tmp_path / "grams.safetensors")
        G = [0.9 * x.T @ x + 0.1 * (x.T @ x).diagonal().diag() for x in X]
        upper = sum(w * D @ own for D, own, w in zip(exact(ops), G, weights, strict=True))
        want = upper @ torch.linalg.inv(sum(w * own for own, w in zip(G, weights, strict=True)))
        found = composed("regmean", ops, weights, grams=str(tmp_path / "grams.safetensors"))
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)

    def test_regmean_without_shrinking_is_the_least_squares_fit(self, shape: tuple[int, int], tmp_path: Path) -> None:
        ops = low(shape, (2, 2))
        g = torch.Generator().manual_seed(6)
        X = [torch.randn(50, shape[1], generator=g, dtype=torch.float64) for _ in ops]
        save_file({f"layer:{i}": x.T @ x for i, x in enumerate(X)}, tmp_path / "grams.safetensors")
        stacked, outputs = torch.cat(X), torch.cat([x @ D.T for x, D in zip(X, exact(ops), strict=True)])
        want = torch.linalg.lstsq(stacked, outputs).solution.T
        found = composed("regmean", ops, [1.0, 1.0], grams=str(tmp_path / "grams.safetensors"), alpha=1.0)
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)


def test_fedex_is_mean_factors_and_their_residue() -> None:
    ops, weights = low((12, 7), (3, 3, 3)), [0.2, 0.3, 0.5]
    B = sum(w * op.scale * op.B.double() for op, w in zip(ops, weights, strict=True))  # type: ignore[attr-defined]
    A = sum(w * op.A.double() for op, w in zip(ops, weights, strict=True))  # type: ignore[attr-defined]
    strategy = strategies.get("fedex")
    found = strategy.combine(ops, weights, strategy.config({}), Place("layer"))
    torch.testing.assert_close(found.B[:, :3].double(), B, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.A[:3].double(), A, rtol=1e-5, atol=1e-5)
    want = sum(w * D for D, w in zip(exact(ops), weights, strict=True))
    torch.testing.assert_close(found.dense(torch.float64), want, rtol=1e-5, atol=1e-5)
    residue = want - B @ A
    cut = strategy.combine(ops, weights, strategy.config({"residue": 2}), Place("layer"))
    best = float(torch.linalg.svdvals(residue)[2:].norm())
    assert float((cut.dense(torch.float64) - want).norm()) == pytest.approx(best, rel=1e-4)


def test_lego_is_the_means_of_the_closest_units() -> None:
    """Two units that are clearly one another's neighbours, one apart: the clusters are known without k-means."""
    g = torch.Generator().manual_seed(0)
    far, near = torch.randn(9, generator=g) * 10, torch.randn(9, generator=g)
    units = [torch.stack([far, near]), torch.stack([near + 0.01, -far])]
    ops: list[Operator] = [LowRank(u[:, :4].T.contiguous(), u[:, 4:].contiguous()) for u in units]
    found = composed("lego", ops, [1.0, 1.0], k=3)
    middle = near + 0.005
    mean = middle * (near.norm() + (near + 0.01).norm()) / 2 / middle.norm()
    rows = [far, mean, -far]
    want = sum(torch.outer(u[:4], u[4:]) for u in rows) * math.sqrt(2 / 3)
    torch.testing.assert_close(found, want.double(), rtol=1e-4, atol=1e-4)


def test_lego_with_a_cluster_for_each_unit_is_the_sum_but_for_its_scale() -> None:
    ops = low((12, 7), (2, 3))
    want = sum(exact(ops))
    torch.testing.assert_close(composed("lego", ops, [1.0, 1.0], k=5, reweight=False), want, rtol=1e-5, atol=1e-5)
    assert torch.linalg.matrix_rank(composed("lego", ops, [1.0, 1.0])).item() == 2
