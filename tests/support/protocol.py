"""The Open Inference Protocol v2 over HTTP as an OpenAPI document, to make requests from."""

from typing import Any

NAMES = {"type": "string", "enum": ["tiny", "other", "..", "a b"]}
VERSIONS = {"type": "string", "enum": ["1", "1.2.0", "2", ".."]}
NUMBERS = {"oneOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}]}
TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string", "enum": ["proxy", "answer", "x"]},
        "datatype": {"type": "string", "enum": ["FP16", "FP32", "INT8", "BYTES"]},
        "shape": {"type": "array", "items": {"type": "integer"}, "maxItems": 9},
        "data": {"type": "array", "items": NUMBERS, "maxItems": 200},
        "parameters": {"type": "object"},
    },
}
REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "items": TENSOR, "maxItems": 3},
        "outputs": {
            "type": "array",
            "maxItems": 2,
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
            },
        },
        "parameters": {
            "type": "object",
            "properties": {
                "binary_data_output": {"type": "boolean"},
                # A sound request that gives the server a microsecond meets 504, as it should.
                "timeout": {"type": "integer", "minimum": 60_000_000},
            },
        },
    },
}


def document() -> dict[str, Any]:
    """The protocol's places, with their parameters and bodies."""
    model, version = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    paths: dict[str, Any] = {
        place: {"get": _operation(place)}
        for place in ("/v2", "/v2/health/live", "/v2/health/ready", "/metrics")
    }
    for place in (model, version):
        paths[place] = {"get": _operation(place)}
        paths[f"{place}/ready"] = {"get": _operation(place)}
        paths[f"{place}/infer"] = {"post": _operation(place, _infer_body(), _infer_headers())}
    command = {"content": {"application/json": {"schema": {"type": "object"}}}}
    paths["/v2/repository/index"] = {"post": _operation("", command)}
    # Loading compiles, so that of the two only what finds nothing is tried often.
    for action in ("load", "unload"):
        paths[f"/v2/repository/models/{{name}}/{action}"] = {
            "post": _operation("{name}", command, names={"type": "string", "enum": ["none", ".."]})
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Open Inference Protocol", "version": "2"},
        "paths": paths,
    }


def _operation(
    place: str,
    body: dict[str, Any] | None = None,
    headers: list[dict[str, Any]] | None = None,
    names: dict[str, Any] = NAMES,
) -> dict[str, Any]:
    parameters = list(headers or [])
    if "{name}" in place:
        parameters.append(_parameter("name", "path", names))
    if "{version}" in place:
        parameters.append(_parameter("version", "path", VERSIONS))
    operation: dict[str, Any] = {
        "parameters": parameters,
        "responses": {"default": {"description": ""}},
    }
    return operation | ({"requestBody": body} if body else {})


def _parameter(name: str, where: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema}


def _infer_body() -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    json_body = {"schema": REQUEST}
    return {"content": {"application/json": json_body, "application/octet-stream": binary}}


def _infer_headers() -> list[dict[str, Any]]:
    encodings = {"type": "string", "enum": ["identity", "gzip", "deflate", "br"]}
    return [
        _parameter(
            "Inference-Header-Content-Length", "header", {"type": "string", "maxLength": 20}
        ),
        _parameter("Content-Encoding", "header", encodings),
        _parameter("Accept-Encoding", "header", encodings),
        _parameter("X-Request-ID", "header", {"type": "string", "maxLength": 80}),
    ]
