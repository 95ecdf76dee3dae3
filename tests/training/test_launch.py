"""What processes do together, as far as one of them can show it: how a tensor is sent, and which signals ask."""

from __future__ import annotations

import copy
import os
import signal
from typing import Any

import accelerate
import pytest
import torch
import torch.distributed as dist

from training import launch, recipes


def test_a_copy_goes_the_way_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in the hosts' memory goes by the hosts' group: a device's, NCCL, takes its own tensors alone."""
    sent: list[tuple[str, int, Any]] = []
    monkeypatch.setattr(dist, "broadcast", lambda tensor, src, group: sent.append((tensor.device.type, src, group)))
    two = copy.copy(launch.join())
    two.count, two.hosts = 2, "hosts"
    two.copy(torch.zeros(2))
    two.copy(torch.zeros(2, device="meta"))  # any device but the hosts' memory
    assert sent == [("cpu", 0, "hosts"), ("meta", 0, None)]
    launch.join().copy(torch.zeros(2))  # alone: nobody to send it to
    assert len(sent) == 2


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_first_signal_asks(which: signal.Signals) -> None:
    before = signal.getsignal(which)
    with launch.interruptible() as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), which)
        assert interrupted()
    assert signal.getsignal(which) is before


def test_a_clusters_warnings_never_abort() -> None:
    """Nor do they make the next Ctrl-C the second one."""
    with launch.interruptible() as interrupted:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGUSR1)
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            pytest.fail("the first Ctrl-C aborted")
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_each_recipe_has_its_own_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the process has trained before; by the names that Accelerate has for them."""
    recipe = recipes.find("toy.ring")
    for precision, name in (("bf16", "bf16"), ("float32", "no"), ("bf16", "bf16")):
        assert launch.join().accelerator(recipes.change(recipe, precision=precision)).mixed_precision == name
    given: list[Any] = []
    monkeypatch.setattr(accelerate, "Accelerator", lambda **how: given.append(how["mixed_precision"]))
    launch.join().accelerator(recipes.change(recipe, precision="fp16"))
    assert given == ["fp16"]  # which a CPU does not have


def test_from_three_processes_on_gradients_are_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(accelerate, "Accelerator", lambda **how: given.extend(how["kwargs_handlers"]))
    several = copy.copy(launch.join())
    for count in (1, 2, 3, 8):
        several.count = count
        several.accelerator(recipes.find("toy.ring"))
    assert [packing.find_unused_parameters for packing in given] == [False, False, True, True]


def test_a_batch_is_cut_into_as_many_parts_as_there_are() -> None:
    recipe, two = recipes.find("toy.ring"), copy.copy(launch.join())
    two.count = 2
    assert two.share(recipes.change(recipe, batch=8, accumulate=2)) == 2
    with pytest.raises(ValueError, match="expected a multiple of 4"):
        two.share(recipes.change(recipe, batch=6, accumulate=2))


@pytest.mark.parametrize("mine, theirs, stops", [(0, 0, False), (1, 0, True), (0, 1, True), (1, 1, True)])
def test_one_vote_stops_all_a_step_later(monkeypatch: pytest.MonkeyPatch, mine: int, theirs: int, stops: bool) -> None:
    """Of two processes, the other's votes added as gloo would."""

    class Summed:
        def __init__(self, votes: torch.Tensor, group: Any, async_op: bool) -> None:
            assert group == "hosts" and async_op
            self.votes = votes

        def wait(self) -> None:
            self.votes += theirs

    monkeypatch.setattr(dist, "all_reduce", Summed)
    two = copy.copy(launch.join())
    two.count, two.hosts = 2, "hosts"
    vote = launch.Vote(two)
    assert not vote(bool(mine))
    assert vote(False) == stops


def test_the_loss_of_another_process_is_told_from_a_mistake() -> None:
    two = copy.copy(launch.join())
    two.count = 2
    for said, processes, error in (
        ("[gloo] Connection closed by peer", two, ValueError),
        ("NCCL communicator was aborted", two, ValueError),
        ("mat1 and mat2 shapes cannot be multiplied", two, RuntimeError),
        ("Connection refused", launch.join(), RuntimeError),
    ):
        with pytest.raises(error, match="go on so" if error is ValueError else said[:10]):  # noqa: SIM117
            with launch.one_ending(processes, lambda: "go on so"):
                raise RuntimeError(said)
