"""The scripts that measure run, measure what they say, and the page on GPUs claims nothing that was not seen."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel

from benchmarks import gpu, training
from diffusion import schedules
from training import launch, recipes
from training.sampling import table
from training.times import Span

TINY = recipes.change(recipes.find("images.digits-unet"), steps=training.NEVER, **training.DRY)


def images() -> torch.Tensor:
    return torch.rand(TINY.batch, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def contenders(folder: Path) -> dict[str, Any]:
    _, ours, _ = training.ours(TINY)
    found = {"seminar": ours, "diffusers": training.diffusers(TINY, images())}
    if training.PEERS.exists():
        found["lucidrains"] = training.lucidrains(TINY, images(), folder)
    return found


def test_all_contenders_train_as_many_steps_as_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[bool] = []
    forward = UNet2DModel.forward

    def counted(self: UNet2DModel, *args: Any, **kwargs: Any) -> Any:
        calls.append(self.training)
        return forward(self, *args, **kwargs)

    found = contenders(tmp_path)
    monkeypatch.setattr(UNet2DModel, "forward", counted)
    for name, steps in found.items():
        calls.clear()
        steps(3)
        assert calls == [True] * 3, name


def test_the_ratio_is_to_the_bare_step_of_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"bare": iter([9.0, 1.0, 2.0, 4.0]), "seminar": iter([9.0, 3.0, 5.0, 8.0])}
    monkeypatch.setattr(training, "ours", lambda recipe: ("bare", "seminar", None))
    monkeypatch.setattr(training, "milliseconds", lambda run, n, device: next(told[run]))
    bare, ours = training.measure(TINY, repeats=3, n=1, peers=False)
    assert (bare.ratio, ours.ratio) == (1.0, 2.5)
    assert (bare.quartiles[1], ours.quartiles[1]) == (2.0, 5.0)


@pytest.mark.slow
def test_the_gpu_script_runs_dry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu.main(["--device", "cpu", "--dry", "--out", str(tmp_path / "gpu.md")]) == 0
    told = (tmp_path / "gpu.md").read_text()
    assert told.count("\n## ") == len(gpu.PARTS)
    assert f"torch {torch.__version__}" in told
    assert "**missed**" not in told


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "no CUDA device" in capsys.readouterr().err


def test_the_page_is_what_the_script_writes() -> None:
    told = (Path(__file__).parents[2] / gpu.PAGE).read_text()
    assert told == gpu.page() if "Not run" in told else told.startswith(f"# On a GPU\n\n`{gpu.COMMAND}` on ")


def _plan(folder: Path) -> gpu.Plan:
    return gpu.Plan(launch.join().device, True, folder)


def test_the_gaussian_notices_a_wrong_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's coefficient off by a thousandth in float32, by a fiftieth in bf16."""
    assert gpu.gaussian(_plan(tmp_path)).met

    def off(*args: Any) -> Any:
        found = table(*args)
        return dataclasses.replace(found, denoised=found.denoised * 1.001)

    monkeypatch.setattr("training.sampling.table", off)
    assert not gpu.gaussian(_plan(tmp_path)).met


def test_the_gain_in_closed_form_is_that_of_the_continuous_flow_in_the_limit() -> None:
    schedule = schedules.cosine()
    times = table(schedule, "ddim", 4000, Span(0.0, 0.99), 2.0).times
    first, last = (torch.hypot(2.0 * schedule.alpha(t), schedule.sigma(t)).item() for t in (times[0], times[-1]))
    assert gpu.closed_form(schedule, times, 2.0) == pytest.approx(last / first, rel=1e-3)


@pytest.mark.slow
def test_agreement_notices_a_function_that_is_wrong_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = gpu.on_device
    monkeypatch.setattr(gpu, "on_device", lambda f, device: there(_off(f), device))
    part = gpu.agreement(_plan(tmp_path))
    assert part.met is False
    assert any(row[0] == "refused" for row in part.rows)


def _off(function: Any) -> Any:
    import functools

    return functools.wraps(function)(lambda **arguments: function(**arguments) * (1 + 1e-4))
