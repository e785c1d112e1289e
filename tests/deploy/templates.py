"""The templates of deploy/aws: loading, queries, and resolution for given parameters."""

from __future__ import annotations

import copy
import functools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cfnlint.decode import cfn_yaml

AWS = Path(__file__).resolve().parents[2] / "deploy" / "aws"
NAMES = ("template.yaml", "scale-out.yaml", "alarms.yaml")
PASSWORDS = {"DBPassword": "a.Long_pass~word-1", "SmtpPassword": "smtp$`pass#;"}
NO_VALUE = {"Ref": "AWS::NoValue"}
RELEASE_SHA256 = "0" * 64  # of no release; the example asks for the one that `make release` prints
FILLED_IN = {**PASSWORDS, "ReleaseSha256": RELEASE_SHA256}


def tool(name: str) -> str:
    """Return the path of a program that was installed with the tests."""
    return str(Path(sys.executable).parent / name)


@functools.cache
def load(name: str = "template.yaml") -> dict[str, Any]:
    """Return the template as plain JSON; cfn-lint expands short forms of functions. Callers must not change it."""
    return json.loads(json.dumps(cfn_yaml.load(str(AWS / name))))


def example() -> dict[str, str]:
    """Return the example's parameters, with what the operator fills in."""
    given = json.loads((AWS / "parameters.example.json").read_text())
    return {entry["ParameterKey"]: entry["ParameterValue"] for entry in given} | FILLED_IN


def accepts(parameter: dict[str, Any], value: str) -> bool:
    """Return whether CloudFormation accepts the value: the pattern must match all of it; as in Java, \\d is ASCII."""
    if parameter["Type"] == "Number":
        low, high = parameter.get("MinValue", float("-inf")), parameter.get("MaxValue", float("inf"))
        if not (value.isdecimal() and low <= int(value) <= high):
            return False
    allowed = parameter.get("AllowedValues")
    return (
        (allowed is None or value in map(str, allowed))
        and parameter.get("MinLength", 0) <= len(value) <= parameter.get("MaxLength", 4096)
        and re.fullmatch(parameter.get("AllowedPattern", "(?s:.*)"), value, re.ASCII) is not None
    )


def references(node: Any) -> Iterator[str]:
    """Yield names that the node refers to by Ref, GetAtt (as `Name.Attribute`) or within Sub."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "Ref":
                yield value
            elif key == "Fn::GetAtt":
                yield ".".join(value)
            elif key == "Fn::Sub":
                text = value if isinstance(value, str) else value[0]
                own = {} if isinstance(value, str) else value[1]
                yield from (name for name in re.findall(r"\$\{([^!}]+)\}", text) if name not in own)
                yield from references(own)
            else:
                yield from references(value)
    elif isinstance(node, list):
        for entry in node:
            yield from references(entry)


def resolve(template: dict[str, Any], given: dict[str, str]) -> dict[str, Any]:
    """Return the template as resolved for these parameters: without conditions and without resources not created."""
    template = copy.deepcopy(template)
    values = {name: str(p["Default"]) for name, p in template["Parameters"].items() if "Default" in p} | given
    conditions = template.pop("Conditions", {})

    def holds(test: Any) -> bool:
        (kind, operands), *_ = test.items()
        if kind == "Condition":
            return holds(conditions[operands])
        if kind == "Fn::Equals":
            return value(operands[0]) == value(operands[1])
        if kind == "Fn::Not":
            return not holds(operands[0])
        assert kind == "Fn::Or", kind
        return any(map(holds, operands))

    def value(operand: Any) -> str:
        if isinstance(operand, str):
            return operand
        if "Ref" in operand:
            return values[operand["Ref"]]
        if "Fn::Select" in operand:
            index, split = operand["Fn::Select"]
            separator, whole = split["Fn::Split"]
            return value(whole).split(separator)[index]
        name, first, second = operand["Fn::FindInMap"]
        return template["Mappings"][name][value(first)][second]

    def chosen(node: Any) -> Any:
        if isinstance(node, list):
            return [entry for entry in map(chosen, node) if entry != NO_VALUE]
        if not isinstance(node, dict):
            return node
        if "Fn::If" in node:
            condition, yes, no = node["Fn::If"]
            return chosen(yes if holds(conditions[condition]) else no)
        return {key: chosen(entry) for key, entry in node.items() if chosen(entry) != NO_VALUE}

    resources = template["Resources"].items()
    template["Resources"] = {
        name: resource
        for name, resource in resources
        if "Condition" not in resource or holds(conditions[resource.pop("Condition")])
    }
    return chosen(template)
