"""A step never makes the host wait for an accelerator: tried without one, on tensors that have no values.

Torch's device `meta` knows shapes and kinds and nothing else. Whatever would wait for a value (`.item()`, `bool(x)`,
`x[mask]`, a copy to the CPU) can't be had there and raises. A copy to the device waits too, unless it comes from pinned
memory and says `non_blocking`; `Watch` and `Numbers` raise for those.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import optimizer
from torch.overrides import TorchFunctionMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode

from diffusion.sampling import sample
from training import draw, loop, prepared, recipes, sampling, streams
from training.families.toy import Toy
from training.recipes import Recipe
from training.run_folder import RunFolder
from training.state import State
from training.task import Task, build

META = torch.device("meta")
SMALL = {"batch": 4, "steps": 10}
UNET = SMALL | {"channels": (4, 8), "head": 4, "layers": 1}
DIT = SMALL | {"network": "dit", "channels": (8,), "attention": (True,), "head": 4, "layers": 1, "patch": 4}


@dataclass(frozen=True)
class Generator:
    """Stands for a generator of the accelerator's."""

    device: torch.device


class Watch(TorchDispatchMode):
    """Raises for a copy between host and device that is waited for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        came = next((a.device for a in (args[1:2] if name == "copy_" else args[:1]) if isinstance(a, Tensor)), None)
        if name in ("_to_copy", "copy_") and {came, out.device} == {META, torch.device("cpu")}:
            waits = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
            assert not waits, f"{name} of a tensor {list(out.shape)} from {came} to {out.device}"
        return out


class Numbers(TorchFunctionMode):
    """Raises for a number put onto the device: torch copies it from the host, and waits."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        put = func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor)
        assert not (put and out.device == META), f"{args[0]} is put onto the device"
        return out


@pytest.fixture(autouse=True)
def accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """`meta` draws random numbers, and has a fused Adam."""
    for name in ("rand", "randn", "randint"):
        monkeypatch.setattr(torch, name, _drawn(getattr(torch, name)))
    monkeypatch.setattr(streams.Streams, "__call__", _stream(streams.Streams.__call__))
    supported = _foreach_utils._get_fused_kernels_supported_devices()
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: [*supported, "meta"])


def _drawn(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def drawn(*args: Any, generator: Any = None, **kwargs: Any) -> Tensor:
        return draw(*args, generator=None if isinstance(generator, Generator) else generator, **kwargs)

    return drawn


def _stream(make: Callable[..., torch.Generator]) -> Callable[..., Any]:
    def stream(self: streams.Streams, purpose: str, device: Any = None) -> Any:
        there = torch.device(device or self.device) == META
        return Generator(META) if there else make(self, purpose, device)

    return stream


class Alone:
    """The one process of a run on the accelerator: what `state.py` asks of launch.Processes."""

    index, count, main, device = 0, 1, True, META

    def mean(self, *values: Tensor) -> Any:
        return values

    def copy(self, tensor: Tensor) -> None: ...


class Plain:
    """What it asks of Accelerate, which would move the network to a device of this machine."""

    def prepare(self, network: nn.Module, optimizer: Any) -> Any:
        return network, SimpleNamespace(optimizer=optimizer)

    def unwrap_model(self, network: nn.Module, **_: Any) -> nn.Module:
        return network

    def no_sync(self, network: nn.Module) -> Any:
        return contextlib.nullcontext()


def step(recipe: Recipe, task: Task | None = None) -> None:
    """Three steps on the accelerator, the first unwatched: it may put what it needs into place."""
    task = task or build(recipe)
    trained = State(recipe, 0, Alone(), Plain(), task)  # type: ignore[arg-type]
    n = recipe.batch // recipe.accumulate
    for k in range(3):
        shares = []
        for micro in range(recipe.accumulate):
            batch = task.batch(n, streams.Streams(0, k, micro, recipe.accumulate))
            sent = tuple(tensor.to(META) for tensor in batch)
            shares.append((sent, streams.Streams(0, k, micro, recipe.accumulate, META)))
        with contextlib.ExitStack() as watched:
            if k:
                watched.enter_context(Watch())
                watched.enter_context(Numbers())
            trained.advance(k, 1e-3, shares)
    assert next(iter(trained.network.parameters())).device == META


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "samples", lambda *_: None)
        loop.train(recipes.change(recipes.find("toy.ring"), **SMALL | {"width": 8, "depth": 1}), folder, quiet=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, settings",
    [
        ("distill.progressive", {}),
        ("distill.consistency", {}),
        ("distill.consistency", {"from_data": True}),
        ("distill.reflow", {"pairs": 8}),
        ("distill.reflow", {"pairs": 0}),
    ],
    ids=str,
)
def test_distillation(teacher: Path, tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    recipe = recipes.change(recipes.find(name), teacher=str(teacher), **SMALL | settings)
    task: Any = build(recipe)
    prepared.ready(task, RunFolder(tmp_path, recipe, 0))
    step(recipe, task)


KINDS = ("eps", "x0", "v", "score", "velocity")
SCHEDULES = ("vp_linear", "sub_vp", "cosine", "flow", "ve", "edm", "ddpm_linear", "ddpm_cosine")
WEIGHTS = ("plain", "simple", "elbo", "min_snr", "truncated_snr", "p2", "edm", "sigmoid", "laplace")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accumulate": 2},
        {"optimizer": "adamw", "weight_decay": 0.1, "ema": (0.1, 0.05)},
        *({"parameterization": kind} for kind in KINDS),
        *({"schedule": schedule} for schedule in SCHEDULES),
        *({"weights": weights} for weights in WEIGHTS),
    ],
    ids=str,
)
def test_toy(settings: dict[str, Any]) -> None:
    step(recipes.change(recipes.find("toy.ring"), **SMALL | {"width": 8, "depth": 1} | settings))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"classes": 10},
        {"classes": 10} | DIT,
        {"dropout": 0.1, "accumulate": 2},
        {"preconditioning": "none", "parameterization": "eps", "schedule": "ddpm_linear", "times": "chain"},
        {"preconditioning": "edm", "parameterization": "x0", "schedule": "edm", "times": "lognormal"},
        {"times": "logit_normal", "schedule": "flow", "parameterization": "velocity"},
    ],
    ids=str,
)
def test_images(settings: dict[str, Any]) -> None:
    step(recipes.change(recipes.find("images.digits-unet"), **UNET | settings))


def test_classifier() -> None:
    step(recipes.change(recipes.find("classifier.digits"), **SMALL, channels=(4,), features=4))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"classes": 10}, {"schedule": "edm", "parameterization": "x0"}], ids=str)
@pytest.mark.parametrize("solver", ["ddim", "heun", "dpmpp_2m"])
def test_sampling_with_times_on_the_device(solver: str, settings: dict[str, Any]) -> None:
    """What a CUDA graph can hold."""
    task: Any = build(recipes.change(recipes.find("images.digits-unet"), **UNET | settings))
    table = sampling.table(task.schedule, solver, 3, task.span, task.std)
    object.__setattr__(table, "times", table.times.to(META))  # a table looks at its times when it is made
    denoiser, x = task.denoiser(task.network().to(META)), torch.zeros(2, *task.shape, device=META)
    with torch.no_grad():
        sample(denoiser, table, x)
        with Watch(), Numbers():
            assert sample(denoiser, table, x).shape == x.shape


@pytest.mark.parametrize(
    "wait",
    [
        lambda loss: loss * float(loss),
        lambda loss: loss if loss > 0 else -loss,
        lambda loss: loss.cpu().to(META),
        lambda loss: loss[loss > 0].sum(),
        lambda loss: loss * torch.tensor(2.0, device=META),
        lambda loss: loss + torch.ones(3).to(META).sum(),
    ],
    ids=["float", "bool", "cpu", "mask", "number", "copy"],
)
def test_a_step_that_waits_is_noticed(monkeypatch: pytest.MonkeyPatch, wait: Callable[[Tensor], Tensor]) -> None:
    loss = Toy.loss
    monkeypatch.setattr(Toy, "loss", lambda *args: wait(loss(*args)))
    with pytest.raises((AssertionError, NotImplementedError, RuntimeError)):
        step(recipes.change(recipes.find("toy.ring"), **SMALL | {"width": 8, "depth": 1}))


def test_a_copy_that_is_not_waited_for_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = Toy.loss
    monkeypatch.setattr(Toy, "loss", lambda *args: loss(*args) + torch.ones(3).to(META, non_blocking=True).sum())
    step(recipes.change(recipes.find("toy.ring"), **SMALL | {"width": 8, "depth": 1}))
