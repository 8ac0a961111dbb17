"""Points seen from a hand: what moves with the hand looks the same, and a hand that is not there is refused."""

from __future__ import annotations

import pytest
import torch

from difftop_ros.contract import Contract, load_contract
from difftop_ros.paths import share_path
from difftop_ros.policies import PolicyConfig, make_net
from difftop_ros.policies.config import PolicyError

HAND = "hand_x, hand_y,hand_z"


@pytest.fixture
def contract() -> Contract:
    return load_contract(share_path("config/metaworld_cloud.yaml"))


def test_a_cloud_seen_from_the_hand_moves_with_it(contract: Contract) -> None:
    torch.manual_seed(0)
    obs = {"joints": torch.randn(5, 2, 4), "cloud": torch.randn(5, 2, 512, 3)}
    move = torch.randn(5, 1, 3)
    moved = {"joints": obs["joints"].clone(), "cloud": obs["cloud"] + move[:, :, None]}
    moved["joints"][..., :3] += move
    apart = {**obs, "cloud": moved["cloud"]}
    for origin, same in (("", False), (HAND, True)):
        normaliser = make_net(contract, PolicyConfig(obs_steps=2, cloud_origin=origin)).normaliser
        normaliser.fit("cloud", [0.3, 0.2, 0.1], [0.5, 0.5, 0.5])
        seen, with_hand, alone = (normaliser(frames)["cloud"] for frames in (obs, moved, apart))
        assert torch.allclose(seen, with_hand, atol=1e-5) is same
        assert not torch.allclose(seen, alone, atol=1e-2)
    where = (obs["cloud"] - obs["joints"][:, :, None, :3]) / 0.5
    assert torch.allclose(seen, where, atol=1e-5), "each frame from where the hand is in it"


def test_colours_are_not_seen_from_anywhere(contract: Contract) -> None:
    data = contract.to_dict()
    data["observations"]["cloud"] = {"kind": "point_cloud", "topic": "/points", "frame": "world", "color": True}
    coloured = Contract.model_validate(data)
    normaliser = make_net(coloured, PolicyConfig(cloud_origin=HAND)).normaliser
    cloud = torch.rand(3, 1, 512, 6)
    seen = normaliser({"joints": torch.randn(3, 1, 4), "cloud": cloud})["cloud"]
    fixed = make_net(coloured, PolicyConfig()).normaliser({"joints": torch.randn(3, 1, 4), "cloud": cloud})["cloud"]
    assert torch.equal(seen[..., 3:], fixed[..., 3:])


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ("hand_x,hand_y", "expected three"),
        ("hand_x,,hand_z", "expected three"),
        ("hand_x,hand_y,wrist", r"no measured position of \['wrist'\], only of \['gripper', 'hand_x'"),
    ],
)
def test_a_hand_that_is_not_there_is_refused(contract: Contract, origin: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        make_net(contract, PolicyConfig(cloud_origin=origin))


def test_a_hand_needs_a_cloud() -> None:
    contract = load_contract(share_path("config/metaworld_image.yaml"))
    with pytest.raises(PolicyError, match="'metaworld_image' has no point cloud"):
        make_net(contract, PolicyConfig(cloud_origin=HAND))
