"""Renders the chart with Helm's own engine: values (JSON) in, objects (JSON) out. Runs in an environment of its own.

Each object is held against the schema of Kubernetes, in which nothing unknown may stand.
"""

from __future__ import annotations

import json
import sys
from typing import Any

KUBERNETES = ("1.28", "1.34")


def rendered(chart_folder: str, release: str, values: dict[str, Any]) -> dict[str, Any]:
    """The objects, and what is wrong with the chart, the values or an object."""
    import helm_python
    import kubernetes_validate
    import yaml

    found = helm_python.lint(chart_folder)
    errors = [*found["errors"], *(m["error"] for m in found["messages"] if m["severity"] > 1)]  # 1: it has no icon
    objects, texts = [], {}
    with helm_python.Chart.load(chart_folder) as chart:
        try:
            chart.validate_schema(values)
            texts = chart.render(values, name=release, namespace="federation")
        except helm_python.HelmError as error:
            errors.append(str(error))
    for name, text in texts.items():
        for one in filter(None, yaml.safe_load_all(text) if name.endswith(".yaml") else ()):
            objects.append(one)
            for version in KUBERNETES:
                try:
                    kubernetes_validate.validate(one, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    errors.append(f"{name} {one['kind']} {one['metadata']['name']} ({version}): {error.message}")
    return {"errors": errors, "objects": objects}


if __name__ == "__main__":
    json.dump(rendered(sys.argv[1], sys.argv[2], json.load(sys.stdin)), sys.stdout)
