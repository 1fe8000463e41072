"""The surroundings of a command: a quiet environment, and a file for its result."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel


def quiet(*, join: bool = True) -> None:
    """Keep Prefect and MLflow quiet and at home; `join` the stack that runs here, if one does."""
    from tasks.servers import set_environment
    from tasks.settings import settings
    from tasks.stack import join_stack

    set_environment(settings().prefect_home)
    if join:
        join_stack()


def write_result(path: Path | None, result: "BaseModel") -> None:
    """Write a result as JSON, if a file is named."""
    if path is not None:
        from tasks.storage import write_text

        write_text(path.expanduser().resolve(), result.model_dump_json(indent=1))
