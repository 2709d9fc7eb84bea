"""The gateway's page where something is in the way: the server, a second thought, somebody else."""

from pathlib import Path

import httpx
import numpy as np
import phantoms
from browsing import NAME, PLAIN, Visit
from processes import GatewayProcess
from servers import OracleServer

from veilseg.bundle import open_client_half
from veilseg.vault.vault import Vault

ORANGE, BLUE = (230, 159, 0), (86, 180, 233)


def nearer(colour: list[int], one: tuple[int, ...], than: tuple[int, ...]) -> bool:
    """Whether a colour is more like one than another."""
    one_off, than_off = (np.abs(np.subtract(colour[:3], other)).sum() for other in (one, than))
    return bool(one_off < than_off)


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
