"""What travels on Kafka, held fast: golden examples, and the AsyncAPI document of the topics."""

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from recstream.messages.asyncapi import asyncapi_document
from recstream.messages.codec import decode, encode
from recstream.messages.topics import TOPICS, Topic

TESTS = Path(__file__).resolve().parents[1]
EXAMPLES = TESTS / "examples"
DOCUMENT = TESTS.parent / "docs" / "asyncapi.json"
SPECIFIED = [topic for topic in TOPICS if topic.message is not None]
GOLDEN = [(topic, path) for topic in SPECIFIED for path in sorted((EXAMPLES / topic.name / "v1").glob("*.json"))]


def _name(value: Topic | Path) -> str:
    return value.stem if isinstance(value, Path) else value.name


def test_every_topic_has_examples() -> None:
    assert {topic.name for topic, _ in GOLDEN} == {topic.name for topic in SPECIFIED}


@pytest.mark.parametrize(
    ("topic", "path"), GOLDEN, ids=lambda value: value.stem if isinstance(value, Path) else value.name
)
def test_examples_decode_and_encode_to_themselves(topic: Topic, path: Path) -> None:
    assert topic.message is not None
    golden = json.loads(path.read_bytes())
    message = decode(path.read_bytes(), topic.message)
    assert json.loads(encode(message)) == golden


@pytest.mark.parametrize(
    ("topic", "path"), GOLDEN, ids=lambda value: value.stem if isinstance(value, Path) else value.name
)
def test_examples_fit_the_documented_schema(topic: Topic, path: Path) -> None:
    assert topic.message is not None
    document = json.loads(DOCUMENT.read_bytes())
    schema = {"$ref": f"#/components/schemas/{topic.message.__name__}", "components": document["components"]}
    jsonschema.validate(json.loads(path.read_bytes()), schema)


def test_the_document_is_the_one_that_the_code_makes() -> None:
    assert json.loads(DOCUMENT.read_bytes()) == msgspec.to_builtins(asyncapi_document()), (
        "docs/asyncapi.json is out of date: python -m admin asyncapi > docs/asyncapi.json"
    )


def test_the_document_is_valid_asyncapi() -> None:
    schema = json.loads((TESTS / "contract" / "asyncapi-3.0.0.schema.json").read_bytes())
    errors = list(jsonschema.Draft7Validator(schema).iter_errors(json.loads(DOCUMENT.read_bytes())))
    assert errors == []
