"""Non-negative numbers in 16 bits: five bits of exponent, eleven of mantissa, in a unit that each quantity has.

The relative error is at most 1/2048, and order is kept: of two numbers, the larger never has the smaller code.
"""

from functools import lru_cache

UNKNOWN = 0xFFFF
"""The code of a value that is not known."""
_BITS = 11
_MANTISSA = 1 << _BITS
_LARGEST = UNKNOWN - 1


def encode(value: float | None, unit: float) -> int:
    """The code of `value`, which is rounded to a multiple of `unit`, and to eleven bits. Too large ones are cut."""
    if value is None:
        return UNKNOWN
    count = round(max(0.0, min(value / unit, 1e18)))
    exponent = max(0, count.bit_length() - _BITS)
    mantissa = (count + (1 << exponent >> 1)) >> exponent
    if mantissa == _MANTISSA:
        mantissa, exponent = mantissa >> 1, exponent + 1
    return min(exponent << _BITS | mantissa, _LARGEST)


@lru_cache(maxsize=8192)
def decode(code: int, unit: float) -> float | None:
    """The number that a code stands for, to four digits."""
    if code == UNKNOWN:
        return None
    return float(f"{((code & _MANTISSA - 1) << (code >> _BITS)) * unit:.4g}")
