"""A page in a real headless Chromium: its errors, its requests and the boxes of what it draws, at a width of choice."""

from __future__ import annotations

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

# The page under test stands in a frame of the wanted width, as windows cannot be that narrow. It runs no scripts of its
# own; the page around it measures.
_AROUND = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">
<iframe id="frame" src="page.html" style="border:0;width:%(width)dpx;height:%(height)dpx"></iframe>
<pre id="found"></pre><script>
const box = (e) => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
document.getElementById("frame").addEventListener("load", () => {
  const inside = document.getElementById("frame").contentWindow, page = inside.document;
  const all = [...page.body.querySelectorAll("*")];
  const own = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  document.getElementById("found").textContent = JSON.stringify({
    width: page.documentElement.clientWidth, scroll: page.documentElement.scrollWidth,
    height: page.documentElement.scrollHeight,
    outside: all.filter((e) => box(e)[2] > page.documentElement.clientWidth + 0.5 || box(e)[0] < -0.5)
      .map((e) => e.tagName + " " + e.textContent.slice(0, 40)),
    pictures: [...page.querySelectorAll("svg.picture")].map((s) => ({
      box: box(s), name: s.querySelector("title").textContent,
      texts: [...s.querySelectorAll("text")].map((t) => ({text: t.textContent, box: box(t)})) })),
    blocks: all.filter((e) => own(e) && !e.closest("svg") && !["BDI", "SPAN", "A", "CODE"].includes(e.tagName))
      .map((e) => ({tag: e.tagName, text: e.textContent.slice(0, 30), box: box(e)})),
    cut: all.filter((e) => own(e) && !e.closest("svg") && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0)
      .map((e) => e.tagName + " " + e.textContent.slice(0, 40)),
    tags: [...new Set([...page.querySelectorAll("*")].map((e) => e.tagName.toLowerCase()))].sort(),
    handlers: [...page.querySelectorAll("*")].flatMap((e) => [...e.attributes].map((a) => a.name))
      .filter((a) => a.startsWith("on")),
    hacked: inside.hacked === undefined ? null : String(inside.hacked),
    styled: inside.getComputedStyle(page.body).maxWidth,
    text: page.body.textContent,
  });
});
</script>"""


@dataclass(frozen=True)
class Visit:
    """What the browser found: ``found`` as in the script above, lines of its console, paths that it asked for."""

    found: dict[str, Any]
    console: list[str]
    requests: list[str] = field(default_factory=list)


def visit(page: Path, folder: Path, width: int, *, height: int = 800) -> Visit:
    """Open a page at a width and measure it."""
    site = folder / f"site{width}"
    site.mkdir()
    shutil.copy(page, site / "page.html")
    (site / "around.html").write_text(_AROUND % {"width": width, "height": height}, encoding="utf-8")
    requests: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            requests.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/around.html"
        done = run(site / "profile", "--dump-dom", "--virtual-time-budget=3000", "--enable-logging=stderr", address)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    measured = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert measured, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Visit(json.loads(html.unescape(measured[1])), console, requests)


def run(profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Headless Chromium with a profile of its own."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
    command = [CHROMIUM, *options, *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=True)
