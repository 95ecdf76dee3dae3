r"""A step of this suite's loop beside the bare network's and beside its peers': python -m benchmarks.training [--peers]

All train the same diffusers U-Net, each its own copy, on batches of one size. In turn, in a random order, on the same
threads, several steps at a time. Shown are the median time of a step and its quartiles, the median of its ratio to the
bare step of the same round, and on a GPU MFU: the arithmetic of the network's two passes over what it could do.

    bare         forward, squared error, backward and the same fused optimizer, on fixed tensors (training_step.py)
    seminar      training/state.py: data read, scaled, noised; loss, clipping, skipping, EMA every step, log window
    lucidrains   denoising_diffusion_pytorch 2.3.4: its own `Trainer.train()` around its `GaussianDiffusion`, which has
                 the U-Net for its model; EMA every tenth step, as is its default
    diffusers    the loop of diffusers' examples/unconditional_image_generation/train_unconditional.py, which no package
                 holds. Done again here, in its order, with its defaults: randn, randint, add_noise, the model under
                 `accelerator.accumulate`, mse_loss, `accelerator.backward`, `clip_grad_norm_(1.0)`, AdamW, the cosine
                 `lr_scheduler`, zero_grad; `EMAModel.step`, `loss.item()` and the progress bar's update

Both peers are given one batch that lies on the device already; ours reads its data. --peers fetches lucidrains' package
and the two that it needs into .cache/peers, which only this script sees, without their dependencies: torchvision, of
which the Trainer's data set wants transforms that are never called here, is stood in for.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.training_step import bare_step
from training import launch, networks, recipes
from training.feed import Feed
from training.optimization import learning_rate
from training.recipes import Recipe
from training.speed import flops, peak_of
from training.state import State
from training.task import build

PEERS = Path(".cache/peers")
PINNED = ("denoising-diffusion-pytorch==2.3.4", "ema-pytorch==0.8.3", "einops==0.8.2")
RECIPE = "images.fashion-unet"
DRY = {"batch": 16, "channels": (8, 16), "head": 8, "layers": 1}
NEVER = 10**9

Steps = Callable[[int], None]  # makes so many steps


@dataclass(frozen=True)
class Row:
    """One contender: milliseconds of a step, quartiles; the ratio to the bare step; MFU where the peak is known."""

    name: str
    quartiles: tuple[float, float, float]
    ratio: float
    mfu: float | None


def fetch() -> None:
    """Put the peers' packages into a folder of their own."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(PEERS)]
    subprocess.run([*pip, *PINNED], check=True)


def unet(recipe: Recipe) -> nn.Module:
    """The diffusers model that the recipe's network is made of, on the run's device."""
    return networks.make(recipe, recipe.shape).model.to(launch.join().device)  # type: ignore[arg-type, attr-defined, union-attr]


def ours(recipe: Recipe) -> tuple[Steps, Steps, float | None]:
    """The bare step's, the loop's, and MFU at one step a second."""
    processes, built = launch.join(), build(recipe)
    state = State(recipe, 0, processes, processes.accelerator(recipe), built)
    feed, numbers = Feed(built, recipe, 0, processes), itertools.count()
    bare = bare_step(recipe, state, feed)
    # on a CPU the time is the process's own, which would make MFU of what others left of the machine
    peak = peak_of(processes.device, recipe.precision) if processes.device.type == "cuda" else None

    def steps(n: int) -> None:
        for step in itertools.islice(numbers, n):
            state.advance(step, learning_rate(step, recipe), feed(step))

    def bare_steps(n: int) -> None:
        with torch.autocast(processes.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            for _ in range(n):
                bare()

    return bare_steps, steps, peak and flops(state) / peak


class Model(nn.Module):
    """The U-Net as lucidrains' GaussianDiffusion calls a model."""

    self_condition = False

    def __init__(self, unet: nn.Module, channels: int) -> None:
        super().__init__()
        self.unet, self.channels, self.out_dim = unet, channels, channels

    def forward(self, x: Tensor, t: Tensor, condition: None = None) -> Tensor:
        return self.unet(x, t).sample


@contextlib.contextmanager
def no_torchvision() -> Any:
    """While it is imported: a torchvision of nothings. A real one beside another torch would break diffusers too."""
    stub, transforms = ModuleType("torchvision"), ModuleType("torchvision.transforms")
    names = ("Compose", "Lambda", "Resize", "RandomHorizontalFlip", "CenterCrop", "ToTensor")
    vars(transforms).update(dict.fromkeys(names, lambda *_, **__: None))
    vars(stub).update(transforms=transforms, utils=SimpleNamespace())
    sys.modules |= {"torchvision": stub, "torchvision.transforms": transforms}
    try:
        yield
    finally:
        del sys.modules["torchvision"], sys.modules["torchvision.transforms"]


def lucidrains(recipe: Recipe, images: Tensor, folder: Path) -> Steps:
    """`Trainer.train()`, on one batch that comes again and again."""
    sys.path.append(str(PEERS))
    with no_torchvision():
        from denoising_diffusion_pytorch import GaussianDiffusion, Trainer
    for i in range(100):  # it asks for a hundred files, and here opens none
        (folder / f"{i}.png").touch()
    device = launch.join().device
    diffusion = GaussianDiffusion(Model(unet(recipe), images.shape[1]), image_size=images.shape[-1]).to(device)
    trainer = Trainer(
        diffusion, str(folder), train_batch_size=len(images), train_lr=recipe.lr, results_folder=str(folder / "out"),
        calculate_fid=False, save_and_sample_every=NEVER, amp=recipe.precision != "float32",
        mixed_precision_type=recipe.precision if recipe.precision != "float32" else "no",
    )  # fmt: skip
    trainer.dl = itertools.repeat((images + 1) / 2)

    def steps(n: int) -> None:
        trainer.train_num_steps = trainer.step + n
        trainer.train()

    return steps


def diffusers(recipe: Recipe, images: Tensor) -> Steps:
    """The example's loop; see above."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel
    from tqdm.auto import tqdm

    accelerator = Accelerator(mixed_precision="no" if recipe.precision == "float32" else recipe.precision)
    model, noiser = unet(recipe), DDPMScheduler(num_train_timesteps=1000)
    average = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    average.to(accelerator.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    schedule = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=500, num_training_steps=NEVER)
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)

    def steps(n: int) -> None:
        model.train()
        for _ in (bar := tqdm(range(n))):
            noise = torch.randn_like(images)
            timesteps = torch.randint(0, 1000, (len(images),), device=images.device)
            noisy = noiser.add_noise(images, noise, timesteps)
            with accelerator.accumulate(model):
                loss = nn.functional.mse_loss(model(noisy, timesteps).sample.float(), noise)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            average.step(model.parameters())
            bar.set_postfix(loss=loss.detach().item(), lr=schedule.get_last_lr()[0])

    return steps


def milliseconds(run: Steps, n: int, device: torch.device) -> float:
    """Of one step: of the process on a CPU, so that what else runs there counts little; of the clock on a GPU."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = clock()
        run(n)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return 1e3 * (clock() - start) / n


def measure(recipe: Recipe, repeats: int, n: int, peers: bool = True) -> list[Row]:
    """All contenders that are there, each in every round; the first round warms up."""
    device = launch.join().device
    contenders: dict[str, Steps] = {}
    contenders["bare"], contenders["seminar"], arithmetic = ours(recipe)
    images = torch.rand(recipe.batch, *recipe.shape, device=device) * 2 - 1  # type: ignore[attr-defined]
    if peers:
        contenders["diffusers"] = diffusers(recipe, images)
    with tempfile.TemporaryDirectory() as folder:
        if peers and PEERS.exists():
            contenders["lucidrains"] = lucidrains(recipe, images, Path(folder))
        taken: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(repeats + 1):
            for name in random.sample(list(contenders), len(contenders)):
                taken[name].append(milliseconds(contenders[name], n, device))
    rows = []
    for name, times in taken.items():
        low, middle, high = statistics.quantiles(times[1:], n=4)
        ratio = statistics.median(mine / bare for mine, bare in zip(times[1:], taken["bare"][1:], strict=True))
        rows.append(Row(name, (low, middle, high), ratio, arithmetic and arithmetic * 1e3 / middle))
    return rows


def shown(rows: list[Row], recipe: Recipe) -> Table:
    device = launch.join().device
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    title = f"a step of {recipe.name}, batch {recipe.batch}, {recipe.precision} ({where}, torch {torch.__version__})"
    table = Table("", "median ms", "quartiles", "of the bare step", "MFU", title=title)
    for row in rows:
        low, middle, high = row.quartiles
        mfu = "" if row.mfu is None else f"{row.mfu:.1%}"
        table.add_row(row.name, f"{middle:.1f}", f"{low:.1f} - {high:.1f}", f"{row.ratio:.3f}", mfu)
    return table


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    parser.add_argument("--repeats", type=int, default=20, help="rounds (default 20)")
    parser.add_argument("--steps", type=int, default=3, help="steps at a time (default 3)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peers", action="store_true", help="fetch lucidrains' package into .cache/peers first")
    parser.add_argument("--dry", action="store_true", help="a tiny network, two rounds: does it run?")
    options = parser.parse_args(argv)
    if options.repeats < 2 or options.steps < 1:
        parser.error("--repeats must be at least 2 and --steps at least 1")
    torch.set_num_threads(options.threads)
    changes: dict[str, Any] = {"precision": options.precision, "steps": NEVER}
    if options.batch:
        changes["batch"] = options.batch
    recipe = recipes.change(recipes.find("images.digits-unet" if options.dry else options.recipe), **changes)
    if options.dry:
        recipe = recipes.change(recipe, **DRY)
    if options.peers:
        fetch()
    rows = measure(recipe, 2 if options.dry else options.repeats, 1 if options.dry else options.steps)
    Console(width=120).print(shown(rows, recipe))
    if not PEERS.exists():
        print(f"lucidrains' Trainer was left out: --peers fetches it into {PEERS}")


if __name__ == "__main__":
    main()
