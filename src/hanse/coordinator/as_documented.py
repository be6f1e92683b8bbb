"""What clients send that were written from the documents alone, in the words that Hanse takes.

Nothing is refused that a document prints. Where it asks for less than Hanse does, that is accepted and said: each
function gives the body as Hanse reads it, and a sentence for each thing that would be better done otherwise. A body in
Hanse's own words comes back as it was.
"""

from __future__ import annotations

from typing import Any

Said = tuple[str, ...]
UNNAMED = "it did not name the code (code_hash)"  # beside such a consent, for whoever reads the records later
_SUMMARY = {"samples": "num_samples", "sparsity": "data_sparsity"}  # mllabiome's prose, and its tutorial's fields


def registration(raw: dict[str, Any]) -> tuple[dict[str, Any], Said]:
    """A registration with mllabiome's four facts: samples, features, class distribution, sparsity.

    >>> body, said = registration({"client_id": "a", "samples": 20, "features": 3, "sparsity": 0.5})
    >>> body
    {'client_id': 'a', 'num_samples': 20, 'data_sparsity': 0.5, 'num_features': 3}
    """
    body = {_SUMMARY.get(name, name): value for name, value in raw.items()}
    if len(body) < len(raw):
        return raw, ()  # the same fact twice: which is meant is not for us to say
    features = body.get("features")
    if "num_features" not in body and isinstance(features, list):
        body["num_features"] = len(features)
    if "num_features" not in body and type(features) is int:
        body["num_features"] = body.pop("features")
    said = []
    if "feature_coverage" not in body:
        said.append("feature_coverage is not told and stays unknown; it is the mean share of the features in a sample")
    if "features" not in body:
        said.append(
            "the names of the features are not told, so this client is left out when features are aligned; send "
            "features as a list of names, or add the data at a node"
        )
    return body, tuple(said)


def consent(raw: dict[str, Any], proposed: str) -> tuple[dict[str, Any], Said]:
    """A decision that names no code: it is taken for what the session proposes, which never changes.

    >>> consent({"client_id": "a", "decision": "accept"}, "00ff")[0]
    {'client_id': 'a', 'decision': 'accept', 'code_hash': '00ff'}
    """
    if raw.get("code_hash") is not None:
        return raw, ()
    said = (
        "this consent does not name the code that was read (code_hash), so it was taken for what this session "
        f"proposes, {proposed}; name it, and a consent can be for nothing else"
    )
    return {**raw, "code_hash": proposed}, () if raw.get("decision") == "reject" else (said,)
