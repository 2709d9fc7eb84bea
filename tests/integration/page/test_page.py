"""The gateway's page in a real browser: what people do, and what they see."""

from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import phantoms
from browsing import AFFINE, FLAT, MIXUP, NAME, PLAIN, SHAPE, Visit
from processes import GatewayProcess
from servers import OracleServer

from veilseg.imaging import formats


def test_by_drop(
    browser, private: GatewayProcess, oracle: OracleServer, place: Path, tmp_path: Path, by_command
):
    before = len(oracle.tiles)
    with Visit(browser, private.url) as visit:
        visit.drop(place / NAME)
        assert visit.text("#chosen-name") == NAME
        assert "leaves" in visit.text("#send-says")
        assert len(oracle.tiles) == before, "nothing is sent before somebody says so"
        visit.page.fill("#subject", "erika")
        visit.segment()
        sent = len(oracle.tiles) - before
        expected = by_command(place / NAME, "erika")
        found = nib.load(visit.download("nifti", tmp_path))
        np.testing.assert_array_equal(np.asarray(found.dataobj), expected)
        np.testing.assert_allclose(found.affine, phantoms.TURNED, atol=1e-6)
        millilitres = [np.count_nonzero(expected == value) / 1000 for value in (1, 2)]
        sizes = visit.sizes()
        assert list(sizes) == ["shell", "core"]
        np.testing.assert_allclose([float(one) for one in sizes.values()], millilitres, atol=0.0051)
        given = visit.text("#given-body")
        assert f"{sent} tiles went to {private_address(oracle)}" in given
        assert "Mixed with a secret reference" in given
        assert f"No audit of {MIXUP} is at hand" in given
        assert "once" in visit.text("#ledger-body")
        # Where the image has nothing, the server sees what the reference left there.
        corners = [(x, y) for x in (0.1, 0.14, 0.86, 0.9) for y in (0.1, 0.14, 0.86, 0.9)]
        light = {
            view: sum(visit.colour(view, *corner)[0] for corner in corners)
            for view in ("image", "proxy")
        }
        assert light["image"] < light["proxy"]
        # Slices, and the same as a solid.
        slider = visit.page.locator("#slice")
        assert (
            slider.get_attribute("aria-valuetext")
            == f"Axial slice {SHAPE[2] // 2 + 1} of {SHAPE[2]}"
        )
        slider.fill("0")
        assert slider.get_attribute("aria-valuetext") == f"Axial slice 1 of {SHAPE[2]}"
        visit.page.locator("input[value=solid]").check(force=True)
        visit.page.wait_for_selector(".pane .solid")
        visit.page.wait_for_selector("#pane-problem:text-is('')", state="attached")
        assert visit.page.locator(".pane .solid").count() == 4
    logs = private.text
    assert "route=/page/tasks/{name}/events status=200" in logs
    for secret in ("Mustermann", "erika", str(place)):
        assert secret not in logs


def private_address(oracle: OracleServer) -> str:
    return oracle.url.removeprefix("http://")


def test_by_click_a_series_with_its_dicom_segmentations(
    browser, guarded: GatewayProcess, tokens: tuple[str, str], place: Path, tmp_path: Path
):
    with Visit(browser, guarded.url, tokens[0]) as visit:
        visit.choose(place / "study", PLAIN)
        assert visit.text("#chosen-what").startswith(f"DICOM, {SHAPE[2]} files, ")
        visit.segment()
        for kind in ("dicom-seg", "dicom-labelmap"):
            found = formats.read_label_map(visit.download(kind, tmp_path))
            np.testing.assert_array_equal(found.array, phantoms.truth(SHAPE))
            np.testing.assert_allclose(found.geometry.affine, AFFINE, atol=1e-5)
        assert visit.text("#given-body").startswith("Nothing: both halves of the model run")
        assert "Nothing leaves" in visit.text("#ledger-body")


def test_by_keyboard_a_picture(
    browser, guarded: GatewayProcess, tokens: tuple[str, str], place: Path, tmp_path: Path
):
    with Visit(browser, guarded.url, tokens[0]) as visit:
        page = visit.page

        def press(*keys: str) -> None:
            for key in keys:
                page.keyboard.press(key)

        def focused() -> str:
            return page.evaluate("document.activeElement.id || document.activeElement.value")

        page.focus("a.skip")
        press("Tab")
        assert focused() == "files"
        with page.expect_file_chooser() as chooser:
            press("Enter")
        chooser.value.set_files(place / "flat.png")
        page.wait_for_selector("#chosen:not([hidden])")
        page.focus("#other")
        press("Tab")
        assert focused() == "model-0"
        press("ArrowDown", "Tab")
        assert (page.input_value("#order :checked"), focused()) == (FLAT, "subject")
        page.keyboard.type("somebody")
        press("Enter")
        visit.wait("shown")
        core = np.count_nonzero(phantoms.truth((14, 12)) == 2)
        assert visit.sizes()["core"] == str(core)
        assert "Area, pixels" in visit.text("#sizes")
        assert page.is_hidden("#planes"), "a picture has one slice"
        assert focused() == "overlay"
        expected = phantoms.truth((14, 12))
        written = phantoms.read_labels(visit.download("png", tmp_path))
        np.testing.assert_array_equal(written, expected)


def test_what_is_no_scan_is_one_line(
    browser, private: GatewayProcess, oracle: OracleServer, place: Path
):
    before = len(oracle.tiles)
    with Visit(browser, private.url) as visit:
        visit.drop(place)
        assert (
            visit.text("#problem-detail")
            == "It holds images and other files: drop one scan at a time."
        )
        visit.drop(place / "notes.txt")
        visit.segment("failed")
        assert visit.text("#problem-title") == "This scan cannot be used"
        assert "image: not a " in visit.text("#problem-detail")
        assert str(place) not in visit.text("#problem")
        # And then one that is.
        visit.choose(place / NAME, subject="erika")
        assert visit.page.is_hidden("#problem")
        visit.segment()
    assert len(oracle.tiles) > before


def test_what_lies_nowhere_is_shown_as_numbers(browser, private: GatewayProcess, place: Path):
    """As of an encoding: the gateway's word for it is changed on its way to the page."""

    def unlinked(route) -> None:
        answer = route.fetch()
        text = answer.text()
        assert '"linked": true' in text
        route.fulfill(response=answer, body=text.replace('"linked": true', '"linked": false'))

    with Visit(browser, private.url) as visit:
        visit.page.route("**/events", unlinked)
        visit.choose(place / NAME, subject="erika")
        visit.segment()
        label = visit.page.locator("[data-view=proxy] canvas").get_attribute
        visit.page.fill("#slice", "0")
        assert label("aria-label").startswith("What the server sees: numbers of tile 1 of ")
        visit.page.fill("#slice", str(SHAPE[2] - 1))
        last = label("aria-label").rpartition("tile ")[2].split(" of ")
        assert int(last[0]) > int(last[1]) * 0.8
        assert visit.page.locator("[data-view=labels] canvas").get_attribute("aria-label") == (
            f"The segmentation: Axial slice {SHAPE[2]} of {SHAPE[2]}"
        )


def test_nothing_is_asked_of_anybody_else(browser, private: GatewayProcess):
    """Every visit looks for that at its end; here the browser itself says no."""
    with Visit(browser, private.url) as visit:
        reached = visit.page.evaluate(
            "fetch('http://198.51.100.1/').then(() => 'reached', (error) => error.name)"
        )
        assert reached == "TypeError"
    policy = httpx.get(private.url).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
