from __future__ import annotations

import dataclasses
import json

import pytest

from hf_crosstask.encoding import EncodingReport


def test_reports_add_up():
    one = EncodingReport(examples=1, rows=2, tokens=30, entities=4, entities_cut=1)
    two = EncodingReport(examples=3, rows=3, tokens=12, entities_misaligned=2, entities_discontinuous=1)
    assert one + two == EncodingReport.merge([one, two, EncodingReport()])
    assert one + two == EncodingReport(
        examples=4,
        rows=5,
        tokens=42,
        entities=4,
        entities_cut=1,
        entities_misaligned=2,
        entities_discontinuous=1,
    )
    assert (one + two).entities_unreachable == 4
    assert EncodingReport.merge([]) == EncodingReport()


def test_reports_are_frozen_and_ready_for_json():
    report = EncodingReport(rows=2)
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()
    assert EncodingReport(**report.as_dict()) == report
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.rows = 3
