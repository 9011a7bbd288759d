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
// Contrast as the guidelines of the web define it, of each text on the first ground below it that is not clear.
const parts = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
const light = (c) => { const [r, g, b] = parts(c).slice(0, 3).map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = (e, view) => { for (let at = e; at; at = at.parentElement) {
  const c = view.getComputedStyle(at).backgroundColor; if (parts(c)[3] > 0) return c; } return "rgb(255, 255, 255)"; };
const contrast = (e, view) => { const style = view.getComputedStyle(e);
  const [a, b] = [light(e.closest("svg") ? style.fill : style.color), light(ground(e, view))].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05); };
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
    faint: all.filter((e) => own(e) && contrast(e, inside) < 4.5)
      .map((e) => e.tagName + " " + contrast(e, inside).toFixed(2) + " " + e.textContent.slice(0, 40)),
    headings: [...page.querySelectorAll("h1, h2, h3, h4, h5, h6")].map((e) => Number(e.tagName[1])),
    unnamed: [...page.querySelectorAll("a, section, nav, svg:not([aria-hidden]), table")].filter((e) => {
      const keys = (e.getAttribute("aria-labelledby") || "").split(" ").filter(Boolean);
      const by = keys.map((k) => page.getElementById(k));
      const label = e.getAttribute("aria-label") || by.map((k) => k ? k.textContent : "").join(" ");
      const caption = e.querySelector(":scope > caption");
      return !(label || (caption && caption.textContent) || (e.tagName === "A" && e.textContent) || "").trim(); })
      .map((e) => e.tagName),
    loose: [...page.querySelectorAll("th:not([scope]), html:not([lang]), svg.picture:not([role=img])")]
      .map((e) => e.tagName),
    small: all.filter((e) => e.tagName === "A" && box(e)[3] - box(e)[1] < 24).map((e) => e.textContent),
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
