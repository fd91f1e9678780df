"""Whether an answer is what the service model says: botocore's parser passes over what it doesn't know."""

import datetime
import json
import xml.etree.ElementTree as xml

SIMPLE = {"string": str, "integer": int, "long": int, "boolean": bool, "float": float, "double": float}


def check(client):
    """Has every answer of a boto3 client held against its model; gives the list of operations that were."""
    held = []

    def after(http_response, parsed, model, **_):
        if http_response.status_code >= 300:
            assert parsed["Error"]["Code"] and parsed["Error"]["Message"], (model.name, http_response.content)
            return
        assert parsed["ResponseMetadata"].get("RequestId"), model.name
        protocol = client.meta.service_model.metadata["protocol"]
        if protocol == "query":
            document = xml.fromstring(http_response.content)
            assert plain(document.tag) == model.name + "Response", document.tag
            if model.output_shape is not None:
                wrapper = model.output_shape.serialization.get("resultWrapper", model.name + "Result")
                element(next(child for child in document if plain(child.tag) == wrapper), model.output_shape, model.name)
        else:
            members(json.loads(http_response.content or "{}"), model.output_shape, model.name)
        held.append(model.name)

    client.meta.events.register("after-call", after)
    return held


def plain(tag):
    return tag.rsplit("}", 1)[-1]


def element(node, shape, where):
    """An XML element of the query protocol."""
    if shape.type_name == "structure":
        known = {member.serialization.get("name", name): (name, member) for name, member in shape.members.items()}
        seen = [plain(child.tag) for child in node]
        for child in node:
            tag = plain(child.tag)
            assert tag in known, "%s: %s is not in the model" % (where, tag)
            assert seen.count(tag) == 1, "%s: %s twice" % (where, tag)
            element(child, known[tag][1], "%s.%s" % (where, known[tag][0]))
        missing = set(shape.required_members) - {known[tag][0] for tag in seen}
        assert not missing, "%s lacks %s" % (where, missing)
    elif shape.type_name == "list":
        for child in node:
            assert plain(child.tag) == shape.member.serialization.get("name", "member"), "%s: %s" % (where, child.tag)
            element(child, shape.member, where + "[]")
    elif shape.type_name == "timestamp":
        datetime.datetime.fromisoformat(node.text.replace("Z", "+00:00"))
    elif shape.type_name == "boolean":
        assert node.text in ("true", "false"), "%s: %s" % (where, node.text)
    elif shape.type_name in ("integer", "long"):
        int(node.text)
    elif shape.type_name == "string":
        assert not list(node), "%s is to be text" % where
        known_word(node.text or "", shape, where)


def members(value, shape, where):
    """A value of the JSON protocol."""
    if shape is None:
        assert not value, where
    elif shape.type_name == "structure":
        assert isinstance(value, dict), where
        for name, inner in value.items():
            assert name in shape.members, "%s: %s is not in the model" % (where, name)
            members(inner, shape.members[name], "%s.%s" % (where, name))
    elif shape.type_name == "list":
        for inner in value:
            members(inner, shape.member, where + "[]")
    elif shape.type_name == "map":
        for inner in value.values():
            members(inner, shape.value, where + "{}")
    elif shape.type_name == "timestamp":
        assert isinstance(value, (int, float)), "%s: %r" % (where, value)
    elif shape.type_name in SIMPLE:
        assert isinstance(value, SIMPLE[shape.type_name]), "%s: %r" % (where, value)
        if shape.type_name == "string":
            known_word(value, shape, where)


def known_word(text, shape, where):
    words = getattr(shape, "enum", None)
    assert not words or text in words, "%s: %r is none of %s" % (where, text, words)
