"""The example configurations, with the files that hold their secrets."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "examples"
CONFIGS = tuple(sorted((FOLDER / "config").glob("*.toml")))

_SECRETS = "/run/secrets"
# What such a file holds, by the end of its name; the longest that fits.
_CONTENTS = {
    "redis-url": "rediss://us:hunter2@redis.example.org:6380/0",
    "store-url": "https://us:hunter2@search-1.example.org:9200",
    "smtp-url": "smtp://us:hunter2@mail.example.org:587",
    "url": "https://hooks.example.org/hunter2",
    "hook": "https://hooks.slack.com/services/T0/B0/hunter2",
    "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3",
    "token": "xoxb-hunter2-hunter2",
    "token-tokyo": "xoxb-hunter2-hunter3",
    "key": "hunter20123456789abcdef012345678",
}


def placed(example: Path, folder: Path) -> Path:
    """Copy an example to a folder, beside the files that it names there, and return the copy."""
    copy = folder / example.name
    copy.write_text(secrets_for(example.read_text("utf-8"), _SECRETS, folder), "utf-8")
    return copy


def secrets_for(text: str, where: str, folder: Path) -> str:
    """Write the files that a file of settings names in `where` to a folder; return the text that names them there."""
    for name in re.findall(rf'"{where}/([\w-]+)"', text):
        end = max((end for end in _CONTENTS if name.endswith(end)), key=len)
        (folder / name).write_text(f"{_CONTENTS[end]}\n", "utf-8")
    return text.replace(where, str(folder))
