"""Reading a declaration from TOML. Errors name the field and what it accepts."""

import tomllib

import msgspec

from machine_learning_engineering.core.validation import parse_decoder_message
from machine_learning_engineering.declaration.schema import Declaration

__all__ = ["DECLARATION_FILE", "InvalidDeclaration", "parse_declaration"]

DECLARATION_FILE = "declaration.toml"
"""Name of the file in a version of the registry."""


class InvalidDeclaration(ValueError):
    """A declaration can't be used. The message names the file, the field and the fix."""


def parse_declaration(content: bytes, name: str = DECLARATION_FILE) -> Declaration:
    """Read a declaration.

    Args:
        content: TOML text.
        name: Name of the file, for messages.

    Raises:
        InvalidDeclaration: It is not TOML, or does not fit the schema.
    """
    try:
        found = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidDeclaration(f"{name} is not TOML: {error!s:.500}") from error
    try:
        return msgspec.convert(found, Declaration)
    except msgspec.ValidationError as error:
        message = parse_decoder_message(error)
        raise InvalidDeclaration(f"{name}: {message.path or 'the file'}: {message.problem:.500}") from error
