"""Code that a run names: only of nasx and of installed packages, and found out without importing anything."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from nasx.config import trust
from nasx.config.trust import check_targets, find_problem
from nasx.errors import ConfigError


@pytest.mark.parametrize(
    "target",
    ["nasx.data.folder.ImageFolder", "nasx.data.lines.Lines", "torch.nn.Conv2d", "sklearn.svm.SVC", "yaml.SafeLoader"],
)
def test_nasx_and_installed_packages_are_trusted(target):
    assert find_problem(target) == ""


@pytest.mark.parametrize(
    "target",
    ["os.system", "subprocess.Popen", "json.tool.main", "builtins.exec", "sys.exit", "antigravity.x", "ctypes.CDLL"],
)
def test_the_standard_library_is_not(target):
    assert "which is not part of nasx or of an installed package" in find_problem(target)


@pytest.mark.parametrize("target", ["nasx.__main__.run", "pip.__main__.x", "__main__.Evil"])
def test_programs_are_not(target):
    assert find_problem(target) == "a program"


@pytest.mark.parametrize("place", ["here", "on the path"])
def test_modules_that_are_not_installed_are_found_out_without_importing_them(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path if place == "here" else tmp_path / "more"
    (folder / "strange").mkdir(parents=True)
    (folder / "strange/__init__.py").write_text("raise SystemExit")
    if place == "on the path":
        monkeypatch.syspath_prepend(folder)

    assert "which is not part of nasx or of an installed package" in find_problem("strange.deeper.Module")
    assert "strange" not in sys.modules


def test_a_local_module_that_hides_an_installed_one_is_not_trusted(tmp_path, monkeypatch):
    (tmp_path / "filelock_of_nobody.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)

    assert find_problem("filelock_of_nobody.X")
    assert "which is not part" in find_problem("filelock_of_nobody.X")


def test_a_local_folder_that_extends_an_installed_namespace_is_not_trusted(tmp_path, monkeypatch):
    (tmp_path / "spread").mkdir()
    (tmp_path / "site/spread").mkdir(parents=True)
    monkeypatch.setattr(trust, "_installed_folders", lambda: (tmp_path / "site",))
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert find_problem("spread.x.Y") == ""

    monkeypatch.syspath_prepend(tmp_path)

    assert "which is not part" in find_problem("spread.x.Y")


def test_a_package_in_development_mode_is_installed(tmp_path, monkeypatch):
    project, site = tmp_path / "project", tmp_path / "site"
    (project / "mine").mkdir(parents=True)
    (project / "mine/__init__.py").write_text("")
    (project / "other.py").write_text("")
    info = site / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(json.dumps({"url": project.as_uri(), "dir_info": {"editable": True}}))
    monkeypatch.setattr(trust, "_installed_folders", lambda: (site,))
    trust._editable_folders.cache_clear()
    monkeypatch.syspath_prepend(project)

    assert find_problem("mine.X") == ""
    assert "which is not part" in find_problem("other.X")
    trust._editable_folders.cache_clear()


def test_targets_are_found_at_any_depth():
    config = {"a": [{"b": {"_target_": "nasx.x.Y", "c": [[{"_target_": "os.system"}]]}}]}

    with pytest.raises(
        ConfigError, match=r"^run: a\[0\]\.b\.c\[0\]\[0\]\._target_ names os\.system, which .*--trust-code"
    ):
        check_targets(config, "run")
    with pytest.raises(ConfigError, match=r"a\._target_ must name a class as package\.module\.Class, got 3"):
        check_targets({"a": {"_target_": 3}}, str(Path("run")))
    with pytest.raises(ConfigError, match=r"a\.1\._target_ names os\.system"):
        check_targets({"a": {1: {"_target_": "os.system"}, "1": 2}}, "run")


@pytest.mark.parametrize("backbone", ["own_nets:mine", "pytest:main", "os:abort", "timm.models:resnet18", "a:b:c"])
@pytest.mark.parametrize("space", ["nasx.spaces.backbone.BackboneSpace", "sklearn.svm.SVC"])
def test_a_function_that_builds_a_backbone_is_never_trusted(backbone, space):
    config = {"space": {"_target_": space, "backbone": backbone}}

    with pytest.raises(ConfigError, match=rf"^run: space\.backbone names the function {backbone}, .* add --trust-code"):
        check_targets(config, "run")


@pytest.mark.parametrize(
    "backbone", ["efficientnet_lite0", "timm:resnet18", "torchvision:x", "transformers:/some/dir", 3]
)
def test_the_name_of_a_backbone_is_no_code(backbone):
    check_targets({"space": {"_target_": "nasx.spaces.backbone.BackboneSpace", "backbone": backbone}}, "run")
