"""`flux init`: a project that runs."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from flux.cli.output import command_errors
from flux.errors import UsageError

_RENAMED = {"gitignore": ".gitignore", "env.example": ".env.example"}
_TYPES = "types/flux-functions.d.ts"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@command_errors
def init(folder: Path) -> None:
    """Write a new project into FOLDER: a TypeScript and a Python function, a schema file, types, settings.

    Files that are already there are kept as they are.
    """
    folder = folder.expanduser()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file.", "Name a folder: flux init my-app")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-") or "app"
    written, kept = write_project(folder, name)
    for path in written:
        click.echo(f"  {click.style('+', fg='green')} {path}")
    for path in kept:
        click.echo(f"  = {path} (kept)")
    click.echo()
    if folder.resolve() != Path.cwd():
        click.echo(f"  cd {folder}")
    click.echo("  flux dev")


def write_project(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """Write the template into `folder`.

    Returns:
        Relative paths written, and those left alone because they existed.
    """
    template = {
        _RENAMED.get(path, path): source.read_text(encoding="utf-8")
        for path, source in _walk(files("flux.cli") / "template", "")
    }
    for path in ("flux.toml", "README.md"):
        template[path] = template[path].replace("{{", "{").replace("}}", "}").replace("{name}", name)
    types = files("flux.runtime") / "guest" / "deno" / "types" / "index.d.ts"
    template[_TYPES] = types.read_text(encoding="utf-8")
    written: list[str] = []
    kept: list[str] = []
    for path, text in sorted(template.items()):
        target = folder / path
        if target.exists():
            kept.append(path)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(path)
    return written, kept


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            if entry.name != "__pycache__":
                found += _walk(entry, f"{path}/")
        else:
            found.append((path, entry))
    return found
