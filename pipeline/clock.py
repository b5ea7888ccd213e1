"""The two clocks. Everything inside is measured on ``monotonic``; UTC is only ever data in a message."""

from __future__ import annotations

import time

monotonic = time.monotonic
"""Seconds on a clock that never steps. The only clock that ages, waits and verdicts are made of."""

utc = time.time
"""Seconds since 1970. Goes into messages; no decision is made from it."""
