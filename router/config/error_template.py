"""The file of `html_error_template_file` (contract §6.2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from router.http.template import Template, TemplateError

if TYPE_CHECKING:
    from router.config.model import RouterConfig

_KEY = "html_error_template_file"


def read_template(file: str) -> str:
    """The text of the template. Raises OSError, ValueError, TemplateError."""
    text = Path(file).read_text("utf-8")
    Template(text)
    return text


def template_problems(config: RouterConfig) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """The key, what is wrong, the remedy."""
    if not config.html_error_template_file:
        return
    try:
        read_template(config.html_error_template_file)
    except OSError as error:
        yield (_KEY,), f"the template can't be read: {error.strerror or error}", "name a file that the router may read"
    except UnicodeDecodeError:
        yield (_KEY,), "the template is not UTF-8 text", "save it as UTF-8"
    except TemplateError as error:
        yield (_KEY,), f"the template can't be used: {error}", "mend the template"
