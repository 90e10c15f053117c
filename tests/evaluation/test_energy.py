"""Energy counters: a powercap tree of this test's own, and what this machine has."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
import torch

from hf_crosstask.evaluation.energy import POWERCAP, Counter, EnergyMeter, machine_meter, rapl_counters

RANGE = 262_143_328_850  # microjoules, of a real processor


def zone(root: Path, number: str, name: str, microjoules: int) -> Path:
    """A zone; all zones lie side by side, as in /sys/class/powercap."""
    folder = root / number
    folder.mkdir()
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """A machine of two packages."""
    for number, name in {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "uncore",
        "intel-rapl:0:2": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }.items():
        zone(tmp_path, number, name, 1_000_000)
    (tmp_path / "intel-rapl").mkdir()  # the control type itself
    return tmp_path


def count(powercap: Path, **microjoules: int) -> None:
    for name, value in microjoules.items():
        path = powercap / name.replace("_", ":").replace("rapl", "intel-rapl") / "energy_uj"
        path.with_suffix(".new").write_text(f"{value}\n")
        path.with_suffix(".new").replace(path)  # a reader never sees it empty


def test_packages_and_memory_are_counted_once(powercap):
    meter = EnergyMeter({"cpu": rapl_counters(powercap)})
    meter.start()
    count(powercap, rapl_0=6_000_000, rapl_0_0=4_000_000, rapl_0_1=1_000_000, rapl_0_2=1_500_000, rapl_1=3_000_000)
    count(powercap, rapl_2=50_000_000)
    assert meter.joules["cpu"] == pytest.approx(5 + 0.5 + 2)
    meter.stop()
    count(powercap, rapl_0=9_000_000)
    assert meter.joules["cpu"] == pytest.approx(7.5)  # what comes after is not the run's
    meter.start()
    count(powercap, rapl_0=9_250_000)
    meter.stop()
    assert meter.joules["cpu"] == pytest.approx(7.75)


def test_a_counter_wraps(powercap):
    count(powercap, rapl_0=RANGE - 2_000_000)
    meter = EnergyMeter({"cpu": rapl_counters(powercap)})
    meter.start()
    count(powercap, rapl_0=3_000_000)
    meter.stop()
    assert meter.joules["cpu"] == pytest.approx(5)


def test_counters_are_read_in_between(powercap):
    count(powercap, rapl_1=RANGE - 1_000_000)
    meter = EnergyMeter({"cpu": rapl_counters(powercap)}, every=0.01)
    meter.start()
    for value in (4_000_000, RANGE - 1_000_000, 4_000_000):  # twice around: unseen, it would be once
        count(powercap, rapl_1=value)
        time.sleep(0.3)
    meter.stop()
    assert meter.joules["cpu"] == pytest.approx(RANGE / 1e6 + 5)


def test_what_cannot_be_read_is_not_measured(powercap, tmp_path):
    assert rapl_counters(tmp_path / "absent") == []
    meter = EnergyMeter({"cpu": rapl_counters(powercap), "gpu": []})
    meter.start()
    assert meter.joules == {"cpu": 0.0, "gpu": None}
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    meter.stop()
    assert meter.joules == {"cpu": None, "gpu": None}  # not a part of it
    assert rapl_counters(powercap) == []


def test_counters_of_root_alone(powercap):
    secret = powercap / "intel-rapl:1" / "energy_uj"
    secret.chmod(0)
    if os.geteuid() != 0:
        assert rapl_counters(powercap) == []
        return
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users altogether
        Path(folder).chmod(0o755)
        moved = shutil.copytree(powercap, Path(folder) / "powercap")
        moved.chmod(0o755)
        assert len(rapl_counters(moved)) == 3
        os.seteuid(65534)
        try:
            assert len(list(moved.glob("intel-rapl:*"))) == 6
            assert rapl_counters(moved) == []
        finally:
            os.seteuid(0)


def test_a_counter_that_falls_and_never_wraps_was_reset():
    values = iter([10.0, 12.0, 1.0])
    meter = EnergyMeter({"gpu": [Counter(lambda: next(values))]}, every=60)
    meter.start()
    assert meter.joules == {"gpu": 2.0}
    meter.stop()
    assert meter.joules == {"gpu": None}


def test_this_machine():
    meter = machine_meter(torch.device("cpu"))
    meter.start()
    before = meter.joules["cpu"]
    if before is None:
        zones = [path for path in POWERCAP.glob("intel-rapl:*") if os.access(path / "energy_uj", os.R_OK)]
        assert not zones or len(zones) < len(list(POWERCAP.glob("intel-rapl:*")))
        pytest.skip("this machine has no counter that may be read")
    torch.ones(500, 500) @ torch.ones(500, 500)
    time.sleep(0.1)
    meter.stop()
    used = meter.joules["cpu"]
    assert used is not None
    assert before < used < before + 1000
