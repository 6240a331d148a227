"""The package root: a table of contents that costs nothing to import."""

import subprocess
import sys

import resnets


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


def test_import_loads_nothing_heavy():
    heavy = "{'torch', 'numpy', 'PIL', 'pydantic', 'matplotlib'}"
    assert run(f"import sys, resnets; print({heavy} & set(sys.modules))") == "set()\n"
    code = f"import sys, resnets; resnets.list_models(); print({heavy} & set(sys.modules))"
    assert run(code) == "set()\n"


def test_everything_in_the_table_of_contents_exists():
    for name in resnets.__all__:
        assert getattr(resnets, name) is not None
    assert "train" in dir(resnets)


def test_functions_stay_functions_when_rooms_are_imported():
    # A room called like a function would replace it as the package's attribute.
    code = "import resnets, resnets.training.loop, resnets.analysis.profiling; "
    code += "print(callable(resnets.train), callable(resnets.profile))"
    assert run(code) == "True True\n"
