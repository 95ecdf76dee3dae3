"""Rendering: what is finished is kept, what fails fails alone, and the answer says so."""

import io
import subprocess
import sys
from itertools import product

import pytest
from PIL import Image
from rich.console import Console

from animations import catalog, render

SCENE = catalog.of("animations.week3.complete_the_square")
MISSING = catalog.Row("plot", "A module that is no scene", ())


def still(rows, out):
    return render.render(rows, form="still", out=out, jobs=1, console=Console(file=io.StringIO()))


@pytest.mark.slow
def test_a_failed_scene_stops_no_other_and_finished_ones_are_kept(tmp_path):
    failed, done = still([MISSING, SCENE], tmp_path)
    assert not failed.ok
    assert "no scene 'plot'" in failed.error
    assert done.status == "rendered"
    assert Image.open(done.files[0]).size == (854, 480)

    failed, kept = still([MISSING, SCENE], tmp_path)
    assert (failed.ok, kept.status, kept.files) == (False, "kept", done.files)

    done.files[0].unlink()
    assert not render._kept(done.files[0], render._key(SCENE, "preview", "still"))


def test_a_key_depends_on_scene_quality_and_form():
    variants = product(catalog.SCENES, ("preview", "4k"), ("gif", "video"))
    keys = [render._key(*variant) for variant in variants]
    assert len(set(keys)) == len(keys)


def test_a_process_that_dies_takes_only_its_scene(tmp_path, monkeypatch):
    """Workers here die on their first job: both scenes fail, each with its own line, and nothing hangs."""

    def dying():
        command = [sys.executable, "-c", "import sys; sys.stdin.readline(); sys.exit(7)"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    monkeypatch.setattr(render, "_start", dying)
    outcomes = still(catalog.SCENES[:2], tmp_path)
    assert [outcome.error for outcome in outcomes] == [
        f"the process rendering {row.name} ended with code 7" for row in catalog.SCENES[:2]
    ]


@pytest.mark.parametrize("wrong", [{"quality": "8k"}, {"form": "slides"}, {"jobs": 0}])
def test_refuses_what_it_does_not_know(wrong, tmp_path):
    with pytest.raises(ValueError, match="expected"):
        render.render([SCENE], out=tmp_path, **wrong)


def test_catalog_selects():
    assert [row.name for row in catalog.select(week="5")] == ["week5/ddim_is_euler"]
    assert catalog.select(scene="forward_process") == catalog.select(scene="week4/forward_process")
    assert catalog.select() == catalog.SCENES
    with pytest.raises(ValueError, match="no scenes for week '9'"):
        catalog.select(week="9")
    with pytest.raises(ValueError, match="no scene 'ddim'"):
        catalog.select(scene="ddim")


def test_catalog_is_read_without_manim():
    heavy = "('manim', 'torch', 'sympy')"
    code = f"import sys, animations.catalog, animations.forms; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
