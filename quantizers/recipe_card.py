"""Recipe card: what `bench recipes` says of one recipe; imports without torch."""

from pydantic import BaseModel, ConfigDict


class RecipeCard(BaseModel):
    """A line of `bench recipes`.

    streams: whether the model may be larger than memory. runtime: forms of linears that a model of this recipe has
    (quantizers/forms.py). obstacle: why there is no file for the agent, else empty.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    scheme: str
    targets: dict[str, str]
    needs: tuple[str, ...]
    streams: bool
    runtime: tuple[str, ...]
    obstacle: str
    source: str
    blocks: str
    yaml: str
