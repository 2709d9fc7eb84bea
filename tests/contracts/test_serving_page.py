"""docs/serving.md lists every setting with its default."""

import re
from pathlib import Path

from veilseg.serving.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"


def test_settings_and_their_defaults():
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    listed: dict[str, str] = {}
    for names, defaults in rows:
        fields = re.findall(r"`(\w+)`", names)
        told = [one.strip("` ") for one in defaults.split(",")]
        # One dash for several that have none.
        listed |= dict(zip(fields, told * len(fields) if told == ["–"] else told, strict=True))
    found = {}
    for name, field in Settings.model_fields.items():
        default = field.default
        plain = str(default).lower() if isinstance(default, bool) else str(default)
        found[name] = "–" if default in (None, ()) else plain
    assert listed == found
