"""`inflight keys`: the API keys of the gateway."""

from typing import TYPE_CHECKING, Annotated

import typer

from inflight.errors import exits
from inflight.rendering import print_json, render_text

if TYPE_CHECKING:
    from producers.gateway.keys import ApiKey, KeyFile

app = typer.Typer()
keys = typer.Typer(no_args_is_help=True, help="Add, list and revoke API keys of the gateway.")
app.add_typer(keys, name="keys")

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _file() -> "KeyFile":
    from inflight.settings import load_settings
    from producers.gateway.keys import KeyFile

    return KeyFile(load_settings().gateway_keys_file)


@keys.command(epilog="Example: [bold]inflight keys add shop --scope predict --scope read --days 90[/bold]")
def add(
    name: Annotated[str, typer.Argument(help="Who gets the key, such as a program or a team.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="predict, label, read or admin; several times for more. Default: predict.")
    ] = None,
    days: Annotated[float | None, typer.Option(min=0.001, help="Days until it expires; never by default.")] = None,
    missing: Annotated[bool, typer.Option("--missing", help="Do nothing if a valid key has this name.")] = False,
    json: _Json = False,
) -> None:
    """Add a key and print it, once: the file has a digest of it. Running gateways accept it within a second."""
    from datetime import UTC, datetime, timedelta

    from producers.gateway.keys import SCOPES, KeysError

    scopes = scope or ["predict"]
    if unknown := [one for one in scopes if one not in SCOPES]:
        raise typer.BadParameter(f"no scope is named {', '.join(unknown)}: there are {', '.join(SCOPES)}")
    with exits(KeysError):
        if missing and any(one.name == name and one.is_valid(datetime.now(UTC)) for one in _file().read()):
            typer.secho(f"there is a key named {name}", err=True)
            return
        chosen = [one for one in SCOPES if one in scopes]
        key, text = _file().add(name, chosen, None if days is None else timedelta(days=days))
    if json:
        print_json({"key": text, **_shown(key)})
    else:
        typer.echo(text)
        typer.secho(f"key {key.id} of {key.name}, scopes {', '.join(key.scopes)}; it is not shown again", err=True)


@keys.command("list", epilog="Example: [bold]inflight keys list --json[/bold]")
def list_(json: _Json = False) -> None:
    """List the keys, without what they are."""
    from datetime import UTC, datetime

    from producers.gateway.keys import KeysError

    with exits(KeysError):
        found = _file().read()
    if json:
        print_json([_shown(key) for key in found])
        return
    if not found:
        typer.echo("there are no keys: the gateway listens on a loopback address only, and asks for none")
    now = datetime.now(UTC)
    for key in found:
        state = "revoked" if key.revoked_at else "valid" if key.is_valid(now) else "expired"
        until = f" until {key.expires_at:%Y-%m-%d}" if key.expires_at and state == "valid" else ""
        typer.echo(render_text(f"{key.id}  {key.name:<20} {state}{until}  {', '.join(key.scopes)}"))


@keys.command(epilog="Example: [bold]inflight keys revoke shop[/bold]")
def revoke(name: Annotated[str, typer.Argument(help="Name or id of the key.")], json: _Json = False) -> None:
    """Revoke a key. Running gateways refuse it within a second."""
    from producers.gateway.keys import KeysError

    with exits(failed=(KeysError,)):
        key = _file().revoke(name)
    if json:
        print_json(_shown(key))
    else:
        typer.echo(f"revoked {key.id} of {key.name}")


def _shown(key: "ApiKey") -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }
