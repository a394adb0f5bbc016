"""Pages in headless Chromium, without network."""

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from conftest import program

# a headless window is at least 500 px wide: a phone is a frame
FRAME = """<iframe src="probed.html" style="width: {width}px; height: 900px; border: 0"></iframe>
<script>addEventListener("message", event => document.title = event.data)</script>"""
PROBE = (
    '<script>addEventListener("load", async () => parent.postMessage(JSON.stringify(await ({probe})()), "*"))</script>'
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=5000 --dump-dom"
)


def browse(
    page: Path, profile: Path, probe: str, width: int = 1280, *, dark: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """What `probe`, a function in JavaScript, finds or does in a page, and what Chromium wrote to its console."""
    browser = program("chromium", "chromium-browser", "google-chrome", install="`apt-get install chromium` brings one")
    page.with_name("probed.html").write_text(page.read_text() + PROBE.replace("{probe}", probe))
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(width=width))
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [browser, *FLAGS.split(), scheme, f"--user-data-dir={profile}", "--window-size=1400,1000", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    (title,) = re.findall(r"<title>(\{.*?\})</title>", done.stdout, re.DOTALL)
    return json.loads(html.unescape(title)), [line for line in done.stderr.splitlines() if "CONSOLE" in line]
