"""The energy that a machine uses while something runs, where it has counters that this process may read.

Processors: Linux' powercap files of Intel's and AMD's RAPL counters, which most systems let only root read. GPUs: NVML's
energy counters (NVIDIA, from Volta), where `pynvml` (the distribution `nvidia-ml-py`) is installed. The counters are
those of the whole package or device: whatever else runs there is in them, and memory, disks and fans mostly are not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

POWERCAP = Path("/sys/class/powercap")
#: Why a value is missing.
UNREADABLE, PARTIAL = "no readable counter", "an earlier part of the run was not measured"
#: RAPL counters of 32 bits wrap after minutes at full power: they are read more often than that.
_READ_EVERY = 20.0


@dataclass(frozen=True)
class Counter:
    """A counter of energy that only grows.

    Attributes:
        read: its value in joules; raises OSError where it can no longer be read.
        wraps_at: the value after which it starts from 0; None: never.
    """

    read: Callable[[], float]
    wraps_at: float | None = None


def rapl_counters(powercap: Path = POWERCAP) -> list[Counter]:
    """Counters of all processor packages and the memory on counters of its own (`dram`); empty where one of them cannot
    be read. A package holds its cores and what is beside them (`core`, `uncore`), so these are not counted again; nor are
    the whole platform (`psys`) and the second interface to the same counters (`intel-rapl-mmio`).

    Args:
        powercap: where the system shows them.
    """
    counters = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text(encoding="ascii").strip()
            if not name.startswith("package") and name != "dram":
                continue
            counter = Counter(_microjoules(zone / "energy_uj"), _microjoules(zone / "max_energy_range_uj")())
            counter.read()
        except OSError:
            return []
        counters.append(counter)
    return counters


def _microjoules(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text(encoding="ascii")) / 1e6


def nvml_counters() -> list[Counter]:
    """Counters of the GPUs that torch may use; empty where there is none, one has no counter, or pynvml is missing."""
    import torch

    try:
        import pynvml
    except ModuleNotFoundError:
        return []
    try:
        pynvml.nvmlInit()
        names = [torch.cuda.get_device_properties(index).uuid for index in range(torch.cuda.device_count())]
        counters = [Counter(_millijoules(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{name}"))) for name in names]
        for counter in counters:
            counter.read()
    except (pynvml.NVMLError, OSError):
        return []
    return counters


def _millijoules(nvml: Any, handle: Any) -> Callable[[], float]:
    def read() -> float:
        try:
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        except nvml.NVMLError as error:
            raise OSError(str(error)) from error

    return read


def watt_hours(joules: Mapping[str, float | None]) -> float | None:
    """Of all parts that could be read; None where none could."""
    known = [value for value in joules.values() if value is not None]
    return sum(known) / 3600 if known else None


class EnergyMeter:
    """Sums what counters count between `start` and `stop`, reading them from time to time in a thread.

    Args:
        counters: by part of the machine, such as `cpu` and `gpu`; a part without counters is not measured.
        every: seconds between two readings.
    """

    def __init__(self, counters: Mapping[str, Sequence[Counter]], *, every: float = _READ_EVERY):
        self._counters = {part: tuple(each) for part, each in counters.items()}
        self._every = every
        self._joules: dict[str, float | None] = {part: 0.0 if each else None for part, each in self._counters.items()}
        self._last: dict[Counter, float] = {}
        self._lock = threading.Lock()
        self._stop: threading.Event | None = None

    def start(self) -> None:
        """Start measuring; nothing where it has started already."""
        if self._stop is not None:
            return
        self._last.clear()
        self._read()
        if self._last:
            self._stop = threading.Event()
            threading.Thread(target=self._watch, args=(self._stop,), daemon=True).start()

    def stop(self) -> None:
        """Stop measuring; `joules` stays what it is."""
        if self._stop is not None:
            self._stop.set()
            self._read()
        self._stop = None

    def __enter__(self) -> EnergyMeter:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def joules(self) -> dict[str, float | None]:
        """Joules of each part so far; None where they cannot be read."""
        if self._stop is not None:
            self._read()
        return dict(self._joules)

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(self._every):
            self._read()

    def _read(self) -> None:
        with self._lock:
            for part, counters in self._counters.items():
                for counter in counters:
                    joules = self._joules[part]
                    self._joules[part] = None if joules is None else self._advanced(counter, joules)

    def _advanced(self, counter: Counter, joules: float) -> float | None:
        """A sum with what a counter has grown by; None where that cannot be known."""
        try:
            now = counter.read()
        except OSError:
            return None
        grown = now - self._last.get(counter, now)
        self._last[counter] = now
        if grown >= 0:
            return joules + grown
        return None if counter.wraps_at is None else joules + grown + counter.wraps_at


def machine_meter(device: torch.device) -> EnergyMeter:
    """What can be measured here: the processors, and the GPUs where one is used."""
    counters = {"cpu": rapl_counters()}
    if device.type == "cuda":
        counters["gpu"] = nvml_counters()
    return EnergyMeter(counters)
