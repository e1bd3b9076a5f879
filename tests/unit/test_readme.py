import json
import re
import runpy
from pathlib import Path

import trio_alerts
from trio_alerts.commands import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GENERATED = runpy.run_path(str(ROOT / "docs" / "generate.py"))


def test_the_pages_made_from_the_code_are_current() -> None:
    """What changes in the code, settings and files, changes in the documentation: `make docs` writes it."""
    assert GENERATED["settings_page"]() == (ROOT / "docs" / "settings.md").read_text()
    assert GENERATED["readme_table"]() in README
    for file, name, text in GENERATED["parts"]():
        page = (ROOT / "docs" / file).read_text()
        assert GENERATED["with_part"](page, name, text) == page
    assert GENERATED["values_schema"]() == json.loads(GENERATED["VALUES_SCHEMA"].read_text())


def test_what_is_deployed_has_the_programs_version() -> None:
    """The chart and the image's label, unless a build says otherwise."""
    chart = (ROOT / "deploy" / "helm" / "trio-alerts" / "Chart.yaml").read_text()
    assert f'appVersion: "{trio_alerts.__version__}"\n' in chart
    assert f"\nARG VERSION={trio_alerts.__version__}\n" in (ROOT / "deploy" / "Containerfile").read_text()


def test_every_command_is_listed() -> None:
    """The README shows what there is, and only that."""
    rows = re.findall(r"^\| (`[a-z].*?`) \|", README.partition("| command |")[2].partition("\n\n")[0], re.MULTILINE)
    assert set(COMMANDS) == set(re.findall(r"`([a-z]+)", " ".join(rows)))


def test_links_between_documents_lead_somewhere() -> None:
    """No page points to a file that is not there."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
