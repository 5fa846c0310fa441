# SPDX-License-Identifier: Apache-2.0
"""Are lines that scope wrote valid against docs/schemas? Quick, as every line of every test's session is looked at.

The schemas are compiled to functions; only the keywords that dev/schemas uses are known, any other is an error
(tests/conformance/test_schema.py sees that python3-jsonschema agrees). Stricter than the schemas: a key may not be there
twice, and what is allowed as a custom tag is only what the test says it has set.
"""

import functools
import json
import re

from scopetest import TOP

SCHEMAS = TOP / "docs" / "schemas"
TYPES = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "object": (dict,), "array": (list,),
         "null": (type(None),)}
IGNORED = {"$schema", "$id", "title", "description"}
SHOWN = 5  # violations of one session


def _compiled(schema):
    """A function (value, path, tags) that returns what is wrong, None if nothing is."""
    schema = {k: v for k, v in schema.items() if k not in IGNORED}
    kinds = schema.pop("type", None)
    if not kinds and isinstance(schema.get("const"), str):
        kinds = "string"
    types = tuple(t for k in ([kinds] if isinstance(kinds, str) else kinds or TYPES) for t in TYPES[k])
    allowed = {schema.pop("const")} if "const" in schema else frozenset(schema.pop("enum")) if "enum" in schema else None
    pattern = re.compile(schema.pop("pattern")).search if "pattern" in schema else None
    least = schema.pop("minimum", None)
    required = frozenset(schema.pop("required", ()))
    properties = {k: _compiled(s) for k, s in schema.pop("properties", {}).items()}
    named = [(re.compile(p).search, _compiled(s)) for p, s in schema.pop("patternProperties", {}).items()]
    rest = schema.pop("additionalProperties", True)
    is_tag = rest not in (True, False)
    other = _compiled(rest) if is_tag else None
    item = _compiled(schema.pop("items")) if "items" in schema else None
    if schema:
        raise ValueError(f"tests/lib/schemas.py doesn't know {', '.join(schema)}")

    def check(value, path, tags):
        if type(value) not in types:  # a bool is no int
            return f"{path}: {value!r:.100} is not of type {kinds}"
        if allowed is not None and value not in allowed:
            return f"{path}: {value!r:.100} is none of the values allowed there"
        if pattern and not pattern(value):
            return f"{path}: {value!r:.100} doesn't match the pattern"
        if least is not None and value < least:
            return f"{path}: {value!r} is less than {least}"
        if item:
            for v in value:
                wrong = item(v, path + "[]", tags)
                if wrong:
                    return wrong
        if types != (dict,):
            return None
        if not required <= value.keys():
            return f"{path}: {', '.join(sorted(required - value.keys()))}: missing"
        for k, v in value.items():
            known = properties.get(k)
            if not known:
                known = next((c for matches, c in named if matches(k)), None)
            if not known and is_tag and (tags is None or k in tags):
                known = other
            if not known:
                if rest is True:
                    continue
                return f"{path}: '{k}' isn't in the schema"
            wrong = known(v, f"{path}.{k}", tags)
            if wrong:
                return wrong
        return None

    return check


@functools.lru_cache(None)
def compiled():
    return {p.name.removesuffix(".schema.json"): _compiled(json.loads(p.read_text())) for p in SCHEMAS.glob("*.schema.json")}


def name_of(record):
    """Name of the schema that a line must be valid against."""
    body = record.get("body", {})
    if record.get("type") == "metric":
        name = "metric_" + str(body.get("_metric")).replace(".", "_")
        # What a program sends itself may have any name, and has no unit.
        return name if "unit" in body or name in compiled() else "metric_captured"
    if record.get("type") != "evt":
        return "event_start_msg"
    kind, source = body.get("sourcetype"), str(body.get("source"))
    if kind in ("console", "file", "syscall"):
        return f"event_{kind}"
    if kind == "metric" and source != "notice":
        return "event_metric"
    return "event_" + source.replace(".", "_")


def _pairs(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [k for k, _ in pairs]
        raise ValueError(f"twice in one object: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    return found


_decode = json.JSONDecoder(object_pairs_hook=_pairs).decode


def problem(line, tags=()):
    """What is wrong with a line (bytes); None if it is valid. tags: names of custom tags; None: whatever they are called."""
    try:
        record = _decode(line.decode("utf-8"))
    except ValueError as e:
        return f"not JSON: {e}"
    name = name_of(record)
    check = compiled().get(name)
    if not check:
        return f"there is no schema {name}"
    # The dimensions of a captured metric may be called anything, too.
    wrong = check(record, "", None if name == "metric_captured" else tags)
    return wrong and f"{name}{wrong}"


def problems(path, lines, tags=()):
    """Violations of the lines (bytes) of a file, the first ones of each kind."""
    found, kinds = [], set()
    for number, line in enumerate(lines, 1):
        if not line or (path.name == "metrics.json" and not line.startswith(b"{")):
            continue  # StatsD
        wrong = problem(line, tags)
        if not wrong:
            continue
        kind = re.sub(r"'.*?'|\d+", "", wrong)
        if kind in kinds:
            continue
        kinds.add(kind)
        found.append(f"{path.name}:{number}: {wrong}\n         {line[:700].decode(errors='replace')}")
        if len(found) == SHOWN:
            break
    return found
