"""Everything that is to be seen on a CUDA machine, in one go: python -m benchmarks.gpu     (writes docs/gpu.md)

    agreement    every bound function, its arguments on the device, against its proved formula at 50 digits, in float64
                 and float32, gradients too: verify's own points, references and bounds (verify/agreement.py). They are
                 made for exp, log, ... right to 1 ulp; a GPU's are right to 2 or so, and may take 4 times as much
    gaussian     DDIM with the exact denoiser of N(0, std^2) against its gain in closed form, the product of the cosines
                 of its steps' angles: in float32, and with a denoiser rounded to bf16
    training     benchmarks/training.py, with MFU, in float32 and bf16
    fashion      images.fashion-unet trained for five minutes in bf16, then judged: bits/dim of held-out images, and FID
                 in the features of a classifier of the same images, beside that of the held-out ones
    sampling     images a second by DDIM in 50 steps of that network: plain, as one CUDA graph, and compiled

--dry goes through all of it on small things: does it run? --device cpu --dry is a test of this script (tests/training).
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import importlib
import itertools
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAGE = Path("docs/gpu.md")
COMMAND = "python -m benchmarks.gpu"
STEPS = 50
TRAINED, BITS, RATIO = 300.0, 3.6, 20.0  # seconds; wanted at most: bits/dim, FID over that of held-out images
STDS = (0.5, 1.0, 4.0)
ALLOWED = {"cpu": 1.0, "cuda": 4.0}  # of the bounds of verify/agreement.py


@dataclass
class Part:
    """One part's table: what is wanted of it, its rows, and whether it is as wanted (None: nothing is)."""

    title: str
    wanted: str
    heading: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    met: bool | None = None


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    device: Any
    dry: bool
    folder: Path


# ------------------------------------------------------------------------------------------------ verified functions


def on_device(function: Callable[..., Any], device: Any) -> Callable[..., Any]:
    """The same function, evaluated there: tensors go, and the result comes back."""
    import torch

    @functools.wraps(function)
    def there(*args: Any, **kwargs: Any) -> Any:
        sent = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in kwargs.items()}
        return function(*args, **sent).cpu()

    return there


def agreement(plan: Plan) -> Part:
    """Verdicts by module of diffusion/."""
    from theory.proof import session
    from verify.agreement import cases, judge
    from verify.bindings import DIFFUSION, formula_of, in_module

    allowed = ALLOWED[plan.device.type]
    part = Part("Verified functions on the device",
                f"every function and its gradient within {allowed:g} of verify's bounds, in float64 and float32",
                ("module", "functions", "comparisons", "agree", "worst, of what is allowed"))  # fmt: skip
    for path in session.files():
        session.load(path)
    stems = ["edm", "flow", "ema"] if plan.dry else sorted(path.stem for path in DIFFUSION.glob("[a-z]*.py"))
    refused = []
    for stem in stems:
        importlib.import_module(f"diffusion.{stem}")
        found = [
            judge(case, binding, on_device(binding.function, plan.device))
            for binding in in_module(f"diffusion.{stem}")
            for case in cases(binding, formula_of(binding.claim))
        ]
        if not found:
            continue
        agrees = [verdict for verdict in found if worst(verdict) <= allowed]
        refused += [
            f"{verdict.claim} ({verdict.dtype}): {verdict.status}" for verdict in found if verdict not in agrees
        ]
        part.rows.append(
            (stem, str(len(found) // 2), str(len(found)), str(len(agrees)), f"{max(map(worst, found)):.2f}")
        )
    part.rows += [("refused", "", "", "", words) for words in refused]
    part.met = not refused
    return part


def worst(verdict: Any) -> float:
    """A verdict's largest error in units of what verify allows."""
    from verify.agreement import STABLE

    return max(verdict.worst_bound, verdict.worst_condition / STABLE, verdict.gradient or 0.0)


def gaussian(plan: Plan) -> Part:
    """The sampler's gain on a Gaussian, measured on points that are all alike but for their scale."""
    import torch

    from diffusion import schedules
    from diffusion.sampling import sample
    from training.sampling import table
    from training.times import Span

    wanted = f"float32 within {4 * STEPS} * 2^-24, a bf16 denoiser within {STEPS} * 2^-9"
    part = Part("The exact Gaussian, sampled", wanted,
                ("schedule", "std", "precision", "gain", "measured", "relative error"))  # fmt: skip
    x = torch.linspace(-2, 2, 256, dtype=torch.float64).unsqueeze(1)
    part.met = True
    for name in ("cosine", "flow") if plan.dry else tuple(schedules.SCHEDULES):
        schedule = schedules.SCHEDULES[name]()
        for std in STDS:
            steps = table(schedule, "ddim", STEPS, Span(0.0, 0.99), std)

            def exact(x: Any, t: Any, schedule: Any = schedule, std: float = std) -> Any:
                t = t.to(x.device)
                alpha, sigma = schedule.alpha(t), schedule.sigma(t)
                return (alpha * std**2 / (alpha**2 * std**2 + sigma**2)).to(x) * x

            gain = closed_form(schedule, steps.times, std)
            for precision, allowed in ((torch.float32, 4 * STEPS * 2.0**-24), (torch.bfloat16, STEPS * 2.0**-9)):
                denoise = _rounded(exact, precision)
                moved = sample(denoise, steps, x.to(plan.device, torch.float32)).double().cpu()
                measured = ((moved * x).sum() / (x * x).sum()).item()
                error = abs(measured / gain - 1)
                part.met &= error <= allowed
                kind = str(precision).removeprefix("torch.")
                part.rows.append((name, f"{std:g}", kind, f"{gain:.6f}", f"{measured:.6f}", f"{error:.1e}"))
    return part


def closed_form(schedule: Any, times: Any, std: float) -> float:
    """What DDIM multiplies x by: r_end/r_start prod cos(h), with r and the angles those of (alpha std, sigma)."""
    levels = [(std * schedule.alpha(t).item(), schedule.sigma(t).item()) for t in times]
    angles = [math.atan2(sigma, signal) for signal, sigma in levels]
    turned = math.prod(math.cos(a - b) for a, b in itertools.pairwise(angles))
    return turned * math.hypot(*levels[-1]) / math.hypot(*levels[0])


def _rounded(denoiser: Callable[..., Any], precision: Any) -> Callable[..., Any]:
    return lambda x, t: denoiser(x, t).to(precision).to(x)


# ------------------------------------------------------------------------------------------------ speed and quality


def training(plan: Plan) -> Part:
    """A step, with peers as far as they are there."""
    from benchmarks.training import DRY, NEVER, RECIPE, measure
    from training import recipes

    part = Part("A training step", "", ("precision", "", "median ms", "quartiles", "of the bare step", "MFU"))
    for precision in ("float32",) if plan.dry else ("float32", "bf16"):
        recipe = recipes.change(recipes.find("images.digits-unet" if plan.dry else RECIPE), steps=NEVER)
        recipe = recipes.change(recipe, precision=precision, **(DRY if plan.dry else {"batch": 512}))
        for row in measure(recipe, *((2, 1) if plan.dry else (20, 10)), peers=not plan.dry):
            low, middle, high = row.quartiles
            mfu = "" if row.mfu is None else f"{row.mfu:.1%}"
            part.rows.append((precision, row.name, f"{middle:.2f}", f"{low:.2f} - {high:.2f}", f"{row.ratio:.3f}", mfu))
    return part


def fashion(plan: Plan) -> Part:
    """A run made, and judged."""
    from training import loop, recipes
    from training.evaluation.images import Settings, evaluate_images

    part = Part("Fashion-MNIST" if not plan.dry else "Digits, a few steps",
                f"in 8 minutes: at most {BITS} bits/dim, FID at most {RATIO:g} times that of held-out images",
                ("steps", "seconds", "images/s", "bits/dim, chain", "FID", "FID of held-out images"))  # fmt: skip
    recipe = recipes.find("images.digits-unet" if plan.dry else "images.fashion-unet")
    small = {"steps": 4, "batch": 16, "channels": (8, 16), "head": 8, "log_every": 2}
    recipe = recipes.change(recipe, **small if plan.dry else {"precision": "bf16", "batch": 256, "lr": 2e-3})
    start = time.perf_counter()
    outcome = loop.train(recipe, plan.folder / "run", seconds=None if plan.dry else TRAINED, quiet=True)
    effort: dict[str, Any] = {"fid": False, "bits_n": 8, "chain": 4} if plan.dry else {"n": 5000, "chain": 250}
    report, _ = evaluate_images(outcome.folder, Settings(nfe=False, memorisation=False, **effort))
    seconds = time.perf_counter() - start
    assert report.bits is not None
    row = [str(outcome.steps), f"{seconds:.0f}", f"{outcome.steps * recipe.batch / outcome.seconds:.0f}"]
    row.append(str(report.bits.chain))
    if report.samples is not None and report.held_out is not None:
        ours, theirs = report.samples.distance.fid, report.held_out.fid
        row += [f"{ours:.2f}", f"{theirs:.2f}"]
        part.met = seconds <= 480 and report.bits.chain.value <= BITS and ours <= RATIO * theirs
    part.rows.append(tuple(row) + ("",) * (len(part.heading) - len(row)))
    return part


def sampling(plan: Plan) -> Part:
    """Images a second of the run made before."""
    import torch

    from training import runs

    trained = runs.load(plan.folder / "run")
    network = trained.network.to(plan.device)
    n = 4 if plan.dry else 256
    part = Part(
        f"Sampling: DDIM, {STEPS} steps, {n} images at once", "", ("how", "images/s", "largest difference to plain")
    )
    sampler = trained.sampler("ddim", 2 if plan.dry else STEPS)
    steps = dataclasses.replace(sampler.coefficients, times=sampler.coefficients.times.to(plan.device))
    x = sampler.spread * torch.randn(n, *trained.task.shape, device=plan.device)
    ways: dict[str, Callable[[], Any]] = {"plain": draws(trained, network, steps, x)}
    if plan.device.type == "cuda":
        ways["one CUDA graph"] = captured(ways["plain"])
        ways["compiled"] = draws(trained, torch.compile(copy.deepcopy(network)), steps, x)
    plain = ways["plain"]()
    for name, draw in ways.items():
        drawn = draw()
        rate = n / min(_seconds(draw, plan.device) for _ in range(1 if plan.dry else 5))
        part.rows.append((name, f"{rate:.0f}", f"{(drawn - plain).abs().max().item():.1e}"))
    return part


def draws(trained: Any, network: Any, steps: Any, x: Any) -> Callable[[], Any]:
    """The samples that start at x: nothing in it waits for the device, as all times lie there."""
    import torch

    from diffusion.sampling import sample

    denoiser = trained.task.denoiser(network)

    @torch.no_grad()
    def draw() -> Any:
        return sample(denoiser, steps, x)

    return draw


def captured(draw: Callable[[], Any]) -> Callable[[], Any]:
    """The whole loop as one launch."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # warmed up beside the main stream, as capturing wants it
        for _ in range(3):
            draw()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = draw()

    def replay() -> Any:
        graph.replay()
        return out.clone()

    return replay


def _seconds(draw: Callable[[], Any], device: Any) -> float:
    import torch

    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    draw()
    synchronize()
    return time.perf_counter() - start


# ------------------------------------------------------------------------------------------------ the page

PARTS = {"agreement": agreement, "gaussian": gaussian, "training": training, "fashion": fashion, "sampling": sampling}


NOT_RUN = f"""# On a GPU

**Not run yet: there was no CUDA machine at hand.** No figure on a GPU is claimed anywhere in this suite. On one, this
writes the page:

```
.venv/bin/{COMMAND}
```

It holds every bound function, on the device, against its proved formula; samples the exact Gaussian; times a training
step with MFU, beside its peers' (`python -m benchmarks.training --peers` fetches lucidrains' Trainer); trains and
judges Fashion-MNIST in eight minutes; and times sampling as one CUDA graph and compiled. `--device cpu --dry` goes
through all of it on small things, without a GPU.

Wanted of Fashion-MNIST, and never measured: at most {BITS} bits/dim, and an FID at most {RATIO:g} times that of
held-out images.
"""


def page(parts: list[Part] | None = None, machine: str = "") -> str:
    """The page's text; without parts, that nothing has been run."""
    if parts is None:
        return NOT_RUN
    lines = ["# On a GPU", "", f"`{COMMAND}` on {machine}."]
    for part in parts:
        lines += ["", f"## {part.title}", ""]
        if part.wanted:
            verdict = {None: "not judged", True: "met", False: "**missed**"}[part.met]
            lines += [f"Wanted: {part.wanted}: {verdict}.", ""]
        lines += [_row(part.heading), _row(("---",) * len(part.heading)), *map(_row, part.rows)]
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def machine(device: Any) -> str:
    """Device and versions, in words."""
    import diffusers
    import torch

    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    cuda = f", CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}" if device.type == "cuda" else ""
    versions = f"torch {torch.__version__}{cuda}, diffusers {diffusers.__version__}, Python {platform.python_version()}"
    return f"{name}: {versions}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dry", action="store_true", help="small things: does it run?")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="some parts")
    parser.add_argument("--out", type=Path, help=f"the page ({PAGE}; with --dry, out/gpu.md)")
    options = parser.parse_args(argv)
    if options.device == "cpu" and not options.dry:
        parser.error("--device cpu is for --dry")
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu --dry tries the script itself")
    wanted = [name for name in PARTS if options.only is None or name in options.only]
    if "sampling" in wanted and "fashion" not in wanted:
        parser.error("--only sampling needs fashion, whose run it draws from")
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(torch.device(options.device), options.dry, Path(folder))
        parts = []
        for name in wanted:
            print(f"{name} ...", flush=True)
            parts.append(PARTS[name](plan))
    out = options.out or (Path("out/gpu.md") if options.dry else PAGE)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(parts, machine(plan.device)))
    print(out.read_text())
    return 1 if any(part.met is False for part in parts) else 0


if __name__ == "__main__":
    raise SystemExit(main())
