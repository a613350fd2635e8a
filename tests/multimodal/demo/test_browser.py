"""The page in a real Chromium, by mouse and keyboard; nothing is asked of any other host."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from multimodal import load
from multimodal.locations import TINY

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ratings = tmp_path_factory.mktemp("demo") / "ratings.jsonl"
    words = ["demo", "--port", str(port), "--against", "tiny", "--ratings", str(ratings)]
    server = subprocess.Popen([sys.executable, "-m", "multimodal.cli", *words])
    try:
        begun = time.monotonic()
        while True:
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/", timeout=5).status_code == 200
                break
            except httpx.TransportError:
                assert server.poll() is None and time.monotonic() - begun < 90
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def page(url):
    if CHROMIUM is None:
        pytest.skip("no Chromium: Debian's is in the package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        outside: list[str] = []
        page.on("request", lambda r: outside.append(r.url)
                if not r.url.startswith((url, "data:", "blob:")) else None)  # fmt: skip
        page.goto(url)
        page.get_by_role("tab", name="Picture").wait_for(timeout=30_000)
        yield page
        assert outside == []
        browser.close()


def test_a_sample_is_captioned_and_asked_about(page, tmp_path: Path):
    page.locator(".gallery-item").first.click()
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Say what it shows").click()
    said = load("tiny").caption(TINY / "samples" / "00.png")
    page.get_by_text(said, exact=True).wait_for(timeout=30_000)
    page.get_by_label("Question").first.fill("What is on the left?")
    page.keyboard.press("Enter")  # the keyboard is enough
    page.get_by_text("What is on the left?", exact=True).first.wait_for(timeout=30_000)
    page.wait_for_timeout(3000)
    page.get_by_role("button", name="Show where each word").click()
    page.locator(".grid-container img, .gallery-container img").first.wait_for(timeout=30_000)
    page.screenshot(path=tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 20_000


def test_a_recording_is_written_down(page):
    page.get_by_role("tab", name="Recording").click()
    talk = TINY / "samples" / "recordings" / "04.flac"
    tab = page.get_by_role("tabpanel").filter(has=page.get_by_role("button", name="Write it down"))
    tab.locator('input[type="file"]').first.set_input_files(talk)
    page.wait_for_timeout(2500)
    page.get_by_role("button", name="Write it down").click()
    words = load("tiny").transcribe(talk).text
    page.wait_for_function(
        "t => [...document.querySelectorAll('textarea')].some(a => a.value === t)",
        arg=words,
        timeout=60_000,
    )


def test_everything_has_a_name_for_a_screen_reader(page):
    for name in ("Picture", "Clip", "Recording", "Compare"):
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(700)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, input, textarea, select')]
            .filter(e => e.offsetParent !== null && e.type !== 'file')
            .filter(e => !(e.innerText || e.value || e.placeholder || e.title
              || e.getAttribute('aria-label') || e.closest('label')
              || (e.labels && e.labels.length)))
            .map(e => e.outerHTML.slice(0, 160))"""
        )
        assert nameless == [], name
