"""The benchmark's nets, trained here: a latent world model with twin values and prior, and a learned chunk cost.

`load_forms` is the way in: it trains what is not yet on disk (a minute or so per form on one core, seeded) and returns
the forms, each of which makes a Problem with its starts. What is run on them is in methods.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import trange

from benchmarks.solvers.worlds import PendulumChain, TwoWays
from difftop_ros.nets.heads import ChunkCost, GaussianHead, mlp
from difftop_ros.trajopt import ActionChunk, LatentRollout, Problem, SolverOptions, mean_curvature, solve

LATENT, FEATURES, CODE = 50, 128, 8
SAMPLES = 128  # unseen start states or situations per form


@dataclass(frozen=True)
class Size:
    """One form of the benchmark. kind 'rl': latent rollout; 'il': chunk cost. `steps` of training."""

    kind: str
    horizon: int
    actions: int
    hidden: int
    steps: int


FORMS = {
    "rl-h5-a6": Size("rl", 5, 6, 512, 2500),
    "rl-h16-a14": Size("rl", 16, 14, 512, 2500),
    "il-4x4": Size("il", 4, 4, 256, 600),
    "il-16x7": Size("il", 16, 7, 256, 600),
}
QUICK = {"hidden": 64, "steps": 25}


class RlNet(nn.Module):
    """Latent dynamics, reward, twin values and prior pi of TD-MPC's shape over a fixed random projection."""

    def __init__(self, observations: int, actions: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("projection", torch.randn(observations, LATENT) / observations**0.5)
        self.change = mlp([LATENT + actions, hidden, hidden, LATENT], final_gain=0.1)
        self.reward_net = mlp([LATENT + actions, hidden, hidden, 1], final_gain=0.1)
        self.twins = nn.ModuleList(mlp([LATENT + actions, hidden, hidden, 1], final_gain=0.1) for _ in range(2))
        self.prior = mlp([LATENT, hidden, hidden, actions], final_gain=0.1)

    def encode(self, observation: Tensor) -> Tensor:
        """(B, observations) -> latent (B, 50)."""
        return torch.tanh(2 * observation @ self.projection)

    def dynamics(self, state: Tensor, action: Tensor) -> Tensor:
        """The next latent state (B, 50)."""
        return state + self.change(torch.cat([state, action], 1))

    def reward(self, state: Tensor, action: Tensor) -> Tensor:
        """(B,)."""
        return self.reward_net(torch.cat([state, action], 1)).squeeze(1)

    def values(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Both action values, (B,) each, in units of 20 inside the nets."""
        both = torch.cat([state, action], 1)
        first, second = (20 * net(both).squeeze(1) for net in self.twins)
        return first, second

    def policy(self, state: Tensor) -> Tensor:
        """The prior's action (B, A)."""
        return torch.tanh(self.prior(state))

    def value(self, state: Tensor) -> Tensor:
        """Terminal value (B,): the mean of the twins (their minimum has kinks) at the prior's action."""
        first, second = self.values(state, self.policy(state))
        return 0.5 * (first + second)

    def rollout_prior(self, state: Tensor, horizon: int) -> Tensor:
        """The prior's actions (B, H, A) along the latent dynamics: where the solvers start."""
        actions = []
        for _ in range(horizon):
            actions.append(self.policy(state))
            state = self.dynamics(state, actions[-1])
        return torch.stack(actions, 1)


class IlNet(nn.Module):
    """Base policy, posterior and chunk cost of the conditional VAE, over fixed random features."""

    def __init__(self, context: int, variables: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("projection", 1.5 * torch.randn(context, FEATURES) / context**0.5)
        self.register_buffer("phase", torch.randn(FEATURES))
        self.base = mlp([FEATURES, hidden, variables])
        self.posterior = GaussianHead(FEATURES + variables, hidden, CODE)
        self.cost = ChunkCost(variables, FEATURES + CODE, hidden, 64)

    def features(self, context: Tensor) -> Tensor:
        """(B, context) -> (B, 128)."""
        return torch.tanh(context @ self.projection + self.phase)


@dataclass
class Form:
    """One form with its trained net: a batch of problems and their starts on demand."""

    name: str
    size: Size
    net: nn.Module
    objective: Callable[..., Tensor]
    prepare: Callable[[Tensor], Tensor]
    context: Tensor
    start: Tensor
    proximal: float
    curvature: Tensor | None = None  # (n, n), the mean over other problems of this form; where it helps

    @property
    def variables(self) -> int:
        """Actions of one problem, as numbers."""
        return self.size.horizon * self.size.actions

    def problem(self, rows: Tensor | slice, leaf: bool = False) -> tuple[Problem, Tensor]:
        """The problems of these samples and their starts (B, H, A); with `leaf` their context wants a gradient.

        As in a policy, what does not depend on the actions is computed here, once per solve: `prepare` of the context.
        J = -G + proximal / 2 ||a - start||^2 inside [-1, 1]: the start is the prior's or the base policy's plan.
        """
        context = self.context[rows].clone().requires_grad_(leaf)
        with torch.set_grad_enabled(leaf):
            context = self.prepare(context)
        start = self.start[rows]
        bound = torch.ones(self.size.horizon, self.size.actions, device=start.device)
        return Problem(self.objective, (context,), -bound, bound, start, self.proximal), start

    def parameters(self) -> list[nn.Parameter]:
        """What a loss on the actions trains: the nets the cost is made of."""
        parts = self.net.cost if isinstance(self.net, IlNet) else self.net
        return list(parts.parameters())

    def to(self, device: str) -> Form:
        """The same form on another device."""
        self.net.to(device)
        self.context, self.start = self.context.to(device), self.start.to(device)
        self.curvature = None if self.curvature is None else self.curvature.to(device)
        return self


def load_forms(folder: Path, names: Iterable[str] = FORMS, quick: bool = False, proximal: float = 0.05) -> list[Form]:
    """The named forms, from `folder` if they were trained before with the same sizes, else trained and put there."""
    folder.mkdir(parents=True, exist_ok=True)
    forms = []
    for name in names:
        size = FORMS[name]
        if quick:
            size = Size(**{**asdict(size), **QUICK})
        key = hashlib.sha256(json.dumps(asdict(size)).encode()).hexdigest()[:8]
        make, train = (_make_rl, _train_rl) if size.kind == "rl" else (_make_il, _train_il)
        torch.manual_seed(0)
        net = make(size)
        path = folder / f"net-{name}-{key}.safetensors"
        if path.exists():
            net.load_state_dict(load_file(path))
        else:
            train(name, net, size)
            save_file({k: v.contiguous() for k, v in net.state_dict().items()}, path)
        forms.append(_form(name, size, net, proximal))
    return forms


def _make_rl(size: Size) -> RlNet:
    return RlNet(PendulumChain(size.actions).observations, size.actions, size.hidden)


def _make_il(size: Size) -> IlNet:
    return IlNet(TwoWays(size.horizon, size.actions).context, size.horizon * size.actions, size.hidden)


def _form(name: str, size: Size, net: nn.Module, proximal: float) -> Form:
    """The form with problems of its own, and the mean curvature of others where it is much the same in all."""
    form = _drawn(name, size, net, proximal, 1_000_000)
    if isinstance(net, IlNet):
        problem, start = _drawn(name, size, net, proximal, 2_000_000).problem(slice(0, 64))
        form.curvature = mean_curvature(problem, start, proximal)
    return form


@torch.no_grad()
def _drawn(name: str, size: Size, net: nn.Module, proximal: float, seed: int) -> Form:
    generator = torch.Generator().manual_seed(seed)
    if isinstance(net, RlNet):
        world = PendulumChain(size.actions)
        context = net.encode(world.observe(world.reset(SAMPLES, generator)))
        start = net.rollout_prior(context, size.horizon)
        objective: Callable[..., Tensor] = LatentRollout(net.dynamics, net.reward, net.value, 0.99)
        prepare: Callable[[Tensor], Tensor] = nn.Identity()
    else:
        assert isinstance(net, IlNet)
        situation, _ = TwoWays(size.horizon, size.actions).sample(SAMPLES, generator)
        features = net.features(situation)
        start = net.base(features).view(SAMPLES, size.horizon, size.actions).clamp(-1, 1)
        context = torch.cat([features, torch.randn(SAMPLES, CODE, generator=generator)], 1)
        objective, prepare = ActionChunk(net.cost), net.cost.prepare
    return Form(name, size, net, objective, prepare, context, start, proximal)


def _train_rl(name: str, net: RlNet, size: Size) -> None:
    """Consistency + reward + TD over windows of 3 steps of replayed experience, and a prior that climbs the values."""
    world, generator = PendulumChain(size.actions), torch.Generator().manual_seed(1)
    target = _make_rl(size)
    target.load_state_dict(net.state_dict())
    prior = list(net.prior.parameters())
    model = [p for n, p in net.named_parameters() if not n.startswith("prior")]
    optimizers = torch.optim.Adam(model, 1e-3), torch.optim.Adam(prior, 1e-3)
    envs, window, batch = 64, 3, 32
    state = world.reset(envs, generator)
    replay: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # latent, action, reward, next latent
    progress = trange(size.steps, desc=f"training {name}", mininterval=1.0)
    for step in progress:
        with torch.no_grad():
            for _ in range(window + 1 if step == 0 else 1):
                latent = net.encode(world.observe(state))
                noise = torch.randn(envs, size.actions, generator=generator)
                action = (net.policy(latent) + 0.5 * noise).clamp(-1, 1)
                state, reward = world.step(state, action)
                replay.append((latent, action, reward, net.encode(world.observe(state))))
            if step % 100 == 99:  # some environments start anew; the replay forgets their broken windows
                state[::2], replay = world.reset(len(state[::2]), generator), replay[-2000:]
        first = torch.randint(0, len(replay) - window + 1, (1,), generator=generator).item()
        rows = torch.randint(0, envs, (batch,), generator=generator)
        steps = [tuple(t[rows] for t in replay[int(first) + k]) for k in range(window)]
        loss = _model_loss(net, target, steps)
        optimizers[0].zero_grad(set_to_none=True)
        loss.backward()
        optimizers[0].step()
        latent = steps[0][0]
        climb = -net.value(latent).mean() / 20
        optimizers[1].zero_grad(set_to_none=True)
        climb.backward(inputs=prior)
        optimizers[1].step()
        with torch.no_grad():
            torch._foreach_lerp_(list(target.parameters()), list(net.parameters()), 0.02)
        if step % 50 == 0:
            progress.set_postfix(loss=f"{loss.item():.4f}", value=f"{-20 * climb.item():.2f}")


def _model_loss(net: RlNet, target: RlNet, steps: list[tuple[Tensor, ...]]) -> Tensor:
    predicted, loss = steps[0][0], torch.zeros(())
    for latent, action, reward, following in steps:
        with torch.no_grad():
            aim = reward + 0.99 * torch.minimum(*target.values(following, net.policy(following)))
        loss = loss + 0.5 * (net.reward(predicted, action) - reward).square().mean()
        for value in net.values(latent, action):
            loss = loss + 0.005 * (value - aim).square().mean()
        predicted = net.dynamics(predicted, action)
        loss = loss + 5 * (predicted - following).square().mean()
    return loss


def _train_il(name: str, net: IlNet, size: Size) -> None:
    """The imitation loss of the method, differentiated through the solve: base, optimised chunk, and KL."""
    world, generator = TwoWays(size.horizon, size.actions), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    bound = torch.ones(size.horizon, size.actions)
    progress = trange(size.steps, desc=f"training {name}", mininterval=1.0)
    for step in progress:
        situation, expert = world.sample(64, generator)
        features = net.features(situation)
        base = net.base(features).view_as(expert)
        mean, log_variance = net.posterior(torch.cat([features, expert.flatten(1)], 1))
        noise = torch.randn(mean.shape, generator=generator)
        context = torch.cat([features, mean + noise * (log_variance / 2).exp()], 1)
        problem = Problem(ActionChunk(net.cost), (net.cost.prepare(context),), -bound, bound, base.detach(), 0.05)
        plan = solve(problem, base.detach().clamp(-1, 1), SolverOptions(iterations=8)).actions
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        base_error = (base - expert).square().flatten(1).sum(1).mean()
        error = (plan - expert).square().flatten(1).sum(1).mean()
        loss = base_error + error + 1e-2 * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        if step % 20 == 0:
            progress.set_postfix(base=f"{base_error.item():.3f}", plan=f"{error.item():.3f}")
