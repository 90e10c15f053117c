from __future__ import annotations

from types import SimpleNamespace

import pytest

from hf_crosstask.training.memory import BYTES, WINDOW, WINDOWS, GrowthAlarm, MemoryMonitor

GIB = 2**30


def messages(readings):
    alarm = GrowthAlarm("memory")
    return [message for step, reading in enumerate(readings, 1) if (message := alarm.add(step, reading))]


def test_a_leak_is_told_with_its_numbers():
    leak = 2 * 2**20
    found = messages(GIB + leak * step + (step % 7) * 100 * 2**20 for step in range(WINDOW * WINDOWS))
    assert len(found) == 1
    assert "2.0 MiB a step" in found[0]
    assert f"step {WINDOW} to" in found[0]


@pytest.mark.parametrize(
    "reading",
    [
        lambda step: GIB + (step % 13) * 200 * 2**20,  # steps differ
        lambda step: GIB + min(step, 2 * WINDOW) * 8 * 2**20,  # caches fill, then it is level
        lambda step: GIB + step * 1000,  # grows, by nothing
        lambda step: 8 * GIB + step * (BYTES // (WINDOW * WINDOWS)),  # by little of what there is
    ],
)
def test_other_courses_are_no_leak(reading):
    assert messages(reading(step) for step in range(6 * WINDOW * WINDOWS)) == []


def test_the_monitor_warns_once(monkeypatch, capsys):
    monitor = MemoryMonitor()
    held = [GIB]
    monkeypatch.setattr(monitor, "_process", SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=held[0])))
    args = SimpleNamespace(device=SimpleNamespace(type="cpu"), process_index=0)
    for step in range(1, 3 * WINDOW * WINDOWS):
        held[0] += 4 * 2**20
        monitor.on_step_end(args, SimpleNamespace(global_step=step, max_steps=10_000), None)
    error = capsys.readouterr().err
    assert error.count("warning: process 0: memory of the process grew") == 1
    assert monitor.warned
