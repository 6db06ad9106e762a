"""Reseeds random generators that an application created at its import, so that they differ in each forked worker.

The generators of `secrets`, `ssl` and the system need nothing: they use the kernel, or detect a fork. Python reseeds
the functions of `random` in each fork, but no other generator.
"""

import contextlib
import gc
import random
import sys
from collections.abc import Iterable
from typing import Any

_FROM_THE_SYSTEM = 64
"""Bits; a numpy generator with a longer seed got it from the system, not from the application."""


def generators() -> list[Any]:
    """The generators in this process; to be called after the import, before its garbage is frozen."""
    kinds: tuple[type, ...] = (random.Random,)
    if (numpy := sys.modules.get("numpy.random")) is not None:
        kinds += (numpy.BitGenerator,)
    # Checks the type, not the object, which may be a proxy that creates another object on access.
    return [found for found in gc.get_objects() if issubclass(type(found), kinds)]


def make_different(found: Iterable[Any]) -> None:
    """Reseed these, and other state that must differ, from the system. Called in the worker, after its fork."""
    for generator in found:
        if isinstance(generator, random.Random):
            with contextlib.suppress(Exception):  # a class of the application may raise anything
                generator.seed()
        elif _is_seeded_by_the_system(generator):
            generator.state = type(generator)().state
    if (numpy := sys.modules.get("numpy.random")) is not None:
        with contextlib.suppress(TypeError):  # replaced by a generator without a seed
            numpy.seed()
    # The C library's version 1 would continue the same clock sequence in every fork.
    uuid: Any = sys.modules.get("uuid")
    if hasattr(uuid, "_generate_time_safe"):
        uuid._generate_time_safe = None  # noqa: SLF001 -- then Python draws one for each


def _is_seeded_by_the_system(generator: Any) -> bool:
    """Whether the seed is random; a seed that the application chose is to be the same in every process."""
    entropy = getattr(getattr(generator, "seed_seq", None), "entropy", None)
    return isinstance(entropy, int) and entropy.bit_length() > _FROM_THE_SYSTEM
