"""The YAML loader of the project's files."""

import yaml

SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's loader where PyYAML was built with it, which is ten times as fast; PyYAML's own otherwise."""
