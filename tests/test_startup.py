"""What is imported before anything is computed: seconds, if it were torch."""

import subprocess
import sys
from pathlib import Path

COMPUTING = {"torch", "numpy", "PIL", "safetensors", "matplotlib", "sklearn", "yaml", "jinja2"}
RUN = """
import sys
from resnets import cli
for words in {commands}:
    sys.argv = ["resnets", *words]
    try:
        cli.main()
    except SystemExit:
        pass
"""


def imported(code: str) -> set[str]:
    """The packages outside the standard library that a fresh process imports to run ``code``."""
    code = f"import sys; before = set(sys.modules)\n{code}\n"
    code += "print('imported', *{m.split('.')[0] for m in set(sys.modules) - before})"
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    *_, last = result.stdout.splitlines()
    word, *packages = last.split()
    assert word == "imported"
    return set(packages) - set(sys.stdlib_module_names)


def after(*commands: str) -> set[str]:
    return imported(RUN.format(commands=[command.split() for command in commands]))


def test_the_package_alone_imports_nothing_else():
    assert imported("import resnets") == {"resnets"}


def test_names_and_specs_need_the_standard_library_only():
    assert imported("import resnets; resnets.get_spec('resnet50')") == {"resnets"}


def test_run_folders_are_read_without_torch():
    packages = imported("import resnets.run_folder.ledger, resnets.run_folder.reading")
    assert not packages & (COMPUTING - {"numpy", "yaml"})


def test_help_needs_typer_only():
    packages = after("--help")
    assert "typer" in packages
    assert not packages & (COMPUTING | {"rich", "pydantic"})


def test_the_help_of_every_command_computes_nothing():
    folder = Path(__file__).parents[1] / "src" / "resnets" / "cli"
    names = {path.stem for path in folder.glob("*.py")} - {"__init__", "options", "output"}
    assert "predict" in names
    # pydantic is typer's own, which checks the words of a command with it.
    names |= {f"data {name}" for name in ("get", "check", "sample")}
    assert not after(*(f"{name} --help" for name in sorted(names))) & (COMPUTING | {"rich"})


def test_what_needs_names_only_computes_nothing():
    commands = ("models", "models resnext* --json", "show resnet5O", "draw resnet5O", "--version")
    assert not after(*commands) & COMPUTING


def test_a_model_needs_torch_and_no_more_than_pictures_and_files_do():
    needed = imported("import resnets; resnets.create_model('resnet8')")
    beyond = needed - imported("import torch")
    assert beyond == {"resnets", "PIL", "safetensors"}
