"""The YAML loader of the project's files."""

import yaml

SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's loader where PyYAML was built with it, because it is faster; PyYAML's own otherwise."""
