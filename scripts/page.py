"""Use the gateway's page in Chromium: pictures of it, and its time beside the command line's.

The template brain of the demo by the shipped brain bundle, with a server on this machine. From drop
to shown is what a person waits for; the command is started anew, as a person starts it.
"""

import argparse
import io
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from veilseg.bundle import open_client_half
from veilseg.demo.brain import template_brain
from veilseg.vault.vault import Vault

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "models" / "brain-tissue-mixup"
VEILSEG = [sys.executable, "-m", "veilseg.cli.main"]
OPTIONS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SUBJECT = "template"
LONGEST_MS = 300_000
# Light and dark on a desk, and a telephone.
LOOKS = {"light": (1280, "light"), "dark": (1280, "dark"), "narrow": (390, "light")}


@contextmanager
def service(*arguments: object) -> Iterator[str]:
    """A service of Veilseg as a process; gives its address."""
    command = [*VEILSEG, *map(str, arguments), "--port", "0"]
    with tempfile.NamedTemporaryFile() as log:
        file = Path(log.name)
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            while not (found := re.search(r"listening on (\S+)", file.read_text())):
                if process.poll() is not None:
                    sys.exit(file.read_text())
                time.sleep(0.05)
            yield found[1]
        finally:
            process.terminate()
            process.wait()


def by_page(page: Page, url: str, scan: Path) -> float:
    """Seconds from drop to shown."""
    page.goto(url)
    page.wait_for_selector("main[data-state=empty]")
    page.fill("#subject", SUBJECT)
    begun = time.perf_counter()
    page.set_input_files("#files", scan)
    page.click("#send")
    page.wait_for_selector("main[data-state=shown]", timeout=LONGEST_MS)
    return time.perf_counter() - begun


def by_command(server: str, scan: Path, vault: Path, folder: Path) -> float:
    """Seconds of ``veilseg segment``."""
    where = ["--server", server, "--bundle", BUNDLE, "--vault", vault, "--subject", SUBJECT]
    command = [*VEILSEG, "segment", scan, *where, "-o", folder / "labels.nii.gz"]
    begun = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return time.perf_counter() - begun


def taken(page: Page, file: Path) -> None:
    """A picture of the whole page, small enough for a document."""
    content = io.BytesIO(page.screenshot(full_page=True))
    picture = Image.open(content).convert("RGB")
    # The usual method would mix the colours of small structures into others.
    few = picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(file, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--times", type=int, default=3, help="runs by turns (default 3)")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as driver:
        folder = Path(temporary)
        scan = folder / "scan.nii.gz"
        shutil.copy(template_brain().image, scan)
        vault = folder / "vault"
        Vault.create(vault, open_client_half(BUNDLE).manifest.protection_id)
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=OPTIONS)
        options = ["--bundle", BUNDLE, "--vault", vault]
        with (
            service("serve", BUNDLE) as server,
            service("gateway", *options, "--server", server) as url,
        ):
            page = browser.new_page()
            pairs = [
                (by_page(page, url, scan), by_command(server, scan, vault, folder))
                for _ in range(asked.times)
            ]
            for name, (width, scheme) in LOOKS.items():
                size = {"width": width, "height": 900}
                page = browser.new_page(viewport=size, color_scheme=scheme)
                by_page(page, url, scan)
                taken(page, asked.out / f"{name}.png")
                page.locator("input[value=solid]").check(force=True)
                page.wait_for_selector("#pane-problem:text-is('')", state="attached", timeout=0)
                page.locator("#pictures").screenshot(path=asked.out / f"{name}-solid.png")
    for name, seconds in zip(("page", "command"), zip(*pairs, strict=True), strict=True):
        print(f"{name}: {', '.join(f'{one:.1f}' for one in seconds)} s")
    ratio = statistics.median(page_s / command_s for page_s, command_s in pairs)
    print(f"page ÷ command, median: {ratio:.2f}")


if __name__ == "__main__":
    main()
