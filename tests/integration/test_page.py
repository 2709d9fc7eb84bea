"""The gateway's page in a real browser: what people do, and what they see."""

from collections.abc import Iterator
from pathlib import Path

import dicoms
import httpx
import nibabel as nib
import numpy as np
import phantoms
import pytest
from browsing import Visit, chromium
from processes import GatewayProcess
from servers import OracleServer

from veilseg.access import token_file
from veilseg.bundle import open_client_half
from veilseg.imaging import formats
from veilseg.vault.vault import Vault

MIXUP, PLAIN, FLAT = "phantom-mixup", "phantom-plain", "phantom-flat"
SHAPE = (18, 16, 20)
AFFINE = dicoms.oblique(7, (1, 1, 1))
ORANGE, BLUE = (230, 159, 0), (86, 180, 233)
NAME = "Mustermann_Erika.nii.gz"


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, mixup_bundle: Path) -> Path:
    """A site with scans and a vault."""
    place = tmp_path_factory.mktemp("site")
    Vault.create(place / "vault", phantoms.bundle_id(mixup_bundle))
    raw = phantoms.raw_image(phantoms.truth(SHAPE))
    phantoms.write_nifti(place / NAME, raw)
    phantoms.write_nifti(place / "other.nii.gz", phantoms.raw_image(phantoms.truth(SHAPE), 1))
    dicoms.write_series(place / "study", raw, AFFINE)
    grey = (phantoms.raw_image(phantoms.truth((14, 12))) // 5).astype(np.uint8)
    phantoms.write_png(place / "flat.png", grey)
    (place / "notes.txt").write_text("no scan")
    return place


@pytest.fixture(scope="module")
def oracle(mixup_bundle: Path) -> Iterator[OracleServer]:
    with OracleServer(open_client_half(mixup_bundle).manifest) as server:
        server.behaviour = phantoms.nearest_centre
        yield server


@pytest.fixture(scope="module")
def private(place: Path, oracle: OracleServer, mixup_bundle: Path) -> Iterator[GatewayProcess]:
    """A gateway before a server."""
    options = ["--bundle", mixup_bundle, "--vault", place / "vault", "--server", oracle.url]
    with GatewayProcess(place / "private.log", *options) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def tokens(place: Path) -> tuple[str, str]:
    file = place / "tokens.json"
    ward, other = (token_file.add(file, name, ["infer"], 1)[0] for name in ("ward", "other"))
    return ward, other


@pytest.fixture(scope="module")
def guarded(
    place: Path,
    tokens: tuple[str, str],
    plain_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayProcess]:
    """A gateway that asks for a token, and from which nothing leaves."""
    folder = tmp_path_factory.mktemp("bundles") / "flat"
    options = {"name": FLAT, "spatial_dims": 2, "unit": "pixel", "raw_scale": 200}
    flat = phantoms.make_bundle(folder, "plain", **options)
    bundles = ["--bundle", plain_bundle, "--bundle", flat, "--local"]
    with GatewayProcess(
        place / "guarded.log", *bundles, "--tokens", place / "tokens.json"
    ) as gateway:
        yield gateway


@pytest.fixture
def by_command(tmp_path: Path, place: Path, oracle: OracleServer, mixup_bundle: Path, veilseg):
    """What ``veilseg segment`` makes of a scan, with the same vault and server."""

    def run(image: Path, subject: str) -> np.ndarray:
        out = tmp_path / "command.nii.gz"
        options = ["--server", oracle.url, "--bundle", mixup_bundle, "--vault", place / "vault"]
        ended = veilseg("segment", image, *options, "--subject", subject, "-o", out)
        assert ended.code == 0, ended.err
        return phantoms.read_labels(out)

    return run


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


def nearer(colour: list[int], one: tuple[int, ...], than: tuple[int, ...]) -> bool:
    """Whether a colour is more like one than another."""
    one_off, than_off = (np.abs(np.subtract(colour[:3], other)).sum() for other in (one, than))
    return bool(one_off < than_off)


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


def test_the_server_is_away_and_back(browser, place: Path, mixup_bundle: Path, tmp_path: Path):
    manifest = open_client_half(mixup_bundle).manifest
    with OracleServer(manifest) as gone:
        port = int(gone.url.rpartition(":")[2])
    Vault.create(tmp_path / "vault", manifest.protection_id)
    options = ["--bundle", mixup_bundle, "--vault", tmp_path / "vault", "--server", gone.url]
    with (
        GatewayProcess(tmp_path / "log", *options) as gateway,
        Visit(browser, gateway.url) as visit,
    ):
        visit.choose(place / NAME, subject="erika")
        visit.segment("failed")
        assert visit.text("#problem-title") == "The server cannot be used at the moment"
        with OracleServer(manifest, port) as back:
            back.behaviour = phantoms.nearest_centre
            visit.page.click("#again")
            visit.wait("shown")
        # And now the gateway itself goes, and is not waited for in silence.
        gateway.kill()
        visit.page.click("#send")
        visit.wait("failed")
        assert visit.text("#problem-title") == "The gateway does not answer"


def test_progress_cancel_and_a_second_proxy(
    browser, private: GatewayProcess, oracle: OracleServer, place: Path
):
    with Visit(browser, private.url) as visit:
        oracle.release.clear()
        oracle.holding.clear()
        try:
            visit.choose(place / "other.nii.gz", subject="held")
            visit.page.click("#send")
            says = visit.page.locator(
                "#progress-says", has_text="Sending: the first tile is under way"
            )
            says.wait_for()
            assert visit.page.get_attribute("#progress-says", "aria-live") == "polite"
            assert visit.page.is_disabled("#subject")
            visit.page.click("#cancel")
        finally:
            oracle.release.set()
        visit.wait("failed")
        assert visit.text("#problem-title") == "Cancelled"
        visit.page.click("#again")
        visit.wait("shown")
        # The same person, another image: a second proxy, which is told and can be allowed.
        visit.choose(place / NAME)
        assert visit.page.locator("#sizes").count() == 0, "the last scan's are gone"
        assert visit.is_empty("labels")
        visit.segment("failed")
        assert visit.text("#problem-title") == "A different proxy of this person was sent before"
        assert visit.page.is_hidden("#again")
        visit.page.click("#repeat")
        visit.wait("shown")
        assert "2 different proxies of one person" in visit.text("#ledger-body")
        assert "can average them" in visit.text("#found-body")
        visit.page.fill("#look-subject", "nobody")
        visit.page.press("#look-subject", "Enter")
        visit.page.locator("#look-body", has_text="Nothing was sent of that subject").wait_for()


def test_two_users_at_once(
    browser, guarded: GatewayProcess, tokens: tuple[str, str], tmp_path: Path
):
    truths = [phantoms.truth((12, 14, 16)), phantoms.truth((18, 12, 10))]
    visits, scans = [], []
    for number, truth in enumerate(truths):
        scan = tmp_path / f"{number}.nii.gz"
        scans.append(phantoms.write_nifti(scan, phantoms.raw_image(truth, number)))
        visits.append(Visit(browser, guarded.url, tokens[number]))
    with visits[0], visits[1]:
        for visit, scan in zip(visits, scans, strict=True):
            visit.choose(scan, PLAIN)
        for visit in visits:
            visit.page.click("#send")
        for visit, truth in zip(visits, truths, strict=True):
            visit.wait("shown")
            found = visit.download("nifti", tmp_path)
            np.testing.assert_array_equal(phantoms.read_labels(found), truth)
            # In the middle the core; near an end of the longer axis, beside the hair line, shell.
            near = (0.15, 0.57) if visit is visits[0] else (0.57, 0.15)
            assert nearer(visit.colour("labels"), BLUE, than=ORANGE)
            assert nearer(visit.colour("labels", *near), ORANGE, than=BLUE)
            assert max(visit.colour("labels", *near[::-1])[:3]) < max(ORANGE)
        mine = next(url for url in visits[0].asked if "/views/labels" in url)
        for token, status in ((tokens[0], 200), (tokens[1], 404), ("", 401)):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            assert httpx.get(mine, headers=headers).status_code == status
    # Whoever closed their page left nothing behind.
    assert httpx.get(mine, headers={"Authorization": f"Bearer {tokens[0]}"}).status_code == 404


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
