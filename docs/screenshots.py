"""Take the pictures of the README: `python docs/screenshots.py URL`, in an environment with Playwright.

URL is that of a registry with the sample packages (`make run`). The script signs in as `admin` with the password in the
variable PASSWORD, and uses the system's Chromium.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent
WIDTH, HEIGHT, SCALE = 1280, 860, 2
PICTURES = {
    "package": "/package/admin/sample_weather",
    "search": "/search?q=sample",
}


def main(url: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for theme in ("light", "dark"):
            viewport = {"width": WIDTH, "height": HEIGHT}
            context = browser.new_context(viewport=viewport, device_scale_factor=SCALE, color_scheme=theme)
            page = context.new_page()
            page.goto(f"{url}/signin")
            page.get_by_label("Username").fill("admin")
            page.get_by_label("Password", exact=True).fill(os.environ["PASSWORD"])
            page.locator("main").get_by_role("button", name="Sign in").click()
            page.wait_for_url(f"{url}/")
            for name, path in PICTURES.items():
                page.goto(url + path, wait_until="networkidle")
                page.screenshot(path=FOLDER / f"{name}-{theme}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
