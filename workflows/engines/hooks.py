"""What it takes to hook into private names of a package: to say clearly that one of them is gone."""

from dataclasses import dataclass
from importlib.metadata import version
from types import ModuleType
from typing import Any, NoReturn


@dataclass(frozen=True)
class Hooked:
    """A package with private names that `module` takes hold of; pyproject.toml pins its version."""

    package: str
    module: str

    def need(self, owner: ModuleType | type, name: str) -> Any:
        """A private name of a module's or a class's. Raises RuntimeError if it is gone."""
        if not hasattr(owner, name):
            self.changed(f"{owner.__name__}.{name} is gone")
        return getattr(owner, name)

    def changed(self, what: str) -> NoReturn:
        """Says that the package is not what the hooks were written for."""
        raise RuntimeError(
            f"{self.package} {version(self.package)} does not fit: {what}. Install the version that pyproject.toml "
            f"pins, or adapt {self.module}."
        )
