"""What processes do together, as far as one of them can show it: how a tensor is sent, and which signals ask."""

from __future__ import annotations

import copy
import os
import signal
from typing import Any

import pytest
import torch
import torch.distributed as dist

from training import launch


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
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
