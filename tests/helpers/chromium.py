"""The distribution's Chromium, driven by Playwright: pages that note every fault and everything they ask for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium_path() -> str:
    """Return Chromium's path, or skip the test that asks; FAIL_WITHOUT_CHROMIUM=1 fails it instead."""
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    if os.environ.get("FAIL_WITHOUT_CHROMIUM") == "1":
        pytest.fail("no Chromium: install the distribution's package 'chromium'")
    pytest.skip("no Chromium: install the distribution's package 'chromium'")


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser."""
    path = chromium_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's sandbox refuses to run as root, which is what containers run as.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched_page(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A page of its own profile. At its end: nothing was fetched from elsewhere, and no script failed."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
    page = context.new_page()
    page.set_default_timeout(90_000)  # the machine may be busy
    faults: list[str] = []
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
    page.on("console", lambda message: faults.append(message.text) if _is_fault(message) else None)
    try:
        page.goto(address)
        yield page
        elsewhere = [url for url in asked if not url.startswith((address.split("#")[0], "blob:"))]
        assert not elsewhere, f"fetched from elsewhere: {elsewhere}"
        assert not faults, faults
    finally:
        context.close()


def _is_fault(message: Any) -> bool:
    # Chromium itself notes every refusal of the server as an error; those are answers that the page shows.
    return message.type in ("error", "warning") and "the server responded with a status" not in message.text
