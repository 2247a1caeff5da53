"""The API's description: bodies that routes read themselves are told from the same models."""

from collections.abc import Mapping
from typing import cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from unicond.studio.routes.openai import Asked
from unicond.tasks.forms import FORMS

REFERENCE = "#/components/schemas/{model}"
Json = dict[str, object]


def described(app: FastAPI) -> None:
    """Let an app describe the bodies of its requests, too.

    Args:
        app: whose `/openapi.json` it is.
    """

    def openapi() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = _whole(app)
        return app.openapi_schema

    app.openapi = openapi


def _whole(app: FastAPI) -> Json:
    made = get_openapi(title=app.title, version="1", routes=app.routes)
    models = [(model, "validation") for model in (*FORMS.values(), Asked)]
    _, told = models_json_schema(models, ref_template=REFERENCE)  # pyright: ignore[reportArgumentType]
    components = cast(Json, made["components"])
    components["schemas"] = {**told["$defs"], **cast(Json, components["schemas"])}
    names = {task: model.__name__ for task, model in FORMS.items()}
    references = {task: REFERENCE.format(model=name) for task, name in names.items()}
    form = {
        "oneOf": [{"$ref": one} for one in references.values()],
        "discriminator": {"propertyName": "task", "mapping": references},
    }
    asked = {"$ref": REFERENCE.format(model="Asked")}
    file = {"type": "string", "format": "binary"}
    together = {
        "type": "object",
        "properties": {"form": form},
        "required": ["form"],
        "additionalProperties": file,
    }
    edit = {"allOf": [asked, {"type": "object", "properties": {"image": file, "mask": file}}]}
    both = {"application/json": form, "multipart/form-data": together}
    paths = cast("dict[str, dict[str, Json]]", made["paths"])
    paths["/v1/jobs"]["post"]["requestBody"] = _body(both)
    paths["/v1/images/generations"]["post"]["requestBody"] = _body({"application/json": asked})
    paths["/v1/images/edits"]["post"]["requestBody"] = _body({"multipart/form-data": edit})
    for operations in paths.values():
        for operation in operations.values():
            _refuse_in_json(cast("dict[str, Json]", operation["responses"]))
    return made


def _refuse_in_json(responses: Mapping[str, Json]) -> None:
    """A refusal is JSON, whatever the route answers else."""
    for status, response in responses.items():
        content = cast(Json, response.get("content", {}))
        if int(status) >= 400 and content:
            (told,) = content.values()
            response["content"] = {"application/json": told}


def _body(kinds: Mapping[str, object]) -> Json:
    return {"required": True, "content": {kind: {"schema": one} for kind, one in kinds.items()}}
