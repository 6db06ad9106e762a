"""The application's target: `MODULE:ATTRIBUTE`, such as `main:app` or `package.module:object.app`."""

from asgi_master.records import record


@record
class Target:
    """A parsed target. `attributes` is empty if the text names only a module."""

    module: str
    attributes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.module}:{'.'.join(self.attributes)}" if self.attributes else self.module


def parse_target(text: str) -> Target:
    """Parse a target. Raises `ValueError`, whose text completes `<text> ...`."""
    if not text.isprintable():
        raise ValueError("contains a control character")
    module, colon, path = text.partition(":")
    if "/" in module or module.endswith(".py"):
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        raise ValueError(f'is a file name, not MODULE:ATTRIBUTE: did you mean "{dotted}:{path or "app"}"?')
    if path.endswith("()"):
        raise ValueError(f"is a call: did you mean --factory {module}:{path.removesuffix('()')}?")
    attributes = tuple(path.split(".")) if colon else ()
    if not all(part.isidentifier() for part in (*module.split("."), *attributes)):
        raise ValueError("is not MODULE:ATTRIBUTE, such as main:app or package.module:object.app")
    return Target(module, attributes)
