"""The gateway where not only this machine may use it: TLS and tokens, with its page."""

import json
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import phantoms
import pytest
import trustme
from processes import GatewayProcess

from veilseg.access import token_file

MODEL = "phantom-plain"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    file = tmp_path_factory.mktemp("tokens") / "tokens.json"
    return file, token_file.add(file, "ward", ["infer"], 1)[0]


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory,
    plain_bundle: Path,
    authority: trustme.CA,
    token: tuple[Path, str],
) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert")
    issued.private_key_pem.write_to_path(folder / "key")
    options = ["--bundle", plain_bundle, "--local", "--tokens", token[0]]
    options += ["--tls-cert", folder / "cert", "--tls-key", folder / "key"]
    with GatewayProcess(folder / "log", *options) as gateway:
        yield gateway


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_an_image_goes_up_and_its_segmentation_comes_back(gateway, authority, token, tmp_path):
    assert gateway.url.startswith("https://")
    truth = phantoms.truth()
    scan = phantoms.write_nifti(tmp_path / "scan.nii.gz", phantoms.raw_image(truth))
    headers = {"Authorization": f"Bearer {token[1]}"}
    asked = {"params": json.dumps({"result_extension": ".nii.gz"})}
    path = f"{gateway.url}/infer/{MODEL}?output=image"
    with httpx.Client(verify=trusting(authority), headers=headers) as client:
        answer = client.post(path, data=asked, files={"file": ("scan.nii.gz", scan.read_bytes())})
        assert answer.status_code == 200, answer.text
        (tmp_path / "labels.nii.gz").write_bytes(answer.content)
        found = np.asarray(nib.load(tmp_path / "labels.nii.gz").dataobj)
        np.testing.assert_array_equal(found, truth)
        # The page's own address counts as its own.
        page = client.get(gateway.url, headers={"Origin": gateway.url})
        assert page.status_code == 200
        assert client.get(gateway.url, headers={"Origin": "https://elsewhere"}).status_code == 403


def test_who_does_not_trust_it_or_is_not_known_gets_nothing(gateway, authority):
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{gateway.url}/info/")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{gateway.url.replace('https', 'http')}/info/")
    assert httpx.get(f"{gateway.url}/info/", verify=trusting(authority)).status_code == 401
    old = trusting(authority)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{gateway.url}/info/", verify=old)
