"""The gateway's page in Debian's Chromium, and what it asks of whom."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import dicoms
import pytest

# What the site of these tests has: models by name, and scans.
MIXUP, PLAIN, FLAT = "phantom-mixup", "phantom-plain", "phantom-flat"
SHAPE = (18, 16, 20)
AFFINE = dicoms.oblique(7, (1, 1, 1))
NAME = "Mustermann_Erika.nii.gz"

CHROMIUM = shutil.which("chromium")
OPTIONS = (
    # Tests may run as root, where Chromium has no sandbox.
    "--no-sandbox",
    # WebGL without a graphics card.
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    # Whatever the page asked for from elsewhere would have no address.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SHOWN_MS = 30_000


@contextmanager
def chromium() -> Iterator[object]:
    """A browser without a window; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: make chromium")
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)


class Visit:
    """One user's page. Whatever it asks for beyond loopback, or says on its console, is kept.

    Parameters
    ----------
    browser : playwright Browser
    url : str
    token : str
        Typed where the gateway asks for one.
    **options
        Of the context: ``viewport``, ``color_scheme``.
    """

    def __init__(self, browser, url: str, token: str = "", **options) -> None:
        self.context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, **options}
        )
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page = page = self.context.new_page()
        page.set_default_timeout(SHOWN_MS)
        self.context.on("request", lambda request: self.asked.append(request.url))
        # From the beginning: a chooser that opens while this is being asked for is missed.
        page.on("filechooser", lambda chooser: None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(url)
        if token:
            page.fill("#token", token)
            page.keyboard.press("Enter")
        self.wait("empty")

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.context.close()
        if kind is None:
            assert self.complaints == []
            assert self.elsewhere == []

    @property
    def elsewhere(self) -> list[str]:
        """What was asked for that is not on this machine."""
        local = ("data:", "blob:")
        asked = [url for url in self.asked if not url.startswith(local)]
        return [url for url in asked if urlsplit(url).hostname != "127.0.0.1"]

    def wait(self, *states: str) -> None:
        """Wait until the page is in one of these states."""
        self.page.wait_for_selector(", ".join(f"main[data-state={state}]" for state in states))

    def choose(self, file: Path, model: str = "", subject: str = "") -> None:
        """Choose a file or folder, a model and a subject by their controls."""
        self.page.set_input_files("#folder" if file.is_dir() else "#files", file)
        if model:
            self.page.check(f"input[value={model}]")
        if subject:
            self.page.fill("#subject", subject)

    def drop(self, path: Path) -> None:
        """Drag a file or folder into the window and let it go, as a person does."""
        session = self.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send(
                "Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 200, "data": data}
            )
        self.page.wait_for_selector("#chosen:not([hidden]), #problem:not([hidden])")

    def segment(self, *states: str) -> None:
        """Press the button, and wait for what comes of it."""
        self.page.click("#send")
        self.wait(*(states or ("shown",)))

    def sizes(self) -> dict[str, str]:
        """The table of what was found."""
        rows = self.page.locator("#sizes tbody tr").all()
        return {
            row.locator("th").inner_text().strip(): row.locator("td").inner_text() for row in rows
        }

    def download(self, kind: str, folder: Path) -> Path:
        """Press a button of the downloads."""
        with self.page.expect_download() as coming:
            self.page.click(f"button[data-kind={kind}]")
        target = folder / coming.value.suggested_filename
        coming.value.save_as(target)
        return target

    def colour(self, view: str, x: float = 0.5, y: float = 0.5) -> list[int]:
        """Red, green, blue and opacity of a slice, at a share of its width and height."""
        return self.page.eval_on_selector(
            f"[data-view={view}] canvas",
            "(canvas, [x, y]) => [...canvas.getContext('2d').getImageData("
            "Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data]",
            [x, y],
        )

    def is_empty(self, view: str) -> bool:
        """Whether a pane shows nothing."""
        return self.page.locator(f"[data-view={view}] .nothing").is_visible()

    def text(self, selector: str) -> str:
        """What is to be read there."""
        return self.page.inner_text(selector)
