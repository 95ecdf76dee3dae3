"""The shipped code against the shipped theory: every bound function agrees, everything named exists."""

import importlib

import pytest

from theory.proof import CLAIMS, session
from verify.agreement import agree
from verify.bindings import DIFFUSION, formula_of, in_module
from verify.code_mutants import waivers
from verify.worlds import checks

for _path in session.files():
    session.load(_path)
MODULES = [f"diffusion.{path.stem}" for path in sorted(DIFFUSION.glob("*.py")) if path.stem != "__init__"]
BINDINGS = [binding for module in MODULES for binding in in_module(module)]


@pytest.mark.parametrize("binding", BINDINGS, ids=[b.name.removeprefix("diffusion.") for b in BINDINGS])
def test_bound_function_agrees(binding):
    for found in agree(binding, formula_of(binding.claim)):
        assert found.status == "agrees", found
        assert found.point


def test_world_checks_are_about_claims_that_exist():
    unknown = {claim for check in checks() for claim in check.claims} - set(CLAIMS)
    assert not unknown


def test_waivers_are_about_functions_that_exist():
    for key in waivers():
        module, _, name = key.partition(":")[0].rpartition(".")
        assert hasattr(importlib.import_module(module), name), key
