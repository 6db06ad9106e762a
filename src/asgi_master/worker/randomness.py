"""Random generators that an application made as it was imported: in each forked worker they go on differently.

Those of `secrets`, `ssl` and the system need nothing: they come from the kernel, or notice a fork. Python seeds the
functions of `random` anew in each fork, but no generator that somebody else made.
"""

import contextlib
import gc
import random
import sys
from collections.abc import Iterable
from typing import Any

_FROM_THE_SYSTEM = 64
"""Bits; a generator of numpy whose seed is longer was given it by the system, not by the application."""


def generators() -> list[Any]:
    """The generators that live in this process: to be asked for after the import, before its garbage is frozen."""
    kinds: tuple[type, ...] = (random.Random,)
    if (numpy := sys.modules.get("numpy.random")) is not None:
        kinds += (numpy.BitGenerator,)
    # Its type is asked, not the object, which may be a stand-in that makes another for the answer.
    return [found for found in gc.get_objects() if issubclass(type(found), kinds)]


def make_different(found: Iterable[Any]) -> None:
    """Seed them, and what counts for itself elsewhere, from the system. Called in the worker, after its fork."""
    for generator in found:
        if isinstance(generator, random.Random):
            with contextlib.suppress(Exception):  # a class of the application's own may do anything
                generator.seed()
        elif _is_seeded_by_the_system(generator):
            generator.state = type(generator)().state
    if (numpy := sys.modules.get("numpy.random")) is not None:
        with contextlib.suppress(TypeError):  # somebody put a generator in its place that has no seed
            numpy.seed()
    # The C library's version 1 goes on in the clock sequence that it once drew, in every fork.
    uuid: Any = sys.modules.get("uuid")
    if hasattr(uuid, "_generate_time_safe"):
        uuid._generate_time_safe = None  # noqa: SLF001 -- then Python draws one for each


def _is_seeded_by_the_system(generator: Any) -> bool:
    """A seed that the application chose it has in every process, however that was started."""
    entropy = getattr(getattr(generator, "seed_seq", None), "entropy", None)
    return isinstance(entropy, int) and entropy.bit_length() > _FROM_THE_SYSTEM
