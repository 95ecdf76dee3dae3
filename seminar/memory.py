"""When memory runs out: the errors that say so, of Python, numpy, torch on a CPU and torch on a GPU; no others."""

from __future__ import annotations

import re
import sys

# for want of the host's memory torch raises a plain RuntimeError; the second is of a tensor of more than 2^63 bytes
_HOST = ("DefaultCPUAllocator: can't allocate memory", "Storage size calculation overflowed")
_BYTES = re.compile(r"tried to allocate (\d+) bytes")
_TOLD = re.compile(r"[Tt]ried to allocate ([\d.]+ .?i?B)|Unable to allocate ([\d.]+ .?i?B)")  # CUDA; numpy


def wanted(error: BaseException) -> str | None:
    """How much memory there was none of, in words that may be empty; None: the error is another."""
    if not isinstance(error, MemoryError) and not _of_torch(error):
        return None
    if found := _BYTES.search(str(error)):
        return f", {_in_words(int(found[1]))} wanted at once"
    found = _TOLD.search(str(error))
    return f", {found[1] or found[2]} wanted at once" if found else ""


def _of_torch(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # one that was never imported has raised nothing
    return torch is not None and (isinstance(error, torch.OutOfMemoryError) or any(t in str(error) for t in _HOST))


def _in_words(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} EiB"
