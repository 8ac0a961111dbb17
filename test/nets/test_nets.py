"""Encoders and heads: shapes, what they are invariant to, what they see."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from difftop_ros.nets import (
    ChunkCost,
    ConditionalUnet,
    GaussianHead,
    ImageEncoder,
    MixtureHead,
    ObservationEncoder,
    PointCloudEncoder,
    PointTokenEncoder,
    ResNet18Encoder,
    RolloutCost,
    mlp,
)
from difftop_ros.nets.point_tokens import spread

SPEC = {"joints": ("vector", (5,)), "cloud": ("cloud", (40, 6)), "picture": ("image", (32, 24, 3))}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def frames(batch: int, steps: int) -> dict[str, torch.Tensor]:
    return {key: torch.randn(batch, steps, *shape) for key, (_, shape) in SPEC.items()}


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (3, 2)])
def test_observations_become_one_latent(batch: int, steps: int) -> None:
    encoder = ObservationEncoder(SPEC, steps, 24, (8, 16), (4, 8, 8), 4, "cnn", 10.0)
    obs = frames(batch, steps)
    features = encoder(obs)
    assert features.shape == (batch, 24) and torch.isfinite(features).all()
    for key in SPEC:
        for step in range(steps):
            other = {k: v.clone() for k, v in obs.items()}
            other[key][:, step] += torch.randn_like(other[key][:, step])
            assert not torch.allclose(encoder(other), features), f"frame {step} of {key} is not seen"


def test_the_order_of_points_means_nothing() -> None:
    encoder = PointCloudEncoder(3, (16, 32), 8, 24)
    cloud = torch.randn(4, 50, 3)
    shuffled = cloud[:, torch.randperm(50)]
    assert torch.allclose(encoder(cloud), encoder(shuffled), atol=1e-5)
    assert torch.allclose(encoder(cloud), encoder(torch.cat([cloud, cloud], 1)), atol=1e-5), "nor does repeating all"
    assert not torch.allclose(encoder(cloud), encoder(cloud + 0.1), atol=1e-3)


def test_tokens_see_shape_and_place_and_no_order() -> None:
    encoder = PointTokenEncoder(4, (16, 32), 8, 6, 8, 24).eval()
    cloud = torch.randn(4, 50, 4)
    found = encoder(cloud)
    assert found.shape == (4, 24)
    assert torch.allclose(found, encoder(cloud[:, torch.randperm(50)]), atol=1e-5)
    assert torch.allclose(encoder(cloud[1:2]), found[1:2], atol=1e-5), "each cloud for itself"
    for moved in (cloud + torch.tensor([0.1, 0.0, 0.0, 0.0]), cloud * torch.tensor([1.0, 1.0, 1.0, 2.0])):
        assert not torch.allclose(found, encoder(moved), atol=1e-3)
    bent = cloud.clone()
    bent[:, ::2, 2] += 0.3
    assert not torch.allclose(found, encoder(bent), atol=1e-3)
    assert torch.isfinite(encoder(torch.zeros(2, 50, 4))).all(), "all points in one place, as after many were dropped"
    assert encoder(torch.randn(2, 5, 4)).shape == (2, 24), "fewer points than tokens and neighbours"


def test_centres_are_spread() -> None:
    cloud = torch.cat([torch.randn(1, 60, 3) * 0.01, torch.randn(1, 20, 3) * 0.01 + 3.0], dim=1)
    taken = spread(cloud, 8)[0].tolist()
    assert len(set(taken)) == 8
    assert (taken[0] >= 60) != (taken[1] >= 60), "one in either heap first"


def test_a_keypoint_follows_its_points() -> None:
    encoder = PointCloudEncoder(3, (16, 32), 8, 24)
    cloud = torch.randn(2, 50, 3)
    weights = encoder.attention(encoder.points(cloud)).softmax(dim=1)
    assert torch.allclose(weights.sum(1), torch.ones(2, 8), atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (32, 24), (33, 47)])
def test_pictures_of_any_size(size: Any) -> None:
    encoder = ImageEncoder(3, (4, 8, 8), 6, 24, 10.0)
    picture = torch.rand(2, 3, *size) - 0.5
    assert encoder(picture).shape == (2, 24)


def test_a_picture_encoder_tells_where() -> None:
    encoder = ImageEncoder(3, (4, 8, 8), 6, 24, 10.0)
    picture = torch.zeros(2, 3, 32, 32)
    picture[0, :, 4:10, 4:10] = picture[1, :, 20:26, 20:26] = 0.5
    features = encoder(picture)
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_untrained_keypoints_of_a_sharp_encoder_already_follow_the_picture() -> None:
    blob = torch.zeros(2, 3, 60, 60)
    blob[0, :, 5:20, 5:20] = blob[1, :, 40:55, 40:55] = 1

    def moved(sharpness: float) -> float:
        torch.manual_seed(0)
        where = ImageEncoder(3, (4, 8, 8), 6, 24, sharpness).pooled(blob)[:, :12]
        return float((where[0] - where[1]).abs().mean())

    assert moved(10.0) > 5 * moved(1.0)


def test_a_cost_is_never_negative_and_depends_on_its_context() -> None:
    cost = ChunkCost(12, 9, 16, 8)
    actions, features = torch.randn(5, 4, 3), torch.randn(5, 9)
    value = cost(actions, cost.prepare(features))
    assert value.shape == (5,) and (value >= 0).all()
    assert not torch.allclose(value, cost(actions, cost.prepare(features + 1)))
    assert not torch.allclose(value, cost(actions + 1, cost.prepare(features)))


def test_a_gaussian_head_keeps_its_variance_in_bounds() -> None:
    head = GaussianHead(6, 16, 3)
    with torch.no_grad():
        mean, log_variance = head(1e4 * torch.randn(50, 6))
    assert mean.shape == log_variance.shape == (50, 3)
    assert float(log_variance.min()) >= -8 and float(log_variance.max()) <= 4


def test_a_perceptron_starts_at_its_gain() -> None:
    quiet, loud = mlp([4, 8, 2], final_gain=1e-3), mlp([4, 8, 2])
    x = torch.randn(20, 4)
    assert quiet(x).abs().max() < 0.05 < loud(x).abs().max()


def test_resnet_18_has_its_size_and_sees_pictures_of_any_size() -> None:
    with torch.device("meta"):
        whole = ResNet18Encoder(3, 64)
    convolutions = [m for m in whole.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 1 + 16 + 3, "stem, 8 blocks of two, 3 shortcuts"
    backbone = sum(p.numel() for p in whole.stem.parameters()) + sum(p.numel() for p in whole.stages.parameters())
    assert backbone == 11_176_512, "ResNet-18 without its classifier"
    encoder = ResNet18Encoder(3, 24, width=8)
    for size in ((32, 24), (33, 47)):
        assert encoder(torch.rand(2, 3, *size) - 0.5).shape == (2, 24)
    picture = torch.rand(2, 3, 32, 32) - 0.5
    assert torch.allclose(encoder(picture)[:1], encoder(picture[:1]), atol=1e-5), "no batch statistics"


def test_several_cameras_have_encoders_of_their_own() -> None:
    spec = dict.fromkeys(("front", "wrist"), ("image", (32, 32, 3)))
    encoder = ObservationEncoder(spec, 2, 24, (8, 16), (4, 8, 8), 4, "resnet18", 10.0)
    first, second = encoder.encoders["front"], encoder.encoders["wrist"]
    assert isinstance(first, ResNet18Encoder) and isinstance(second, ResNet18Encoder) and first is not second
    pictures = {name: torch.rand(1, 2, 32, 32, 3) - 0.5 for name in spec}
    swapped = {"front": pictures["wrist"], "wrist": pictures["front"]}
    assert not torch.allclose(encoder(pictures), encoder(swapped), atol=1e-4)


def test_half_precision_is_of_training_alone_and_gives_nearly_the_same_gradients() -> None:
    torch.manual_seed(0)
    encoder, clouds = PointCloudEncoder(3, (32, 64), 8, 24), torch.randn(20, 300, 3)

    def gradients(half: bool) -> tuple[torch.Tensor, torch.Tensor]:
        encoder.in_bfloat16 = half
        encoder.zero_grad()
        out = encoder(clouds)
        (out * torch.linspace(-1, 1, 24)).sum().backward()
        return out.detach(), torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])

    (full, exact), (rough, near) = gradients(False), gradients(True)
    assert rough.dtype == near.dtype == torch.float32
    assert 0 < float((rough - full).abs().max()) < 0.1
    assert float(torch.nn.functional.cosine_similarity(exact, near, dim=0)) > 0.99
    encoder.eval()
    assert torch.equal(encoder(clouds), full), "a plan is made in float32"


@pytest.mark.parametrize("horizon", [1, 2, 5, 8, 16])
def test_a_unet_takes_chunks_of_any_length(horizon: int) -> None:
    net = ConditionalUnet(3, 7, 16)
    chunk, features = torch.randn(2, horizon, 3), torch.randn(2, 7)
    levels = torch.tensor([0, 60])
    out = net(chunk, levels, features)
    assert out.shape == chunk.shape and torch.isfinite(out).all()
    assert not torch.allclose(out, net(chunk, levels.flip(0), features), atol=1e-4), "the noise level matters"
    assert not torch.allclose(out, net(chunk, levels, features + 1), atol=1e-4), "the observation matters"
    assert torch.allclose(out[:1], net(chunk[:1], levels[:1], features[:1]), atol=1e-5)


def test_a_mixture_head_gives_log_weights_and_bounded_variances() -> None:
    with torch.no_grad():
        weights, means, log_variances = MixtureHead(6, 16, 3, 4)(1e3 * torch.randn(20, 6))
    assert means.shape == log_variances.shape == (20, 4, 3)
    assert torch.allclose(weights.exp().sum(1), torch.ones(20), atol=1e-5)
    assert float(log_variances.min()) >= -8 and float(log_variances.max()) <= 4


def test_a_rollout_cost_sees_every_action_and_the_code() -> None:
    cost = RolloutCost(2, 9, 3, 8, 16, 4)
    state, action, latent = cost.start(torch.randn(5, 9)), torch.randn(5, 2), torch.randn(5, 3)
    assert cost.dynamics(state, action, latent).shape == state.shape
    stage, final = cost.stage(state, action, latent), cost.final(state, latent)
    assert stage.shape == final.shape == (5,) and (stage <= 0).all() and (final <= 0).all()
    assert not torch.allclose(stage, cost.stage(state, action + 1, latent))
    assert not torch.allclose(final, cost.final(state, latent + 1))
