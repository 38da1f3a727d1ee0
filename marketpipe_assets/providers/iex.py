"""What the name `iex` means since IEX Cloud is closed: the feed `iex` of Alpaca."""

import warnings
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from marketpipe_assets.providers.alpaca import AlpacaProvider
from marketpipe_assets.providers.base import Capabilities

CLOSED = "IEX Cloud closed on 2024-08-31"
INSTEAD = "`type: alpaca` with `feed: iex` (the same exchange's trades), or `type: tiingo`"
OF_IEX_CLOUD = ("token", "is_sandbox")


class IexProvider(AlpacaProvider):
    """Bars of the exchange IEX as Alpaca gives them, with Alpaca's keys. A block of IEX Cloud's settings is refused.

    Years that IEX Cloud was asked for lie in archives whose times are New York's; Alpaca's are UTC.
    """

    capabilities: ClassVar[Capabilities] = AlpacaProvider.capabilities.model_copy(
        update={
            "asset_classes": ("equity",),
            "feeds": ("iex",),
            "history": "since 2016",
            "keyless": False,
            "paid_plan": "no",
        }
    )

    name: str = Field(default="iex", description="Name of the provider, kept with each bar")
    feed: Literal["iex"] = Field(default="iex", description="Feed of stocks: iex")
    token: str | None = Field(default=None, description="Of IEX Cloud: refused")
    is_sandbox: str | None = Field(default=None, description="Of IEX Cloud: refused")

    @model_validator(mode="before")
    @classmethod
    def _no_settings_of_iex_cloud(cls, values: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in OF_IEX_CLOUD if values.get(name) is not None]
        if given:
            raise ValueError(f"{', '.join(given)}: {CLOSED}: use {INSTEAD}")
        return values

    @model_validator(mode="after")
    def _says_what_it_is(self) -> "IexProvider":
        warnings.warn(
            f"provider {self.name}: {CLOSED}: its bars come from Alpaca, feed iex; write {INSTEAD}",
            UserWarning,
            stacklevel=2,
        )
        return self
