"""Brings NiiVue, which the repository does not hold, into what is built of the gateway's page."""

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
PAGE = ROOT / "src" / "veilseg" / "gateway" / "page"
VENDOR = PAGE / "static" / "vendor"
NIIVUE = "@niivue/niivue"
LICENCES = "niivue-licences.txt"
# What npm is asked for, and by what the fetched files are known to be those.
ASKED = ("package.json", "package-lock.json", ".npmrc")


class Hook(BuildHookInterface):
    """Fetches by npm, as the lock file says, unless that was done before."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatch's interface
        """Before a wheel, an editable one too, or a source archive is built."""
        if (reason := fetched()) is not None:
            self.app.display_warning(f"the gateway's page will have no 3D view: {reason}")


def fetched() -> str | None:
    """Have NiiVue in place; or why that cannot be."""
    made_by = (ROOT / "package-lock.json", Path(__file__))
    lock = hashlib.sha256(b"".join(file.read_bytes() for file in made_by)).hexdigest()
    stamp = VENDOR / "lock.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == lock:
        return None
    npm = shutil.which("npm")
    if npm is None:
        return "NiiVue is fetched by npm, and there is no npm here"
    with tempfile.TemporaryDirectory() as folder:
        for name in ASKED:
            shutil.copy(ROOT / name, folder)
        asked = [npm, "ci", "--omit=optional", "--no-audit", "--no-fund"]
        ended = subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=False)
        if ended.returncode:
            return f"npm failed: {' '.join(ended.stderr.split())[:300]}"
        modules = Path(folder) / "node_modules"
        shutil.rmtree(VENDOR, ignore_errors=True)
        VENDOR.mkdir()
        shutil.copy(modules / NIIVUE / "dist" / "niivue.umd.js", VENDOR)
        (VENDOR / LICENCES).write_text(_licences(modules), encoding="utf-8")
    stamp.write_text(lock + "\n", encoding="utf-8")
    return None


def _licences(modules: Path) -> str:
    """The licence of NiiVue, and of each package that lies in its one file."""
    parts = []
    for file in sorted([*modules.glob("*/package.json"), *modules.glob("@*/*/package.json")]):
        about = json.loads(file.read_text(encoding="utf-8"))
        named = ("license", "licence")
        texts = [one for one in file.parent.iterdir() if one.name.lower().startswith(named)]
        if about["name"] == NIIVUE:
            texts = [PAGE / "niivue-licence.txt"]  # its package has none
        body = texts[0].read_text(encoding="utf-8") if texts else "(its package holds no text)"
        parts.append(f"{about['name']} {about['version']}: {about.get('license')}\n\n{body}")
    return ("\n" + "=" * 80 + "\n\n").join(parts)
