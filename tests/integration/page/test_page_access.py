"""The page for everybody: names, focus, contrast, small windows, light and dark."""

from collections.abc import Iterator
from pathlib import Path

import phantoms
import pytest
from browsing import Visit
from processes import GatewayProcess

# The Web Content Accessibility Guidelines, level AA, for text of this size.
LEAST_CONTRAST = 4.5
SCHEMES = ("light", "dark")

# Text that lies directly in an element, and what it stands on; ratios as the guidelines say.
CONTRASTS = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (part) =>
    (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")]
    .filter((one) => one.checkVisibility() && !one.matches(":disabled, :disabled *"))
    .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((one) => {
      const pair = [parse(getComputedStyle(one).color), ground(one)].map(luminance);
      const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
      return [ratio, one.textContent.trim().slice(0, 40)];
    });
}"""

NAMELESS = """() => [...document.querySelectorAll("button, input, select, canvas, a, [role]")]
  .filter((one) => !["status", "alert", "search"].includes(one.getAttribute("role")))
  .filter((one) => one.checkVisibility() && !one.matches("[type=hidden]"))
  .filter((one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim() ||
    one.getAttribute("aria-labelledby")))
  .map((one) => one.outerHTML)"""

TWICE = """() => {
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  return ids.filter((id, at) => ids.indexOf(id) !== at);
}"""


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = phantoms.raw_image(phantoms.truth())
    return phantoms.write_nifti(tmp_path_factory.mktemp("scans") / "scan.nii.gz", raw)


@pytest.fixture(scope="module")
def gateway(scan: Path, plain_bundle: Path) -> Iterator[GatewayProcess]:
    # No server is there, so that there is an error to be seen as well.
    options = ["--bundle", plain_bundle, "--server", "http://127.0.0.1:9"]
    with GatewayProcess(scan.with_name("log"), *options) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def here(scan: Path, plain_bundle: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(scan.with_name("here.log"), "--bundle", plain_bundle, "--local") as gateway:
        yield gateway


def require_readable(visit: Visit) -> None:
    page = visit.page
    found = page.evaluate(CONTRASTS)
    assert len(found) > 20, "there is text to look at"
    assert [one for one in found if one[0] < LEAST_CONTRAST] == []
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(TWICE) == []
    levels = page.eval_on_selector_all(
        "h1, h2, h3", "all => all.filter(one => one.checkVisibility()).map(one => +one.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [1280, 390])
def test_every_state_can_be_read(browser, here: GatewayProcess, gateway, scan, scheme, width):
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 844}}
    with Visit(browser, here.url, **options) as visit:
        require_readable(visit)
        visit.choose(scan)
        visit.segment()
        require_readable(visit)
    with Visit(browser, gateway.url, **options) as visit:
        assert visit.text(".badge") == "Not protected"
        visit.choose(scan)
        assert visit.text("#send") == "Send unprotected"
        visit.segment("failed")
        assert visit.page.get_attribute("#problem", "role") == "alert"
        require_readable(visit)


def test_the_checks_can_fail(browser, here: GatewayProcess):
    with Visit(browser, here.url) as visit:
        visit.page.evaluate(
            "() => { one = document.getElementById('send-says'); one.style.color = '#aaa';"
            "document.body.append(document.createElement('button'));"
            "document.body.append(Object.assign(document.createElement('p'), {id: 'send'})); }"
        )
        assert min(visit.page.evaluate(CONTRASTS))[0] < LEAST_CONTRAST
        assert len(visit.page.evaluate(NAMELESS)) == 1
        assert visit.page.evaluate(TWICE) == ["send"]


def test_without_niivue_everything_but_solids_is_there(browser, here: GatewayProcess, scan: Path):
    with Visit(browser, here.url) as visit:
        visit.page.evaluate("delete globalThis.niivue")
        visit.choose(scan)
        visit.segment()
        assert visit.colour("image") != [0, 0, 0, 255]
        visit.page.locator("input[value=solid]").check(force=True)
        assert visit.text("#pane-problem").startswith("There is no 3D view: NiiVue is missing")
