"""The cause names a stage, with its evidence, whenever pace is lost."""

from __future__ import annotations

import pytest

from pipeline.keepup.cause import Evidence, pace_cause
from pipeline.keepup.load import StageLoad
from pipeline.keepup.settings import KeepupSettings


def evidence(age: float = 0.3, wait: float = 0.2, service: float = 0.05) -> Evidence:
    return Evidence(30.0, 30.0, 20.0, age, wait, service)


def loads(decode: float, infer: float, publish: float, queue: int = 0) -> list[StageLoad]:
    return [
        StageLoad("decode", decode, 0, 0),
        StageLoad("infer", infer, queue, 8, 2),
        StageLoad("publish", publish, 0, 0),
    ]


@pytest.mark.parametrize(
    ("decode", "infer", "publish", "stage"),
    [(0.97, 0.4, 0.1, "decode"), (0.3, 0.95, 0.1, "infer"), (0.3, 0.9, 0.99, "publish"), (0.2, 0.6, 0.1, "infer")],
)
def test_the_stage_in_the_way_is_named_even_where_none_is_used_up(decode, infer, publish, stage):
    line = pace_cause(loads(decode, infer, publish), evidence(), KeepupSettings())
    assert line.stage == stage
    assert line.text.startswith(f"{stage} is the ")
    assert line.text.endswith("20.0 of 30.0 fps published")


@pytest.mark.parametrize(("upstream", "suspect"), [(1.2, "(camera or network)"), (12.0, "its clock is behind")])
def test_pictures_that_reach_us_old_name_the_camera_and_from_two_seconds_on_its_clock(upstream, suspect):
    line = pace_cause(loads(0.1, 0.3, 0.1), evidence(upstream + 0.25), KeepupSettings())
    assert line.stage == "camera"
    assert suspect in line.text
