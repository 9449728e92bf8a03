"""Where the files of the project are: in the repository, or in the wheel."""

from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]
ROOT = _REPOSITORY if (_REPOSITORY / "template.yaml").is_file() else Path(__file__).parent / "project"
"""The folder of `template.yaml`, `asl/`, `functions/` and the sample agents."""
TEMPLATE = ROOT / "template.yaml"
ASL = ROOT / "asl"
AGENTS = ROOT / "workflows" / "agents"
