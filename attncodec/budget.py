"""A budget says how long to train."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

from attncodec.errors import ConfigError

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
STEPS_MAX, DAYS_MAX = 10**9, 3650  # A larger number is a mistake.


class Budget(BaseModel):
    """A number of training steps or of seconds."""

    model_config = ConfigDict(frozen=True)

    amount: float
    unit: Literal["steps", "seconds"]

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Parse a number of steps (`5000`) or a time (`90s`, `20m`, `1.5h`, `1h30m`). Raises ValueError otherwise."""
        text = text.strip()
        parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([smhd])", text)
        is_time = "".join(number + unit for number, unit in parts) == text
        steps = float(text) if re.fullmatch(r"[0-9]+", text) else 0.0
        seconds = sum(float(number) * UNITS_S[unit] for number, unit in parts) if is_time else 0.0
        if not (steps or seconds):
            raise ValueError("a budget is a number of steps (5000) or a time (90s, 20m, 1.5h, 1h30m)")
        if steps > STEPS_MAX or seconds > DAYS_MAX * UNITS_S["d"]:
            raise ValueError(f"a budget is at most {STEPS_MAX} steps or {DAYS_MAX}d")
        return cls(amount=steps or seconds, unit="steps" if steps else "seconds")

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
        return None if text is None else Budget.parse(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text or repr(text):.100}: {error}", "such as 2h or 5000") from None
