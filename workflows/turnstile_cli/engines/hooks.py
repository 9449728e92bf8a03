"""Hooks into private names of a package, with a clear error if such a name is gone."""

from dataclasses import dataclass
from importlib.metadata import version
from types import ModuleType
from typing import Any, NoReturn


@dataclass(frozen=True)
class Hooked:
    """A package whose private names `module` hooks into; pyproject.toml pins its version."""

    package: str
    module: str

    def need(self, owner: ModuleType | type, name: str) -> Any:
        """Return a private attribute of a module or a class. Raise RuntimeError if it is gone."""
        if not hasattr(owner, name):
            self.changed(f"{owner.__name__}.{name} is gone")
        return getattr(owner, name)

    def changed(self, what: str) -> NoReturn:
        """Raise RuntimeError: the package is not the version that the hooks were written for."""
        raise RuntimeError(
            f"{self.package} {version(self.package)} does not fit: {what}. Install the version that pyproject.toml "
            f"pins, or adapt {self.module}."
        )
