"""A budget says how long to train."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

from attncodec.errors import ConfigError

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Budget(BaseModel):
    """A number of training steps or of seconds."""

    model_config = ConfigDict(frozen=True)

    amount: float
    unit: Literal["steps", "seconds"]

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Parse a number of steps (`5000`) or a time (`90s`, `20m`, `1.5h`, `1h30m`). Raises ValueError otherwise."""
        text = text.strip()
        if re.fullmatch(r"[0-9]+", text) and int(text) > 0:
            return cls(amount=int(text), unit="steps")
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
        seconds = sum(float(number) * UNITS_S[unit] for number, unit in parts)
        if not seconds or "".join(number + unit for number, unit in parts) != text:
            raise ValueError("a budget is a number of steps (5000) or a time (90s, 20m, 1.5h, 1h30m)")
        return cls(amount=seconds, unit="seconds")

    def __add__(self, other: "Budget") -> "Budget":
        if self.unit != other.unit:
            raise ConfigError(
                f"a budget in {self.unit} cannot be extended by {other.unit}", f"give --extend in {self.unit}"
            )
        return Budget(amount=self.amount + other.amount, unit=self.unit)

    def at_least(self, spent: float) -> "Budget":
        """Return this budget, or what was spent if that is more, because the last validation comes after the budget."""
        return Budget(amount=max(self.amount, spent), unit=self.unit)


def budget_of_option(option: str, text: str | None) -> Budget | None:
    """Parse an option of the command line, if it is given. Raises a ConfigError that names the option."""
    try:
        return Budget.parse(text) if text else None
    except ValueError as error:
        raise ConfigError(f"{option} {text}: {error}") from None
