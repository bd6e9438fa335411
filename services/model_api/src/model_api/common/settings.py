"""How every process reads its settings from the environment."""

import sys

from pydantic import ValidationError
from pydantic_settings import BaseSettings


def read_or_exit[T: BaseSettings](kind: type[T], program: str) -> T:
    """Read settings; exit with 2 and the names of the variables that are wrong.

    Args:
        kind: the class of the settings.
        program: the program's name, for the message.
    """
    try:
        return kind()
    except ValidationError as error:
        for fault in error.errors(include_input=False):
            field = str(fault["loc"][0])
            # A field without this prefix is known by the variable's whole name.
            name = field if field.isupper() else f"{kind.model_config['env_prefix']}{field.upper()}"
            print(f"{program}: {name}: {fault['msg']}", file=sys.stderr)
        sys.exit(2)
