"""Templates: HTML from the files of this folder, escaped, with the colours of the theme."""

from pathlib import Path

import jinja2
from markupsafe import Markup

from reports import theme

HERE = Path(__file__).parent


def fill(name: str, **values: object) -> str:
    """The template `name`; all text is escaped unless it is Markup. A value that it lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    look = {"style": style, "light": theme.LIGHT, "dark": theme.DARK, "font": Markup(theme.FONT)}
    return environment.get_template(name).render(**look, **values)
