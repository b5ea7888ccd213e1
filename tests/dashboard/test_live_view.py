"""The live view in a real browser, over a running pipeline with two RTSP cameras."""

from __future__ import annotations

import base64
import json
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.cli.summary import VERDICT_STYLES
from tests.dashboard.conftest import ViewedRun, viewed_run, wait_until
from tests.helpers.chromium import watched_page
from tests.helpers.moving_boxes import moving_boxes
from tests.helpers.onpace_process import OnpaceProcess
from tests.helpers.rtsp_process import RtspServerProcess
from tests.helpers.tiny_onnx import colour_detector, do_nothing_detector

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HURTFUL = "<img src=x onerror=document.title='hurt'>"
AT_WORK = ("keeping_up", "falling_behind", "overloaded")
"""A busy machine may fall behind; that is not what is tested here."""
CLASSES = [HURTFUL, "green", "blue", "white"]


@pytest.fixture(scope="module")
def cameras():
    """Two cameras, each behind a port of its own, so that one can be killed alone."""
    with RtspServerProcess() as server:
        yield server


@pytest.fixture(scope="module")
def run(tmp_path_factory, cameras):
    """The pipeline that all tests here look at: ``door`` and ``yard`` show boxes that move."""
    folder = tmp_path_factory.mktemp("view")
    clip = moving_boxes(folder / "boxes.mp4", frames=75)
    model = colour_detector(folder / "colours.onnx")
    streams = [
        {"id": name, "url": cameras.add_camera(name, clip, port=0).url, "tracker": "bytetrack"}
        for name in ("door", "yard")
    ]
    with viewed_run(folder, streams, model, infer={"facts": {"classes": CLASSES}}) as running:
        yield running


def canvas_of(stream_id: str) -> str:
    return f'[data-stream="{stream_id}"] canvas'


def look(page: Any, stream_id: str) -> tuple[tuple[int, int], np.ndarray] | None:
    """Return which frame a canvas shows (epoch, index) and its pixels (RGB); None before the first picture."""
    shown = page.evaluate(
        """selector => {
            const canvas = document.querySelector(selector);
            return canvas?.dataset.frame ? [canvas.dataset.frame, canvas.toDataURL("image/png")] : null;
        }""",
        canvas_of(stream_id),
    )
    if shown is None:
        return None
    coded = np.frombuffer(base64.b64decode(shown[1].partition(",")[2]), np.uint8)
    epoch, index = shown[0].split("/")
    return (int(epoch), int(index)), cv2.imdecode(coded, cv2.IMREAD_COLOR)[:, :, ::-1]


def wait_for_picture(page: Any, stream_id: str, other_than: tuple[int, int] | None = None) -> Any:
    """Return the first look at a picture (other than the one named)."""
    return wait_until(
        lambda: (found := look(page, stream_id)) and found[0] != other_than and found, f"a picture of {stream_id}"
    )


def wait_for_verdict(page: Any, stream_id: str, *verdicts: str) -> None:
    """Wait until the stream's chip shows one of these words."""
    chip = f'[data-stream="{stream_id}"] .verdict .word'
    wait_until(lambda: page.text_content(chip) in verdicts, f"{stream_id} to be {verdicts}")


def assert_boxes_sit_on_the_objects(pixels: np.ndarray, message: dict[str, Any]) -> None:
    """Each published box is drawn where it belongs, and in it is what it says, in the very picture that is shown."""
    height, width = pixels.shape[:2]
    scale = min(width / message["frame_width"], height / message["frame_height"])
    left, top = (width - message["frame_width"] * scale) / 2, (height - message["frame_height"] * scale) / 2
    red, green, blue = (pixels[:, :, channel].astype(int) for channel in range(3))
    areas = {"red": (red > 150) & (green < 90) & (blue < 90), "blue": (blue > 150) & (green < 90) & (red < 90)}
    assert {found["class_id"] for found in message["objects"]} == {0, 2}
    for found in message["objects"]:
        x1, y1, x2, y2 = (
            round(value * scale + shift) for value, shift in zip(found["xyxy"], (left, top) * 2, strict=True)
        )
        area = areas["red" if found["class_id"] == 0 else "blue"]
        inside = area[max(0, y1 - 3) : y2 + 4, max(0, x1 - 3) : x2 + 4].sum()
        assert inside > 0.75 * (x2 - x1) * (y2 - y1), "the box is not on its object"
        assert inside > 0.99 * area.sum(), "the object is not in its box"
        # The lower edge is drawn in a bright colour of its own, neither the object's nor the ground's.
        edge = pixels[y2 - 2 : y2 + 3, x1 + 8 : x2 - 8].astype(int)
        bright = (edge.sum(axis=2) > 420).any(axis=0)
        assert bright.mean() > 0.9, "no line is drawn along the box"


def test_boxes_are_those_published_for_the_picture_shown_and_move_with_the_objects(run: ViewedRun, browser):
    with watched_page(browser, run.address) as page:
        places, before = [], None
        for _ in range(6):
            frame, pixels = wait_for_picture(page, "door", before)
            message = wait_until(lambda frame=frame: run.published("door").get(frame), f"the message of frame {frame}")
            assert_boxes_sit_on_the_objects(pixels, message)
            places.append(next(found["xyxy"][0] for found in message["objects"] if found["class_id"] == 0))
            before = frame
            page.wait_for_timeout(400)
        assert max(places) - min(places) > 10, "nothing moved"
        wait_for_picture(page, "yard")
        assert page.title() != "hurt" and page.locator("img[src=x]").count() == 0
        assert HURTFUL in page.get_attribute(canvas_of("door"), "aria-label")


def test_a_killed_camera_is_greyed_and_says_why_and_comes_back_while_the_other_goes_on(
    run: ViewedRun, cameras, browser
):
    with watched_page(browser, run.address, reduced_motion="reduce") as page:
        (epoch, _), _ = wait_for_picture(page, "door")
        (_, index), _ = wait_for_picture(page, "yard")
        wait_for_verdict(page, "door", *AT_WORK)
        cameras.cameras["door"].restart(8.0)
        wait_for_verdict(page, "door", "reconnecting")
        tile = page.locator('.tile[data-stream="door"]')
        wait_until(lambda: tile.locator(".cause").text_content(), "the cause")
        assert "grayscale" in page.eval_on_selector(canvas_of("door"), "e => getComputedStyle(e).filter")
        assert look(page, "door")[1].any(), "the last picture is gone"
        assert tile.get_attribute("data-colour") == "yellow"
        turning = page.eval_on_selector(".tile .verdict .icon", "e => getComputedStyle(e).animationName")
        assert turning == "none", "motion, although less was asked for"
        assert "away" not in page.get_attribute('.tile[data-stream="yard"]', "class")
        wait_for_verdict(page, "door", *AT_WORK)
        wait_until(lambda: look(page, "door")[0][0] > epoch, "a picture of the new connection")
        assert look(page, "yard")[0][1] > index
        page.goto(f"{run.address}#/events")
        page.get_by_text("reconnecting").first.wait_for()


def test_a_page_opened_late_shows_the_minutes_before(run: ViewedRun, browser):
    with watched_page(browser, f"{run.address}#/stream/yard") as page:
        wait_for_picture(page, "yard")
        lines = page.locator(".chart .line").all()
        wait_until(lambda: len(page.locator(".chart .line").first.get_attribute("d") or "") > 20, "a line")
        assert len(lines) == 5, "two rates and three ages"
        assert page.locator(".band-plot rect").count() >= 1
        said = page.get_attribute(".plot-area", "aria-label")
        assert said.startswith("frames a second, now: camera 2"), said
        page.focus(".plot-area")
        page.keyboard.press("ArrowLeft")
        wait_until(lambda: "ago" in page.get_attribute(".plot-area", "aria-label"), "an earlier value")


def test_everything_can_be_done_by_keyboard(run: ViewedRun, browser):
    with watched_page(browser, run.address) as page:
        wait_for_picture(page, "door")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert "#/stream/yard" in page.evaluate("document.activeElement.href")
        outline = "getComputedStyle(document.activeElement.closest('.tile')).outlineStyle"
        assert page.evaluate(outline) == "solid", "the focus cannot be seen"
        page.keyboard.press("Enter")
        page.wait_for_selector(".stream-page h1:text('yard')")
        page.keyboard.press("]")
        page.wait_for_selector(".stream-page h1:text('door')")
        page.keyboard.press("b")
        assert not page.is_checked(".switch input")
        page.keyboard.press("Escape")
        page.wait_for_selector(".overview")
        assert "#/stream/door" in page.evaluate("document.activeElement.href"), "focus did not come back to the tile"
        page.keyboard.press("?")
        page.wait_for_selector("dialog[open] kbd")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        before = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
        for theme in ("dark", "light"):
            page.keyboard.press("t")
            assert page.get_attribute("html", "data-theme") == theme
        assert page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor") != before or theme
        reached = set()
        for _ in range(14):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("(e => e.getAttribute('aria-label') || e.textContent)(document.activeElement)"))
        assert {"Streams", "Events", "Add a stream", "Keys"} <= reached
        page.keyboard.press("e")
        page.wait_for_selector(".changes-page")


def test_a_camera_is_added_paused_resumed_and_removed_in_the_page(run: ViewedRun, cameras, browser, tmp_path):
    attic = cameras.add_camera("attic", moving_boxes(tmp_path / "attic.mp4"), port=0)
    with OnpaceProcess("listen", run.messages, "--json") as listener, watched_page(browser, run.address) as page:
        page.wait_for_selector(".tile")
        page.keyboard.press("a")
        page.wait_for_selector("dialog[open]")
        page.keyboard.type("attic")
        page.keyboard.press("Tab")
        page.keyboard.type("gopher://attic")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog .error:visible")
        assert "gopher" in page.text_content("dialog .error"), "the refusal does not name what is wrong"
        page.fill("dialog input[name=url]", attic.url)
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog", state="detached")
        wait_for_picture(page, "attic")
        listener.wait_for('"stream_id":"attic"', timeout_seconds=90)

        page.goto(f"{run.address}#/stream/attic")
        page.wait_for_selector(".controls")
        page.keyboard.press("p")
        wait_for_verdict(page, "attic", "paused")
        page.keyboard.press("p")
        wait_for_verdict(page, "attic", *AT_WORK)
        page.keyboard.press("c")
        page.fill("dialog input[name=weight]", "-2")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog .error:visible")
        page.fill("dialog input[name=weight]", "3")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog", state="detached")
        page.keyboard.press("Delete")
        page.wait_for_selector("dialog[open]")
        page.click("dialog button[type=submit]")
        page.wait_for_selector(".overview")
        wait_until(lambda: page.locator('.tile[data-stream="attic"]').count() == 0, "the tile to go")
        page.goto(f"{run.address}#/events")
        for words in ("paused", "resumed", "changed: weight 3", "removed"):
            page.locator(".change-list .words", has_text=words).first.wait_for()


@pytest.mark.parametrize(("width", "height", "scheme"), [(390, 844, "dark"), (1440, 900, "light")])
def test_pages_fit_their_screen_in_both_schemes(run: ViewedRun, browser, width, height, scheme):
    with watched_page(browser, run.address, color_scheme=scheme) as page:
        page.set_viewport_size({"width": width, "height": height})
        for place in ("#/", "#/stream/door", "#/events"):
            page.goto(run.address + place)
            page.wait_for_selector({"#/": ".tile", "#/stream/door": ".stream-page", "#/events": ".changes-page"}[place])
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{place} is {wide} px wide"
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (int(ground.removeprefix("rgb(").split(",")[0]) < 128) == (scheme == "dark")


def test_words_and_colours_of_verdicts_are_those_of_the_terminal(run: ViewedRun, browser):
    with watched_page(browser, run.address) as page:
        known = page.evaluate("import('./js/verdicts.js').then(module => JSON.stringify(module.VERDICTS))")
    shown = {verdict: facts["colour"] for verdict, facts in json.loads(known).items()}
    assert {verdict: shown[verdict] for verdict in VERDICT_STYLES} == VERDICT_STYLES
    assert len({facts["shape"] for facts in json.loads(known).values()}) == len(shown), "two verdicts of one shape"


def test_sixty_four_streams_fit_one_page_and_each_shows_its_picture(tmp_path, browser):
    streams = [
        {"id": f"pattern-{number:02d}", "url": "pattern:?size=192x108&fps=2", "realtime": True} for number in range(64)
    ]
    model = do_nothing_detector(tmp_path / "nothing.onnx", size=(160, 96))
    with viewed_run(tmp_path, streams, model) as run, watched_page(browser, run.address) as page:
        page.set_viewport_size({"width": 1440, "height": 900})
        wait_until(lambda: page.locator(".tile").count() == 64, "64 tiles")
        page.set_viewport_size({"width": 1440, "height": 1400})
        shown = "document.querySelectorAll('canvas[data-frame]').length"
        wait_until(lambda: page.evaluate(shown) == 64, "64 pictures", within_seconds=60)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1440
        page.keyboard.press("/")
        page.keyboard.type("-07")
        assert page.locator(".tile:visible").count() == 1
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
