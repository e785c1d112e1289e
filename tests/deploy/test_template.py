"""The templates as written: names, values accepted and refused, and what must never be in them."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import cfnlint
import pytest

from quilt_registry.cli import statement_logging
from tests.deploy.templates import AWS, FILLED_IN, NAMES, PASSWORDS, accepts, example, load, references, resolve, tool

TEMPLATE = load()
PARAMETERS = TEMPLATE["Parameters"]
RESOURCES = TEMPLATE["Resources"]
ALL_ADDRESSES = "0.0.0.0/0"

FROM_THE_OLD_GUIDE = {
    "TeamId",
    "TeamName",
    "CatalogHost",
    "RegistryHost",
    "CertificateArn",
    "PackageBucket",
    "DBInstanceType",
    "DBPassword",
    "InstanceType",
    "KeyName",
    "SshInputCIDR",
    "SmtpUsername",
    "SmtpPassword",
    "SmtpDefaultSender",
}
OURS = {
    "CreatePackageBucket",
    "PackageBucketVersioning",
    "NoncurrentVersionDays",
    "DBEngineVersion",
    "DBAllocatedStorage",
    "DBMaxAllocatedStorage",
    "DBBackupRetentionDays",
    "DBMultiAZ",
    "DBSnapshotIdentifier",
    "DeletionProtection",
    "ReleaseUrl",
    "ReleaseSha256",
    "RootVolumeSize",
    "AmiX86",
    "AmiArm",
    "AmiOverride",
    "EnableCloudWatchAgent",
    "SmtpHost",
    "SmtpPort",
    "WebInputCIDR",
    "AllowTeamAccess",
    "AllowAnonymousAccess",
    "Signup",
    "SignupDomains",
    "VpcCidrPrefix",
    "ZoneA",
    "ZoneB",
    "SigningKeySlot",
    "RetiredKeyStatus",
}
RESOURCE_NAMES = {
    "Vpc",
    "InternetGateway",
    "GatewayAttachment",
    "PublicSubnetA",
    "PublicSubnetB",
    "PrivateSubnet",
    "PrivateSubnetB",
    "PublicRouteTable",
    "PublicRoute",
    "PrivateRouteTable",
    "PublicSubnetARoutes",
    "PublicSubnetBRoutes",
    "PrivateSubnetRoutes",
    "PrivateSubnetBRoutes",
    "S3Endpoint",
    "ElbSecurityGroup",
    "SshSecurityGroup",
    "RegistrySecurityGroup",
    "DatabaseSecurityGroup",
    "Bucket",
    "BucketPolicy",
    "RegistryUser",
    "RegistryUserPolicy",
    "RegistryKeyA",
    "RegistryKeyB",
    "SigningSecret",
    "RegistrySecret",
    "InstanceRole",
    "InstanceSecretPolicy",
    "InstanceProfile",
    "DatabaseSubnets",
    "DatabaseParameters",
    "Database",
    "LoadBalancer",
    "TargetGroup",
    "HttpsListener",
    "HostsRule",
    "HttpListener",
    "RegistryInstance",
    "RegistryEip",
}
EXPORTS = {
    "RegistrySecretArn": "RegistrySecretArn",
    "SigningSecretArn": "SigningSecretArn",
    "InstanceProfileName": "InstanceProfile",
    "RegistrySecurityGroupId": "RegistrySecurityGroup",
    "SshSecurityGroupId": "SshSecurityGroup",
    "TargetGroupArn": "TargetGroup",
    "PublicSubnetIds": "PublicSubnets",
}
OUTPUTS = {*EXPORTS} | {
    "LoadBalancerDNSName",
    "EC2InstanceIp",
    "LoadBalancerZoneId",
    "CatalogUrl",
    "RegistryUrl",
    "PackageBucketName",
    "RegistryUserName",
    "DatabaseIdentifier",
    "DatabaseEndpoint",
    "DatabaseInstanceClass",
    "InstanceId",
    "VpcId",
}

LABEL = "a" * 63
HOSTS = (
    ["quilt.example.com", "a.co", "1.example.org", "a-b.c-d.example.com", f"{LABEL}.com"],
    [
        "",
        "quilt",
        "Quilt.example.com",
        "https://quilt.example.com",
        "quilt.example.com/",
        "quilt.example.com:443",
        "-a.example.com",
        "a-.example.com",
        "a..com",
        "quilt.example.com.",
        "quilt.example.1",
        f"{LABEL}a.com",
        "ä.com",
        "quilt_x.example.com",
        ".".join(["a" * 60] * 3) + ".com",
        "quilt.example.com\n",
    ],
)
MAIL_LOGIN = (
    ["", "AKIAIOSFODNN7EXAMPLE", "user@example.com", "!#$%&()*+,-./:;<=>?@[]^_`{|}~", "a" * 256],
    ["two words", 'a"b', "a'b", "a\\b", "é", "a\tb", "a\n", "a" * 257],
)
ZONES = (
    ["", "us-east-1a", "eu-central-1b", "us-gov-west-1c", "ap-southeast-2a"],
    ["us-east-1", "a", "us-east-1a,us-east-1b", "use1-az1", "US-EAST-1A", "us-east-1a\n"],
)
# Values that each parameter accepts and refuses.
VALUES: dict[str, tuple[list[str], list[str]]] = {
    "TeamId": (["research", "a", "a" * 24], ["", "Research", "team1", "my-team", "my team", "a" * 25, "é", "team\n"]),
    "TeamName": (
        ["Research", "Anna's team", "$HOME `x` #;", "数据 é", "a" * 64],
        ["", 'the "team"', "a\\b", "a\nb", "tab\there", "\x00", "a" * 65],
    ),
    "CatalogHost": HOSTS,
    "RegistryHost": HOSTS,
    "CertificateArn": (
        [
            "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012",
            "arn:aws-cn:acm:cn-north-1:123456789012:certificate/abc",
            "arn:aws-us-gov:acm:us-gov-west-1:123456789012:certificate/abc",
        ],
        [
            "",
            "quilt.example.com",
            "arn:aws:iam::123456789012:server-certificate/abc",
            "arn:aws:acm:us-east-1:12345678901:certificate/abc",
            "arn:aws:acm:us-east-1:123456789012:certificate/",
            "arn:aws:acm:us-east-1:123456789012:certificate/a b",
        ],
    ),
    "PackageBucket": (
        ["abc", "example-com-quilt", "0-9", "a" * 63],
        ["", "ab", "a" * 64, "my.bucket", "My-bucket", "-bucket", "bucket-", "my_bucket", "s3://bucket", "bucket/"],
    ),
    "CreatePackageBucket": (["true", "false"], ["", "yes", "True"]),
    "PackageBucketVersioning": (["Enabled", "Suspended"], ["", "enabled", "Off"]),
    "NoncurrentVersionDays": (["1", "90", "3650"], ["0", "3651"]),
    "DBInstanceType": (
        ["t2.small", "t4g.small", "m5.large", "m7g.large"],
        ["", "db.t3.small", "t2.micro", "m6i.large"],
    ),
    "DBPassword": (
        ["a" * 12, "a" * 128, "Az09_.~-Az09"],
        [
            "",
            "a" * 11,
            "a" * 129,
            "twelve letters",
            "password@1234",
            "password/1234",
            'password"1234',
            "password%1234",
            "password'1234",
            "password$1234",
            "password:1234",
            "passwörd12345",
            "password1234\n",
        ],
    ),
    "DBEngineVersion": (["16", "17", "18"], ["", "15", "18.1", "19"]),
    "DBAllocatedStorage": (["20", "1000"], ["19", "1001"]),
    "DBMaxAllocatedStorage": (["22", "4000"], ["21", "4001"]),
    "DBBackupRetentionDays": (["1", "35"], ["0", "36"]),
    "DBMultiAZ": (["true", "false"], ["", "yes"]),
    "DBSnapshotIdentifier": (
        [
            "",
            "registry-202601010000",
            "rds:registry-2026-01-01-03-05",
            "a" * 255,
            "arn:aws:rds:us-east-1:123456789012:snapshot:registry",
        ],
        ["two words", "a/b", "a_b", "a" * 256, "\n"],
    ),
    "DeletionProtection": (["true", "false"], ["", "yes"]),
    "InstanceType": (["t2.small", "t4g.small", "m5.large", "m6i.large"], ["", "t2.nano", "m6g.large", "db.t3.small"]),
    "SshInputCIDR": (
        ["203.0.113.7/32", "203.0.113.0/24", "10.0.0.0/8", "10.0.0.0/19"],
        ["", ALL_ADDRESSES, "0.0.0.0/7", "203.0.113.7", "203.0.113.0/33", "::/0", "203.0.113/24", "any", "10.0.0.0/08"],
    ),
    "ReleaseUrl": (
        [
            "s3://releases/quilt-registry-0.1.0.tar",
            "s3://example.com-releases/a/b/quilt_registry-0.1.0+local.tar",
            "https://example.com/quilt-registry-0.1.0.tar",
            "https://example.com:8443/r.tar?X-Amz-Signature=00&a=b%20c",
        ],
        [
            "",
            "quilt-registry[server]",
            "http://example.com/r.tar",
            "file:///etc/passwd",
            "/etc/passwd",
            "s3://releases",
            "s3://releases/",
            "s3://releases/*",
            "s3://releases/a?b",
            "s3://Releases/r.tar",
            "https://",
            "https://example.com/two words",
            "https://example.com/a'b",
            'https://example.com/a"b',
            "https://example.com/a\\b",
            "https://example.com/a\nb",
            "https://example.com/" + "a" * 1000,
        ],
    ),
    "ReleaseSha256": (
        ["0" * 64, "0123456789abcdef" * 4],
        ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n"],
    ),
    "RootVolumeSize": (["8", "500"], ["7", "501"]),
    "AmiOverride": (
        ["", "ami-01234567", "ami-0123456789abcdef0"],
        ["ami-0123456", "ami-0123456789abcdef01", "ami-0123456g", "01234567", "AMI-01234567"],
    ),
    "EnableCloudWatchAgent": (["true", "false"], ["", "yes"]),
    "SmtpHost": (
        ["email-smtp.eu-west-1.amazonaws.com", "localhost", "10.0.0.1"],
        ["", "smtp://mail", "mail:587", "two words", 'a"b', "a" * 254],
    ),
    "SmtpPort": (["465", "587", "2465", "2525", "2587"], ["25", "0", "80"]),
    "SmtpUsername": MAIL_LOGIN,
    "SmtpPassword": MAIL_LOGIN,
    "SmtpDefaultSender": (
        ["registry@example.com", "a+b@example.com"],
        ["", "registry", "@example.com", "a@", "a@b@c", "A <a@b.c>", 'a"@b.c', "a\\@b.c", "a@b.c\n", "a\x01@b.c"],
    ),
    "WebInputCIDR": ([ALL_ADDRESSES, "203.0.113.0/24", "10.0.0.0/8"], ["", "0.0.0.0", "10.0.0.0/33", "::/0", "all"]),
    "AllowTeamAccess": (["true", "false"], ["", "yes"]),
    "AllowAnonymousAccess": (["true", "false"], ["", "yes"]),
    "Signup": (["open", "invited", "closed"], ["", "Open", "true"]),
    "SignupDomains": (
        ["", "example.com", "example.com,example.org"],
        ["example.com, example.org", "Example.com", "@example.com", ",", "example.com,", 'a"b', "a\\b"],
    ),
    "VpcCidrPrefix": (
        ["10.77", "10.0", "172.16", "172.31", "192.168"],
        ["", "10", "10.77.0", "172.15", "172.32", "192.169", "11.0", "8.8", "10.1000"],
    ),
    "ZoneA": ZONES,
    "ZoneB": ZONES,
    "SigningKeySlot": (["A", "B"], ["", "a", "C"]),
    "RetiredKeyStatus": (["Absent", "Active", "Inactive"], ["", "absent"]),
}


def _properties(name: str) -> dict[str, Any]:
    return RESOURCES[name]["Properties"]


def _of_type(kind: str) -> dict[str, dict[str, Any]]:
    return {name: resource for name, resource in RESOURCES.items() if resource["Type"] == kind}


def test_cfn_lint_finds_nothing_in_several_regions() -> None:
    regions = ["us-east-1", "eu-central-1", "ap-southeast-2", "sa-east-1"]
    command = [tool("cfn-lint"), "--regions", *regions, "--", *(str(AWS / name) for name in NAMES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_a_template_can_be_sent_in_one_piece(name: str) -> None:
    assert (AWS / name).stat().st_size < 51_200


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_what_is_made(name: str) -> None:
    template = load(name)
    assert "Transform" not in template
    types = {resource["Type"] for resource in template["Resources"].values()}
    assert not {kind for kind in types if kind.startswith(("AWS::CloudFormation::", "AWS::Lambda::", "Custom::"))}


def test_names_of_parameters_resources_and_outputs() -> None:
    assert set(PARAMETERS) == FROM_THE_OLD_GUIDE | OURS
    assert (len(FROM_THE_OLD_GUIDE), len(PARAMETERS)) == (14, 43)
    assert set(RESOURCES) == RESOURCE_NAMES
    assert len({resource["Type"] for resource in RESOURCES.values()}) == 26
    assert set(TEMPLATE["Outputs"]) == OUTPUTS


def test_exports_carry_the_stack_name() -> None:
    exported = {name: out["Export"]["Name"] for name, out in TEMPLATE["Outputs"].items() if "Export" in out}
    assert exported == {name: {"Fn::Sub": "${AWS::StackName}-" + suffix} for name, suffix in EXPORTS.items()}


def test_scale_out_imports_only_what_is_exported() -> None:
    imports = set(re.findall(r"\$\{RegistryStackName\}-(\w+)", json.dumps(load("scale-out.yaml"))))
    assert imports == set(EXPORTS.values())


def test_the_form_shows_each_parameter_once_with_a_label() -> None:
    interface = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]
    groups = {group["Label"]["default"]: group["Parameters"] for group in interface["ParameterGroups"]}
    assert list(groups) == [
        "Team and host names",
        "Package storage",
        "Database",
        "Registry instance",
        "Mail",
        "Access rules",
        "Network and key rotation",
    ]
    assert [name for names in groups.values() for name in names] == list(PARAMETERS)
    labels = {name: label["default"] for name, label in interface["ParameterLabels"].items()}
    assert set(labels) == set(PARAMETERS)
    assert (labels["CertificateArn"], labels["CatalogHost"]) == ("Certificate ARN", "Catalog Host")


@pytest.mark.parametrize("name", NAMES)
def test_each_parameter_explains_itself(name: str) -> None:
    for parameter in load(name)["Parameters"].values():
        assert parameter["Description"]
        if parameter.keys() & {"AllowedPattern", "MinValue", "MaxLength"}:
            assert parameter["ConstraintDescription"].endswith((".", "-"))


def test_only_the_passwords_are_hidden() -> None:
    assert {name for name, parameter in PARAMETERS.items() if parameter.get("NoEcho")} == set(PASSWORDS)


def test_each_constraint_is_tried() -> None:
    free = {name for name, parameter in PARAMETERS.items() if parameter["Type"].startswith("AWS::")}
    assert set(VALUES) == set(PARAMETERS) - free


@pytest.mark.parametrize("name", VALUES)
def test_values_taken_and_refused(name: str) -> None:
    good, bad = VALUES[name]
    assert [value for value in good if not accepts(PARAMETERS[name], value)] == []
    assert [value for value in bad if accepts(PARAMETERS[name], value)] == []


def test_defaults_are_taken() -> None:
    with_default = {name: str(parameter["Default"]) for name, parameter in PARAMETERS.items() if "Default" in parameter}
    assert [name for name, value in with_default.items() if not accepts(PARAMETERS[name], value)] == []


def test_no_value_breaks_the_secret() -> None:
    """The secret is JSON built from text, so no accepted value may hold a quote, backslash or control character."""
    inside = set(references(_properties("RegistrySecret")["SecretString"])) & set(PARAMETERS)
    assert {"TeamName", "SmtpPassword", "SmtpDefaultSender", "SignupDomains"} <= inside
    unsafe = ['"', "\\", *map(chr, range(32))]
    for name in inside:
        good = VALUES[name][0][-1]
        broken = [bad for bad in unsafe for text in (bad + good, good + bad, bad) if accepts(PARAMETERS[name], text)]
        assert (name, broken) == (name, [])


def test_the_example_lacks_only_passwords_and_the_digest_of_the_release() -> None:
    given = {one["ParameterKey"]: one["ParameterValue"] for one in json.loads(_read("parameters.example.json"))}
    assert set(given) == {name for name, parameter in PARAMETERS.items() if "Default" not in parameter}
    assert {name for name, value in given.items() if not accepts(PARAMETERS[name], value)} == set(FILLED_IN)
    assert [name for name, value in example().items() if not accepts(PARAMETERS[name], value)] == []


def test_host_names_must_differ() -> None:
    (assertion,) = TEMPLATE["Rules"]["HostNamesDiffer"]["Assertions"]
    assert assertion["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "CatalogHost"}, {"Ref": "RegistryHost"}]}]}
    assert assertion["AssertDescription"].endswith(".")


def test_two_different_zones_are_chosen_or_none() -> None:
    """The parameters have no common list of values, so the rule compares them."""
    (assertion,) = TEMPLATE["Rules"]["TwoZones"]["Assertions"]

    def holds(test: Any, given: dict[str, str]) -> bool:
        [(kind, operands)] = test.items()
        if kind == "Fn::Equals":
            first, second = (given[each["Ref"]] if isinstance(each, dict) else each for each in operands)
            return first == second
        results = [holds(each, given) for each in operands]
        return {"Fn::And": all(results), "Fn::Or": any(results), "Fn::Not": not results[0]}[kind]

    def accepted(first: str, second: str) -> bool:
        return holds(assertion["Assert"], {"ZoneA": first, "ZoneB": second})

    assert accepted("", "")
    assert accepted("us-east-1c", "us-east-1a")
    assert not accepted("us-east-1a", "us-east-1a")
    assert not accepted("us-east-1a", "")
    assert not accepted("", "us-east-1a")


def test_zones_are_those_of_the_region_unless_chosen() -> None:
    chosen = resolve(TEMPLATE, example() | {"DBMultiAZ": "true", "ZoneA": "us-east-1f", "ZoneB": "us-east-1c"})
    standard = resolve(TEMPLATE, example() | {"DBMultiAZ": "true"})
    for name, parameter, index in (
        ("PublicSubnetA", "ZoneA", 0),
        ("PrivateSubnet", "ZoneA", 0),
        ("PublicSubnetB", "ZoneB", 1),
        ("PrivateSubnetB", "ZoneB", 1),
    ):
        zones = [each["Resources"][name]["Properties"]["AvailabilityZone"] for each in (standard, chosen)]
        assert zones == [{"Fn::Select": [index, {"Fn::GetAZs": ""}]}, {"Ref": parameter}]


def test_nothing_is_installed_by_default() -> None:
    """A default from an index would run as root what others publish under that name."""
    for name in ("template.yaml", "scale-out.yaml"):
        parameters = load(name)["Parameters"]
        assert [key for key in ("ReleaseUrl", "ReleaseSha256") if "Default" in parameters[key]] == []
        assert "quilt-registry[" not in _read(name)


def test_scale_out_takes_the_same_releases() -> None:
    ours, theirs = (load(name)["Parameters"] for name in ("template.yaml", "scale-out.yaml"))
    for key in ("ReleaseUrl", "ReleaseSha256"):
        assert ours[key]["AllowedPattern"] == theirs[key]["AllowedPattern"]


@pytest.mark.parametrize(
    ("url", "key"), [("s3://releases/a/r.tar", "releases/a/r.tar"), ("https://example.com/r.tar", None)]
)
def test_the_instance_can_read_its_release_in_s3_and_no_other_object(url: str, key: str | None) -> None:
    policy = resolve(TEMPLATE, example() | {"ReleaseUrl": url})["Resources"]["InstanceSecretPolicy"]
    _, release = policy["Properties"]["PolicyDocument"]["Statement"]
    if key is None:
        assert release["Resource"] == {"Fn::Sub": "arn:${AWS::Partition}:s3:::-/-"}  # cannot exist
        return
    text, variables = release["Resource"]["Fn::Sub"]
    index, split = variables["Key"]["Fn::Select"]
    assert (release["Action"], text) == ("s3:GetObject", "arn:${AWS::Partition}:s3:::${Key}")
    assert url.split(split["Fn::Split"][0])[index] == key


def test_conditions() -> None:
    assert set(TEMPLATE["Conditions"]) == {
        "ChosenZones",
        "ReleaseInS3",
        "CreateBucket",
        "UseMultiAZ",
        "FromSnapshot",
        "IsArm",
        "HasAmiOverride",
        "UseCloudWatchAgent",
        "SlotA",
        "SlotB",
        "RetiredAbsent",
        "RetiredActive",
        "KeepKeyA",
        "KeepKeyB",
    }


def test_each_size_has_an_architecture_and_a_database_class() -> None:
    for template in (TEMPLATE, load("scale-out.yaml")):
        arch = {size: entry["Arch"] for size, entry in template["Mappings"]["InstanceArch"].items()}
        sizes = template["Parameters"]["InstanceType"]["AllowedValues"]
        assert arch == {size: "arm64" if size.split(".")[0].endswith("g") else "x86_64" for size in sizes}
    classes = {size: entry["Class"] for size, entry in TEMPLATE["Mappings"]["DBClass"].items()}
    sizes = PARAMETERS["DBInstanceType"]["AllowedValues"]
    assert classes == {size: f"db.{size}" for size in sizes} | {"t2.small": "db.t3.small"}
    assert not [name for name in classes.values() if name.startswith("db.t2")]


def test_no_secret_can_be_read_from_outside() -> None:
    secret = {*PASSWORDS, "RegistryKeyA.SecretAccessKey", "RegistryKeyB.SecretAccessKey"}
    named = {name for name, resource in RESOURCES.items() if secret & set(references(resource))}
    assert named == {"Database", "RegistrySecret"}
    for name in named:
        places = {key for key, value in _properties(name).items() if secret & set(references(value))}
        assert places <= {"MasterUserPassword", "SecretString"}
    assert not secret & set(references([TEMPLATE["Outputs"], TEMPLATE.get("Metadata")]))


def test_three_subnets_and_a_fourth_for_the_standby() -> None:
    subnets = _of_type("AWS::EC2::Subnet")
    conditions = {name: subnet.get("Condition") for name, subnet in subnets.items()}
    always = dict.fromkeys(("PublicSubnetA", "PublicSubnetB", "PrivateSubnet"))
    assert conditions == always | {"PrivateSubnetB": "UseMultiAZ"}
    assert {subnet["Properties"]["MapPublicIpOnLaunch"] for subnet in subnets.values()} == {False}


def test_only_public_subnets_reach_the_gateway() -> None:
    (route,) = _of_type("AWS::EC2::Route").values()
    assert route["Properties"]["RouteTableId"] == {"Ref": "PublicRouteTable"}
    assert route["DependsOn"] == "GatewayAttachment"
    routes = {
        entry["Properties"]["SubnetId"]["Ref"]: entry["Properties"]["RouteTableId"]["Ref"]
        for entry in _of_type("AWS::EC2::SubnetRouteTableAssociation").values()
    }
    assert routes == {
        "PublicSubnetA": "PublicRouteTable",
        "PublicSubnetB": "PublicRouteTable",
        "PrivateSubnet": "PrivateRouteTable",
        "PrivateSubnetB": "PrivateRouteTable",
    }
    assert _properties("S3Endpoint")["RouteTableIds"] == [{"Ref": "PublicRouteTable"}]


def test_every_security_group_says_where_it_goes() -> None:
    groups = _of_type("AWS::EC2::SecurityGroup")
    out = {
        name: [(rule.get("ToPort"), rule["CidrIp"]) for rule in group["Properties"]["SecurityGroupEgress"]]
        for name, group in groups.items()
    }
    network, none = {"Fn::Sub": "${VpcCidrPrefix}.0.0/16"}, [(None, "127.0.0.1/32")]
    assert out == {
        "ElbSecurityGroup": [(5000, network)],
        "SshSecurityGroup": none,
        "RegistrySecurityGroup": [(443, ALL_ADDRESSES), ({"Ref": "SmtpPort"}, ALL_ADDRESSES), (5432, network)],
        "DatabaseSecurityGroup": none,
    }


def test_only_the_balancer_is_open_to_the_web() -> None:
    rules = [
        (name, rule["FromPort"], rule["ToPort"], rule.get("CidrIp"))
        for name, group in _of_type("AWS::EC2::SecurityGroup").items()
        for rule in group["Properties"]["SecurityGroupIngress"]
    ]
    web = {"Ref": "WebInputCIDR"}
    assert [rule for rule in rules if rule[3] is not None] == [
        ("ElbSecurityGroup", 443, 443, web),
        ("ElbSecurityGroup", 80, 80, web),
        ("SshSecurityGroup", 22, 22, {"Ref": "SshInputCIDR"}),
    ]
    assert not _of_type("AWS::EC2::SecurityGroupIngress")


def test_what_deletion_keeps() -> None:
    kept = {
        name: (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
        for name, resource in RESOURCES.items()
        if "DeletionPolicy" in resource
    }
    retained = ("RetainExceptOnCreate", "Retain")
    assert kept == {
        "Bucket": retained,
        "BucketPolicy": retained,
        "SigningSecret": retained,
        "Database": ("Snapshot", "Snapshot"),
    }


def test_the_stack_policy_guards_what_cannot_be_made_again() -> None:
    allow, deny = json.loads(_read("stack-policy.json"))["Statement"]
    assert (allow["Effect"], allow["Action"], allow["Resource"]) == ("Allow", "Update:*", "*")
    assert (deny["Effect"], deny["Action"]) == ("Deny", ["Update:Replace", "Update:Delete"])
    guarded = {name.removeprefix("LogicalResourceId/") for name in deny["Resource"]}
    assert guarded == {"Database", "Bucket", "BucketPolicy", "RegistryUser", "SigningSecret"}


def test_the_bucket_is_private_and_encrypted() -> None:
    bucket = _properties("Bucket")
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert bucket["PublicAccessBlockConfiguration"] == {
        "BlockPublicAcls": True,
        "BlockPublicPolicy": True,
        "IgnorePublicAcls": True,
        "RestrictPublicBuckets": True,
    }
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert bucket["VersioningConfiguration"] == {"Status": {"Ref": "PackageBucketVersioning"}}


def test_pages_may_use_presigned_urls() -> None:
    assert _properties("Bucket")["CorsConfiguration"]["CorsRules"] == [
        {
            "Id": "signed-urls",
            "AllowedOrigins": ["*"],
            "AllowedMethods": ["GET", "HEAD", "PUT"],
            "AllowedHeaders": ["*"],
            "ExposedHeaders": [
                "ETag",
                "Content-Length",
                "Content-Range",
                "Content-Encoding",
                "Accept-Ranges",
                "Last-Modified",
                "x-amz-request-id",
                "x-amz-version-id",
            ],
            "MaxAge": 3000,
        }
    ]


def test_no_current_object_ever_expires() -> None:
    assert _properties("Bucket")["LifecycleConfiguration"]["Rules"] == [
        {
            "Id": "abort-incomplete-multipart",
            "Status": "Enabled",
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        },
        {
            "Id": "expire-noncurrent",
            "Status": "Enabled",
            "NoncurrentVersionExpiration": {"NoncurrentDays": {"Ref": "NoncurrentVersionDays"}},
            "ExpiredObjectDeleteMarker": True,
        },
    ]


def test_the_bucket_policy_only_denies() -> None:
    statements = _properties("BucketPolicy")["PolicyDocument"]["Statement"]
    both = [{"Fn::GetAtt": ["Bucket", "Arn"]}, {"Fn::Sub": "${Bucket.Arn}/*"}]
    everything = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": both}
    assert [{key: one[key] for key in everything} for one in statements] == [everything] * 2
    assert [one["Condition"] for one in statements] == [
        {"Bool": {"aws:SecureTransport": "false"}},
        {"NumericLessThan": {"s3:TlsVersion": "1.2"}},
    ]
    assert RESOURCES["BucketPolicy"]["Condition"] == RESOURCES["Bucket"]["Condition"] == "CreateBucket"


def test_the_five_permissions_of_the_old_guide() -> None:
    carried = RESOURCES["RegistryUser"]["Metadata"]["Permissions"]
    names = ["DeleteObject", "GetObject", "HeadObject", "PutObject", "ListBucket"]
    assert list(carried) == [f"s3:{name}" for name in names]
    objects, bucket = _properties("RegistryUserPolicy")["PolicyDocument"]["Statement"]
    assert {*objects["Action"], bucket["Action"]} == set(carried.values())
    arn = "arn:${AWS::Partition}:s3:::${PackageBucket}"
    assert (objects["Resource"], bucket["Resource"]) == ({"Fn::Sub": arn + "/*"}, {"Fn::Sub": arn})
    assert (bucket["Action"], _properties("RegistryUserPolicy")["PolicyName"]) == ("s3:ListBucket", "quilt-registry-s3")


@pytest.mark.parametrize(
    ("slot", "retired", "keys"),
    [
        ("A", "Absent", {"RegistryKeyA": "Active"}),
        ("A", "Active", {"RegistryKeyA": "Active", "RegistryKeyB": "Active"}),
        ("A", "Inactive", {"RegistryKeyA": "Active", "RegistryKeyB": "Inactive"}),
        ("B", "Absent", {"RegistryKeyB": "Active"}),
        ("B", "Active", {"RegistryKeyA": "Active", "RegistryKeyB": "Active"}),
        ("B", "Inactive", {"RegistryKeyA": "Inactive", "RegistryKeyB": "Active"}),
    ],
)
def test_the_two_key_slots(slot: str, retired: str, keys: dict[str, str]) -> None:
    resources = resolve(TEMPLATE, example() | {"SigningKeySlot": slot, "RetiredKeyStatus": retired})["Resources"]
    made = {name: one for name, one in resources.items() if one["Type"] == "AWS::IAM::AccessKey"}
    assert {name: one["Properties"]["Status"] for name, one in made.items()} == keys
    secret = resources["RegistrySecret"]["Properties"]["SecretString"]["Fn::Sub"][1]
    assert secret["KeyId"] == {"Ref": f"RegistryKey{slot}"}
    assert secret["KeySecret"] == {"Fn::GetAtt": [f"RegistryKey{slot}", "SecretAccessKey"]}


def test_secrets_have_names_of_the_stack_that_never_come_back() -> None:
    for name in ("SigningSecret", "RegistrySecret"):
        text, variables = _properties(name)["Name"]["Fn::Sub"]
        assert text == "${AWS::StackName}-" + name + "-${Uid}"
        assert list(references(variables)) == ["AWS::StackId"]
    assert _properties("SigningSecret")["GenerateSecretString"] == {"PasswordLength": 64, "ExcludePunctuation": True}


def test_the_agent_brings_the_only_other_right_of_the_instance() -> None:
    plain = resolve(TEMPLATE, example())["Resources"]["InstanceRole"]["Properties"]
    assert "ManagedPolicyArns" not in plain
    watched = resolve(TEMPLATE, example() | {"EnableCloudWatchAgent": "true"})["Resources"]["InstanceRole"][
        "Properties"
    ]
    policy = "arn:${AWS::Partition}:iam::aws:policy/CloudWatchAgentServerPolicy"
    assert watched["ManagedPolicyArns"] == [{"Fn::Sub": policy}]


def test_the_database_is_private_and_encrypts_its_connections() -> None:
    database = _properties("Database")
    assert database["PubliclyAccessible"] is False
    assert database["VPCSecurityGroups"] == [{"Fn::GetAtt": ["DatabaseSecurityGroup", "GroupId"]}]
    assert (database["AllowMajorVersionUpgrade"], database["AutoMinorVersionUpgrade"]) == (True, True)
    assert database["MaxAllocatedStorage"] == {"Ref": "DBMaxAllocatedStorage"}
    assert database["DeletionProtection"] == {"Ref": "DeletionProtection"}
    assert database["EnableCloudwatchLogsExports"] == ["postgresql", "upgrade"]
    parameters = _properties("DatabaseParameters")
    assert parameters["Family"] == {"Fn::Sub": "postgres${DBEngineVersion}"}
    assert parameters["Parameters"] == {
        "rds.force_ssl": "1",
        "log_min_duration_statement": "1000",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
    }


def test_check_accepts_the_logging_of_the_database() -> None:
    logging = {"log_statement": "none"} | _properties("DatabaseParameters")["Parameters"]
    assert list(statement_logging.warnings(logging)) == []
    assert list(statement_logging.warnings(logging | {"log_parameter_max_length": "-1"})) != []


def test_the_host_gets_pg_dump_of_the_default_engine() -> None:
    default = PARAMETERS["DBEngineVersion"]["Default"]
    assert f"dnf install --quiet --assumeyes postgresql{default} " in _read("bootstrap.sh")


def test_the_database_is_pinned_to_the_private_subnet_unless_it_has_a_standby() -> None:
    alone, standby = (resolve(TEMPLATE, example() | {"DBMultiAZ": given})["Resources"] for given in ("false", "true"))
    assert alone["Database"]["Properties"]["AvailabilityZone"] == {"Fn::GetAtt": ["PrivateSubnet", "AvailabilityZone"]}
    assert "AvailabilityZone" not in standby["Database"]["Properties"]
    group = alone["DatabaseSubnets"]["Properties"]["SubnetIds"]
    assert group == [{"Ref": "PrivateSubnet"}, {"Ref": "PublicSubnetB"}]
    group = standby["DatabaseSubnets"]["Properties"]["SubnetIds"]
    assert group == [{"Ref": "PrivateSubnet"}, {"Ref": "PrivateSubnetB"}]


def test_the_balancer() -> None:
    balancer = _properties("LoadBalancer")
    attributes = {one["Key"]: one["Value"] for one in balancer["LoadBalancerAttributes"]}
    assert attributes == {
        "routing.http.drop_invalid_header_fields.enabled": "true",
        "idle_timeout.timeout_seconds": "120",
        "deletion_protection.enabled": {"Ref": "DeletionProtection"},
    }
    assert balancer["Subnets"] == [{"Ref": "PublicSubnetA"}, {"Ref": "PublicSubnetB"}]
    assert RESOURCES["LoadBalancer"]["DependsOn"] == "PublicRoute"


def test_both_hosts_come_to_the_registry_and_no_other() -> None:
    (condition,) = _properties("HostsRule")["Conditions"]
    assert condition["HostHeaderConfig"]["Values"] == [{"Ref": "CatalogHost"}, {"Ref": "RegistryHost"}]
    https = _properties("HttpsListener")
    assert https["SslPolicy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"
    assert https["DefaultActions"][0]["FixedResponseConfig"]["StatusCode"] == "404"
    (action,) = _properties("HttpListener")["DefaultActions"]
    redirect = action["RedirectConfig"]
    assert (redirect["Host"], redirect["Path"], redirect["Query"]) == ("#{host}", "/#{path}", "#{query}")
    assert (redirect["Protocol"], redirect["StatusCode"]) == ("HTTPS", "HTTP_301")


def test_the_health_check_and_its_target() -> None:
    group = _properties("TargetGroup")
    assert (group["HealthCheckPath"], group["HealthCheckPort"]) == ("/healthcheck", "traffic-port")
    assert group["Targets"] == [{"Id": {"Ref": "RegistryInstance"}, "Port": 5000}]
    assert group["TargetGroupAttributes"] == [{"Key": "deregistration_delay.timeout_seconds", "Value": "60"}]


def test_the_instance() -> None:
    instance, properties = RESOURCES["RegistryInstance"], _properties("RegistryInstance")
    assert instance["CreationPolicy"] == {"ResourceSignal": {"Count": 1, "Timeout": "PT20M"}}
    needed = {"PublicRoute", "PublicSubnetARoutes", "InstanceSecretPolicy", "RegistryUserPolicy"}
    assert set(instance["DependsOn"]) == needed
    (interface,) = properties["NetworkInterfaces"]
    assert (interface["SubnetId"], interface["AssociatePublicIpAddress"]) == ({"Ref": "PublicSubnetA"}, True)
    assert [one["Fn::GetAtt"][0] for one in interface["GroupSet"]] == ["SshSecurityGroup", "RegistrySecurityGroup"]


@pytest.mark.parametrize(
    "machine", [_properties("RegistryInstance"), load("scale-out.yaml")["Resources"]["LaunchTemplate"]["Properties"]]
)
def test_metadata_asks_for_a_token_and_the_disk_is_encrypted(machine: dict[str, Any]) -> None:
    machine = machine.get("LaunchTemplateData", machine)
    assert machine["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    (disk,) = machine["BlockDeviceMappings"]
    assert disk["DeviceName"] == "/dev/xvda"
    assert disk["Ebs"].items() >= {"VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}.items()


@pytest.mark.parametrize(("name", "resource"), [("template.yaml", "RegistryInstance"), ("scale-out.yaml", "Group")])
def test_the_boot_writes_two_files_and_runs_three_commands(name: str, resource: str) -> None:
    boot = load(name)["Resources"][resource]["Metadata"]["AWS::CloudFormation::Init"]
    assert set(boot) == {"configSets", "host", "service"}
    assert boot["configSets"] == {"default": ["host", "service"]}
    settings, script = "/etc/quilt-registry/host.env", "/opt/quilt-registry/bootstrap.sh"
    assert set(boot["host"]["files"]) == {settings, script}
    assert boot["host"]["files"][script]["content"] == _read("bootstrap.sh")
    assert boot["host"]["files"][script]["mode"] == "000755"
    commands = {key: one["command"] for key, one in boot["service"]["commands"].items()}
    assert commands == {
        f"{n}0-{word}": f"{script} {word}" for n, word in enumerate(("install", "configure", "start"), 1)
    }
    content = boot["host"]["files"][settings]["content"]["Fn::Sub"]
    text = content if isinstance(content, str) else content[0]
    assert all(re.fullmatch(r"[A-Z0-9_]+='\$\{[\w:]+\}'", line) for line in text.splitlines())


def test_the_deployer_can_do_what_the_stack_needs() -> None:
    actions = _deployer_actions()
    missing = {
        need
        for kind in {resource["Type"] for resource in RESOURCES.values()}
        for need in _handler_permissions(kind) - NEVER_NEEDED.keys()
        if not any(fnmatch.fnmatchcase(need, action) for action in actions)
    }
    assert missing == set()


def test_nothing_is_excused_that_the_deployer_may_do() -> None:
    granted = [need for need in NEVER_NEEDED if any(fnmatch.fnmatchcase(need, one) for one in _deployer_actions())]
    assert granted == []


def test_the_deployer_policy_is_bound_to_names_and_small_enough() -> None:
    policy = json.loads(_read("deployer-policy.json"))
    assert len(re.sub(r"\s", "", json.dumps(policy))) < 6144
    bound = {one["Sid"]: one["Resource"] for one in policy["Statement"] if one["Resource"] != "*"}
    assert bound["Bucket"] == "arn:aws:s3:::BUCKET"
    assert bound["Secrets"] == "arn:aws:secretsmanager:*:*:secret:STACK-*"
    assert bound["UserRoleAndProfile"] == [
        "arn:aws:iam::*:user/*-RegistryUser-*",
        "arn:aws:iam::*:role/STACK-*",
        "arn:aws:iam::*:instance-profile/STACK-*",
    ]


_FEATURES = {
    "no groups, login or attached policies of users": (
        "iam:AddUserToGroup iam:AttachUserPolicy iam:CreateLoginProfile iam:DeleteGroupPolicy iam:PutGroupPolicy"
    ),
    "no other gateway, network, address pool or balancer feature": (
        "ec2:AcceptAddressTransfer ec2:AttachVpnGateway ec2:CreateVpcEncryptionControl ec2:DetachVpnGateway"
        " vpc-lattice:CreateServiceNetworkVpcEndpointAssociation"
        " vpc-lattice:DescribeServiceNetworkVpcEndpointAssociation"
        " vpce:AllowMultiRegion cognito-idp:DescribeUserPoolClient"
    ),
    "no documents of Systems Manager on the instance": (
        "ssm:CreateAssociation ssm:DescribeAssociation ssm:ListAssociations"
    ),
    "no replicas, roles or replicated backups of the database": (
        "rds:AddRoleToDBInstance rds:CreateDBInstanceReadReplica rds:StartDBInstanceAutomatedBackupsReplication"
    ),
    "no other feature of the bucket": (
        "s3:PutBucketAbac s3:PutAnalyticsConfiguration s3:PutInventoryConfiguration s3:PutMetricsConfiguration"
        " s3:PutBucketNotification s3:PutBucketReplication s3:PutBucketWebsite s3:PutAccelerateConfiguration"
        " s3:PutReplicationConfiguration s3:PutObjectAcl s3:PutBucketObjectLockConfiguration s3:DeleteObject"
        " s3:PutBucketLogging s3:PutObjectLockConfiguration s3:PutIntelligentTieringConfiguration"
        " s3:CreateBucketMetadataTableConfiguration"
    ),
    "no tables beside the bucket": (
        "s3tables:CreateNamespace s3tables:CreateTable s3tables:CreateTableBucket s3tables:GetTable"
        " s3tables:PutTableBucketPolicy s3tables:PutTableEncryption s3tables:PutTablePolicy"
        " s3tables:GetTableMetadataLocation s3tables:UpdateTableMetadataLocation"
    ),
}
# Permissions that resource handlers may request, and why this template never needs them.
NEVER_NEEDED = {need: reason for reason, needs in _FEATURES.items() for need in needs.split()}


def _deployer_actions() -> set[str]:
    actions: set[str] = set()
    for statement in json.loads(_read("deployer-policy.json"))["Statement"]:
        if statement["Sid"] != "TemplateUploadedByTheConsole":
            given = statement["Action"]
            actions |= {given} if isinstance(given, str) else set(given)
    return actions


def _handler_permissions(kind: str) -> set[str]:
    schemas = Path(cfnlint.__file__).parent / "data" / "schemas"
    file = json.loads((schemas / "providers" / "us-east-1.json").read_text())[kind]
    handlers = json.loads((schemas / "resources" / f"{file}.json").read_text()).get("handlers", {})
    return {need for step in ("create", "delete") for need in handlers.get(step, {}).get("permissions", ())}


def _read(name: str) -> str:
    return (AWS / name).read_text()
