"""Values in their units, as Grafana writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

_DURATIONS: Final = ((31_536_000, "years"), (604_800, "weeks"), (86_400, "days"), (3600, "hours"), (60, "mins"))
_SMALL: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES: Final = ("B", "KiB", "MiB", "GiB", "TiB")
#: How many decimals from which size on; below, four.
_DECIMALS: Final = ((0, 100), (1, 10), (2, 0.1), (3, 0.01))
_SHORT: Final = ("", " K", " Mil", " Bil", " Tri")
_RATES: Final = {"mps": "msg/s", "ops": "ops/s", "reqps": "req/s"}


def written(value: float, unit: str, decimals: int | None = None) -> str:
    """A value with its unit.

    Raises:
        KeyError: the unit is not one of those that the dashboards use.
    """
    return _WRITERS[unit](value, decimals)


def scale(most: float, unit: str) -> float:
    """What an axis up to ``most`` should count in, so that its marks are round figures."""
    if unit == "bytes":
        return float(1024 ** _power(most, 1024, len(_BYTES)))
    if unit == "s":
        return next((float(size) for size, _ in _DURATIONS if most >= size), 1.0)
    return 1.0


def _number(value: float, decimals: int | None) -> str:
    if decimals is None:
        decimals = 0 if value == int(value) else next((n for n, least in _DECIMALS if abs(value) >= least), 4)
        text = f"{value:.{decimals}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{decimals}f}"


def _power(value: float, base: int, count: int) -> int:
    return next((power for power in range(count - 1) if abs(value) < float(base) ** (power + 1)), count - 1)


def _stepped(base: int, names: Sequence[str], gap: str = "") -> Callable[[float, int | None], str]:
    def write(value: float, decimals: int | None) -> str:
        power = _power(value, base, len(names))
        return f"{_number(value / base**power, decimals)}{gap}{names[power]}"

    return write


def _seconds(value: float, decimals: int | None) -> str:
    if value == 0:
        return "0 s"
    for large, name in _DURATIONS:
        if abs(value) >= large:
            return f"{_number(value / large, decimals if decimals is not None else _coarse(value / large))} {name}"
    size, name = next(((size, name) for size, name in _SMALL if abs(value) >= size), _SMALL[-1])
    return f"{_number(value / size, decimals)} {name}"


def _coarse(value: float) -> int:
    return 0 if value == int(value) or value >= 100 else 1


def _share(value: float, decimals: int | None) -> str:
    return f"{_number(value * 100, decimals)}%"


def _money(value: float, decimals: int | None) -> str:
    fitting = decimals if decimals is not None else 2 if abs(value) >= 0.1 or value == 0 else 4
    power = _power(value, 1000, len(_SHORT))
    return f"${value / 1000**power:.{fitting}f}{_SHORT[power].strip()}"


def _per_second(name: str) -> Callable[[float, int | None], str]:
    def write(value: float, decimals: int | None) -> str:
        return f"{_stepped(1000, _SHORT)(value, decimals)} {name}"

    return write


_WRITERS: Final[dict[str, Callable[[float, int | None], str]]] = {
    "none": _number,
    "short": _stepped(1000, _SHORT),
    "s": _seconds,
    "bytes": _stepped(1024, _BYTES, " "),
    "percentunit": _share,
    "currencyUSD": _money,
    **{unit: _per_second(name) for unit, name in _RATES.items()},
}
