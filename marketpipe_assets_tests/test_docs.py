"""The pages say what the code does: generated ones are equal to it, commands run, links and alerts are there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from marketpipe_assets_tests.reference import DOCS, PAGES
from marketpipe_assets_tests.test_readme import run

ROOT = DOCS.parent
WRITTEN = sorted(page for page in DOCS.glob("*.md") if page.name != "cli.md")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_generated_page_is_what_the_code_says(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page](), "python -m marketpipe_assets_tests.reference writes it anew"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_site_has_every_page_and_no_link_is_broken(site: Path) -> None:
    assert {page.stem for page in DOCS.glob("*.md")} <= {page.stem for page in site.glob("*.html")}


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        loaded = re.findall(r"<(?:script|link|img)[^>]+?(?:src|href)=\"?([^\" >]+)", page.read_text())
        assert [address for address in loaded if address.startswith(("http:", "https:", "//"))] == []


@pytest.mark.parametrize("page", [page for page in WRITTEN if blocks(page, "console")], ids=lambda page: page.stem)
def test_commands_of_a_page_run_one_after_another(tmp_path: Path, page: Path) -> None:
    for number, sample in enumerate(blocks(page, "yaml")):
        (tmp_path / f"sample{number}.yaml").write_text(sample)
    for block in blocks(page, "console"):
        for command in block.splitlines():
            done = run(shlex.split(command.removeprefix("$ ")), tmp_path)
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def whole_files(page: Path) -> list[str]:
    """Samples that are a marketpipe.yaml, not a part of one."""
    return [sample for sample in blocks(page, "yaml") if sample.startswith("config_version") and "markets:" in sample]


@pytest.mark.parametrize("page", [page for page in WRITTEN if whole_files(page)], ids=lambda page: page.stem)
def test_sample_configurations_are_read(tmp_path: Path, page: Path) -> None:
    from marketpipe_assets.config import load_config

    for sample in whole_files(page):
        (tmp_path / "marketpipe.yaml").write_text(sample)
        load_config(tmp_path / "marketpipe.yaml")


@pytest.mark.parametrize("page", [page for page in WRITTEN if blocks(page, "python")], ids=lambda page: page.stem)
def test_python_of_a_page_is_python(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")


def test_the_runbook_has_every_alert() -> None:
    rules = yaml.safe_load((ROOT / "grafana" / "alerts.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}

    assert alerts <= set(re.findall(r"^## (\w+)$", (DOCS / "operations.md").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_commands_that_pages_name_exist(page: Path) -> None:
    from typer.main import get_command

    from marketpipe_assets.cli.app import app

    known = get_command(app).commands  # type: ignore[attr-defined]  # a group

    named = set(re.findall(r"`marketpipe ([a-z][a-z-]*)", page.read_text()))
    assert named - set(known) == set()
