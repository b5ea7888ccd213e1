"""Outputs that are not numbers are said once and counted."""

from __future__ import annotations

import numpy as np

from pipeline.infer.not_numbers import NotNumbers


def outputs(value, shape=(1, 84, 8400)):
    return {"output0": np.full(shape, value, np.float32)}


def test_not_a_number_is_said_once_and_counted(caplog):
    watch = NotNumbers()
    for value in (1.0, np.nan, np.nan, np.inf):
        watch.check(outputs(value))
    assert watch.runs == 2
    assert caplog.text.count("output0' is not a number") == 1
    watch.close()
    watch.close()
    assert caplog.text.count("2 runs of the model") == 1


def test_one_column_of_scores_is_enough(caplog):
    found = outputs(0.5)
    found["output0"][0, 4, :] = np.nan
    watch = NotNumbers()
    watch.check(found)
    assert watch.runs == 1


def test_whole_numbers_and_empty_outputs_are_fine():
    watch = NotNumbers()
    watch.check({"labels": np.zeros((1, 3), np.int64), "boxes": np.zeros((1, 0, 4), np.float32)})
    assert watch.runs == 0
