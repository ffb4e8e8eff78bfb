"""What a machine is: for the ``meta.yaml`` of what was measured on it."""

from __future__ import annotations

# torch is an extra; where it is missing, its types are unknown
# mypy: disable-error-code="import-not-found, no-untyped-call, unused-ignore"
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "onnxruntime", "numpy")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
MIB = 2.0**20
USUAL_CACHE_BYTES = 32 * MIB


def versions(device: str) -> dict[str, str]:
    """Return versions of Python, libraries, and on CUDA of driver and toolkit."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    if device == "cuda":
        import torch

        found["cuda"] = str(torch.version.cuda)
        found["driver"] = _driver()
    return found


def description(device: str) -> dict[str, Any]:
    """Return model, cores, caches and memory of what measures."""
    if device == "cuda":
        return _cuda()
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads_used": 1,
        "caches": _caches(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "clock": "CPU time of one thread",
    }


def last_level_cache_bytes() -> float:
    """Return the size of the processor's largest cache."""
    sizes = [_bytes(text) for text in _caches().values()]
    return max(sizes, default=USUAL_CACHE_BYTES)


def _cuda() -> dict[str, Any]:
    import torch

    facts = torch.cuda.get_device_properties(0)
    return {
        "name": facts.name,
        "devices": torch.cuda.device_count(),
        "multiprocessors": facts.multi_processor_count,
        "memory_bytes": facts.total_memory,
        "l2_cache_bytes": facts.L2_cache_size,
        "clock": "CUDA events around replays of a graph",
    }


def _driver() -> str:
    import subprocess

    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        told = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return next(iter(told.stdout.split()), "unknown")


def _processor() -> str:
    """Name, family and model: hypervisors often tell no more than the maker's name."""
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    except OSError:
        return platform.processor() or platform.machine()
    told = [facts.get("model name", platform.machine())]
    told += [f"{key} {facts[key]}" for key in ("cpu family", "model", "stepping") if key in facts]
    return ", ".join(told)


def _caches() -> dict[str, str]:
    """Sizes of the caches of the first core, by level and kind."""
    found = {}
    for folder in sorted(CACHES.glob("index*")):
        level, kind, size = (
            (folder / name).read_text().strip() for name in ("level", "type", "size")
        )
        found[f"L{level} {kind.lower()}"] = size
    return found


def _bytes(text: str) -> float:
    units = {"K": 2.0**10, "M": MIB, "G": 2.0**30}
    return float(text[:-1]) * units[text[-1]] if text[-1] in units else float(text)
