"""The audit is quiet where a sampler is right, and names the contract that a planted error breaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from seminar.main import main
from training import recipes
from training.interop import chain
from verify.audit.adapters.diffusers import SCHEDULERS, Scheduler, read
from verify.audit.contracts import CONTRACTS, audit

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")  # numpy's, of its arrays
SHORT = {"num_train_timesteps": 200, "beta_end": 0.1, "clip_sample": False}


def verdicts(scheduler: Scheduler) -> dict[str, str]:
    return {one.contract: one.verdict for one in audit(scheduler)}


def failed(scheduler: Scheduler) -> set[str]:
    return {contract for contract, verdict in verdicts(scheduler).items() if verdict == "fails"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("variance", [None, "fixed_small", "fixed_large"])
def test_a_right_sampler_breaks_no_contract(kind: str, variance: str | None) -> None:
    name = "DDPMScheduler" if variance else "DDIMScheduler"
    found = verdicts(
        Scheduler(name, SHORT | {"prediction_type": kind} | ({"variance_type": variance} if variance else {}))
    )
    asked = {"chain", "noising", "grid", "predictions", "table", "last step", "numbers", "clipping", "start"}
    asked |= {"law"} if variance else set()
    assert {contract for contract, verdict in found.items() if verdict == "holds"} >= asked - {"law"}, found
    assert "fails" not in found.values() or (variance == "fixed_large" and failed_only(found, "law")), found


def failed_only(found: dict[str, str], contract: str) -> bool:
    return [name for name, verdict in found.items() if verdict == "fails"] == [contract]


@pytest.mark.slow
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("schedule", chain.VARIANCE_PRESERVING)
def test_what_we_export_breaks_none(schedule: str, deterministic: bool) -> None:
    recipe = recipes.change(
        recipes.find("images.fashion-unet"), schedule=schedule, preconditioning="none", parameterization="v"
    )
    found = verdicts(Scheduler(*chain.scheduler_of(recipe, deterministic)))  # type: ignore[arg-type]
    assert {contract for contract, verdict in found.items() if verdict == "fails"} <= {"grid"}, found


KNOWN: list[tuple[str, dict[str, Any], set[str]]] = [
    ("DDPMScheduler", {"timestep_spacing": "trailing", "num_train_timesteps": 1000}, {"grid"}),
    ("DDIMScheduler", {"timestep_spacing": "trailing"}, {"table", "last step"}),
    ("DDIMScheduler", {"timestep_spacing": "linspace"}, {"table"}),
    ("DDIMScheduler", {"set_alpha_to_one": False}, {"table", "last step"}),
    ("DPMSolverMultistepScheduler", {}, {"noising"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings", "broken"), KNOWN)
def test_what_is_known_to_be_wrong_is_found(name: str, settings: dict[str, Any], broken: set[str]) -> None:
    """In diffusers 0.42: a timestep -1, strides that miss the next timestep, ends above the data, noising unasked."""
    assert failed(Scheduler(name, SHORT | settings)) >= broken


def test_a_chain_without_a_timestep_for_noise_only_says_so() -> None:
    assert verdicts(Scheduler("DDIMScheduler", SHORT | {"beta_end": 0.02}))["start"] == "warns"
    assert verdicts(Scheduler("DDIMScheduler", SHORT | {"clip_sample": True}))["clipping"] == "warns"


def wrong_coefficient(scheduler: Any, answer: Any, t: Any, state: Any, generator: Any = None, **_: Any) -> Any:
    moved = RIGHT[type(scheduler)](scheduler, answer, t, state, generator=generator)
    moved.prev_sample = moved.prev_sample * 1.01
    return moved


def other_level(scheduler: Any, answer: Any, t: Any, state: Any, generator: Any = None, **_: Any) -> Any:
    return RIGHT[type(scheduler)](scheduler, answer, max(int(t) - 1, 0), state, generator=generator)


def more_noise(scheduler: Any, answer: Any, t: Any, state: Any, generator: Any = None, **_: Any) -> Any:
    still = RIGHT[type(scheduler)](scheduler, answer, t, state, generator=torch.Generator().manual_seed(0))
    moved = RIGHT[type(scheduler)](scheduler, answer, t, state, generator=generator)
    moved.prev_sample = (
        moved.prev_sample + 0.2 * (moved.prev_sample - still.prev_sample) if int(t) else moved.prev_sample
    )
    return moved


def forgets_v(scheduler: Any, answer: Any, t: Any, state: Any, generator: Any = None, **_: Any) -> Any:
    sign = -1 if scheduler.config.prediction_type == "v_prediction" else 1
    return RIGHT[type(scheduler)](scheduler, sign * answer, t, state, generator=generator)


def last_noisy(scheduler: Any, answer: Any, t: Any, state: Any, generator: Any = None, **_: Any) -> Any:
    moved = RIGHT[type(scheduler)](scheduler, answer, t, state, generator=generator)
    moved.prev_sample = moved.prev_sample + (0.02 if int(t) == 0 else 0) * torch.ones_like(state)
    return moved


def not_a_number(scheduler: Any, answer: Any, t: Any, state: Any, generator: Any = None, **_: Any) -> Any:
    moved = RIGHT[type(scheduler)](scheduler, answer, t, state, generator=generator)
    moved.prev_sample = moved.prev_sample * (torch.nan if len(scheduler.timesteps) == 7 else 1)
    return moved


RIGHT = {kind: kind.step for kind in (DDPMScheduler, DDIMScheduler)}
PLANTED = {
    wrong_coefficient: {"table", "last step"},
    other_level: {"table"},
    forgets_v: {"predictions"},
    last_noisy: {"last step"},
    not_a_number: {"numbers", "table", "last step"},
}


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("step", PLANTED)
def test_a_planted_error_in_the_step_is_found(monkeypatch: pytest.MonkeyPatch, name: str, step: Any) -> None:
    def planted(self: Any, model_output: Any, timestep: Any, sample: Any, generator: Any = None) -> Any:
        return step(self, model_output, timestep, sample, generator)

    monkeypatch.setattr(getattr(diffusers, name), "step", planted)
    assert failed(Scheduler(name, SHORT)) >= PLANTED[step]


@pytest.mark.slow
def test_planted_errors_elsewhere_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        right = DDPMScheduler.add_noise
        patch.setattr(DDPMScheduler, "add_noise", lambda self, x, eps, t: right(self, x, eps, (t + 1).clamp(max=199)))
        assert failed(Scheduler("DDPMScheduler", SHORT)) == {"noising"}
    with monkeypatch.context() as patch:  # no number at one step of the four, the others right
        hole = torch.ones(200).index_fill(0, torch.tensor([1]), torch.nan)
        patch.setattr(DDPMScheduler, "add_noise", lambda self, x, eps, t: right(self, x, eps, t) * hole[t][:, None])
        assert failed(Scheduler("DDPMScheduler", SHORT)) == {"noising"}
    for wrong in (lambda bars: bars.flip(0), lambda bars: bars.sqrt(), lambda bars: bars * 1.001):
        scheduler = Scheduler("DDPMScheduler", SHORT)
        scheduler.stock.alphas_cumprod = wrong(scheduler.stock.alphas_cumprod)
        assert "chain" in failed(scheduler)


def test_the_law_is_asked_of_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth more noise in each step is a tenth more standard deviation in what is drawn."""
    right = DDPMScheduler._get_variance
    monkeypatch.setattr(DDPMScheduler, "_get_variance", lambda self, *a, **k: 1.4 * right(self, *a, **k))
    assert failed(Scheduler("DDPMScheduler", SHORT)) >= {"table", "law"}


def test_the_flow_is_asked_of_the_order() -> None:
    """Euler, taken for a method of order 2."""

    class Boasting(Scheduler):
        @property
        def order(self) -> int:
            return 2

    settings = {"num_train_timesteps": 1000, "timestep_spacing": "leading"}
    assert verdicts(Scheduler("EulerDiscreteScheduler", settings))["flow"] == "holds"
    assert verdicts(Boasting("EulerDiscreteScheduler", settings))["flow"] == "fails"


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_class_is_audited_whole(name: str) -> None:
    """None of them raises, whatever its contracts say, and methods of a higher order come to the flow."""
    found = list(audit(Scheduler(name, {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02})))
    assert [one.contract for one in found] == list(CONTRACTS)
    assert not any(one.why == "it raises" for one in found), found
    assert {one.contract: one.verdict for one in found}["flow"] in ("holds", "not asked")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scheduler" / "scheduler_config.json"
    file.parent.mkdir()
    file.write_text(json.dumps(SHORT | {"_class_name": "DDIMScheduler"}))
    assert main(["audit", str(tmp_path)]) == 0
    assert "DDIMScheduler" in capsys.readouterr().out
    assert main(["audit", str(file), "--json", "--scheduler", "DPMSolverMultistepScheduler"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert {one["contract"] for one in told["findings"] if one["verdict"] == "fails"} >= {"noising"}


BAD = {
    "nothing": (None, "has no scheduler_config.json"),
    "no JSON": ("{", "is no config"),
    "a list": ("[]", "expected a table, got list"),
    "an unknown class": ('{"_class_name": "os.system"}', "scheduler 'os.system': expected DDPMScheduler"),
    "no class": ("{}", "scheduler None: expected DDPMScheduler"),
    "negative T": ('{"_class_name": "DDIMScheduler", "num_train_timesteps": -3}', "does not fit DDIMScheduler"),
    "unknown betas": ('{"_class_name": "DDIMScheduler", "beta_schedule": "x"}', "does not fit DDIMScheduler"),
    "a kind of its own": ('{"_class_name": "DDIMScheduler", "prediction_type": "flow"}', "prediction_type = 'flow'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_a_line(case: str, tmp_path: Path) -> None:
    text, words = BAD[case]
    if text is not None:
        (tmp_path / "scheduler_config.json").write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)
