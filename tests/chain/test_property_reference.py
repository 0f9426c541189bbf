# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/indi-properties.md is what the driver does: `make docs` would write the same page, on any machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from support import ROOT

SCRIPT = ROOT / "tools" / "property_reference.py"
PAGE = ROOT / "docs" / "indi-properties.md"


def check(page: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.property_reference", "--check", str(page)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=50,
    )


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = spec_from_file_location("property_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_the_committed_page_is_current_whoever_writes_it() -> None:
    done = check(PAGE, INDIDEV="Other", INDICONFIG="/nonexistent/config.xml", LC_ALL="C", TZ="Asia/Kathmandu")
    assert done.returncode == 0, f"{done.stderr}: run make docs"


def test_a_page_that_is_not_current_is_reported_with_the_remedy(tmp_path: Path) -> None:
    page = tmp_path / PAGE.name
    page.write_text(PAGE.read_text(encoding="utf-8").replace("Max. Position", "Maximum"), encoding="utf-8")
    for path in (page, tmp_path / "missing.md"):
        done = check(path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"{path.name} is not what the driver does: run make docs\n"


@pytest.mark.parametrize("name", ["FOCUS_MAX", "SYSTEM_PORTS", "FOCUS_TEMPERATURE"])
def test_no_property_lacks_a_meaning(script: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delitem(script.MEANINGS, name)
    with pytest.raises(ValueError, match=f": {name}$"):
        script.Reference()


def test_no_meaning_is_of_a_property_that_is_gone(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(script.MEANINGS, "FOCUS_SPEED", script.Meaning("How fast it goes."))
    with pytest.raises(ValueError, match=r": FOCUS_SPEED$"):
        script.Reference()


def test_every_link_of_the_page_leads_to_one_of_its_headings() -> None:
    text = PAGE.read_text(encoding="utf-8")
    headings = [heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    links = re.findall(r"\]\(#([^)]+)\)", text)
    assert len(links) > 25
    assert [link for link in links if headings.count(link) != 1] == []


def test_what_the_page_names_is_there(script: ModuleType) -> None:
    """In the texts that are written by hand."""
    text = PAGE.read_text(encoding="utf-8")
    words = {"INDI_MULTIFOCUS_CONFIG", "INDIDEV", "INDICONFIG", "DRIVER_INTERFACE", "LINK", "POSITION"}
    named = {name for name in re.findall(r"`([A-Z_]{4,})`", text) if f"| `{name}`" not in text}
    assert named - words <= set(script.MEANINGS)
