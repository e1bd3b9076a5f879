import re
from pathlib import Path

from trio_alerts.channels.webhook import WebhookSettings
from trio_alerts.commands import COMMANDS
from trio_alerts.settings.settings import RouteSettings, settings_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_settings_tables_are_those_of_the_code() -> None:
    """A setting that changes must change in the README as well."""
    assert settings_table() in README
    assert settings_table(WebhookSettings) in README
    assert settings_table(RouteSettings) in README


def test_every_command_is_listed() -> None:
    """The README shows what there is, and only that."""
    rows = re.findall(
        r"^\| (`[a-z].*?`) \|", README.partition("| command | does |")[2].partition("| exit code |")[0], re.MULTILINE
    )
    assert set(COMMANDS) == set(re.findall(r"`([a-z]+)", " ".join(rows)))


def test_links_between_documents_lead_somewhere() -> None:
    """No page points to a file that is not there."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
