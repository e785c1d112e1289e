"""The stack in an emulator of AWS: its creation, and the operations that change it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core import enable_iam_authentication

from quilt_registry.settings import Settings
from tests.deploy import moto_types  # noqa: F401  # adds the types that moto lacks
from tests.deploy.cloud import BUCKET, IMAGES, REGION, Cloud, Stack
from tests.deploy.templates import PASSWORDS


# Of each test that is in no class.
@pytest.fixture(scope="class")
def cloud() -> Iterator[Cloud]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        with mock_aws():
            yield Cloud()


@pytest.fixture(scope="class")
def stack(cloud: Cloud) -> Stack:
    return cloud.create()


class TestTheUsualStack:
    """What the stack of the example contains. The tests share it, because they only read."""

    def test_the_network_has_two_public_subnets_and_a_private_one(self, stack: Stack) -> None:
        first, second = f"{REGION}a", f"{REGION}b"
        assert stack.subnets() == {"10.77.0.0/24": first, "10.77.1.0/24": second, "10.77.2.0/24": first}

    def test_only_one_route_table_leads_out(self, stack: Stack) -> None:
        mine = [{"Name": "vpc-id", "Values": [stack.out["VpcId"]]}]
        tables = stack.cloud.ec2.describe_route_tables(Filters=mine)["RouteTables"]
        out = [t["RouteTableId"] for t in tables if any(r.get("GatewayId", "").startswith("igw-") for r in t["Routes"])]
        assert out == [stack.physical("PublicRouteTable")]

    def test_the_instance_has_key_profile_address_and_encrypted_disk(self, stack: Stack) -> None:
        instance = stack.instance()
        assert instance["KeyName"] == "operators"
        assert instance["IamInstanceProfile"]["Arn"].endswith(stack.out["InstanceProfileName"])
        addresses = stack.cloud.ec2.describe_addresses(PublicIps=[stack.out["EC2InstanceIp"]])["Addresses"]
        assert [each["InstanceId"] for each in addresses] == [stack.out["InstanceId"]]
        disk = instance["BlockDeviceMappings"][0]["Ebs"]
        volume = stack.cloud.ec2.describe_volumes(VolumeIds=[disk["VolumeId"]])["Volumes"][0]
        assert (volume["Encrypted"], volume["Size"], disk["DeleteOnTermination"]) == (True, 16, True)

    def test_the_instance_runs_the_boot_and_signals(self, stack: Stack) -> None:
        user_data = _user_data(stack)
        assert len(user_data) < 1024
        assert "cfn-init -v --configsets default" in user_data
        assert user_data.rstrip().endswith(f"--stack registry --resource RegistryInstance --region {REGION}")
        assert user_data.index("cfn-init ") < user_data.index("tail -n 60") < user_data.index('cfn-signal -e "$status"')

    def test_secrets_are_nowhere_but_in_the_secrets(self, stack: Stack) -> None:
        hidden = {
            *PASSWORDS.values(),
            stack.environment["AWS_SECRET_KEY"],
            stack.secret("SigningSecretArn"),
        }
        seen = json.dumps([_user_data(stack), stack.found["Outputs"], stack.instance(), stack.database()], default=str)
        assert stack.environment["AWS_SECRET_KEY"] in stack.secret()
        assert [value for value in hidden if value in seen] == []

    def test_the_database_is_private_encrypted_and_backed_up(self, stack: Stack) -> None:
        database = stack.database()
        expected = {
            "DBInstanceClass": "db.t4g.small",
            "Engine": "postgres",
            "EngineVersion": "18",
            "MasterUsername": "registry",
            "DBName": "registry",
            "AllocatedStorage": 20,
            "BackupRetentionPeriod": 14,
            "PreferredBackupWindow": "03:00-04:00",
            "PreferredMaintenanceWindow": "sun:04:30-sun:05:30",
            "MultiAZ": False,
            "PubliclyAccessible": False,
            "StorageEncrypted": True,
            "StorageType": "gp3",
            "CopyTagsToSnapshot": True,
            "AutoMinorVersionUpgrade": True,
        }
        assert {key: database[key] for key in expected} == expected
        assert database["Endpoint"]["Address"] == stack.out["DatabaseEndpoint"]
        group = database["DBParameterGroups"][0]["DBParameterGroupName"]
        (found,) = stack.cloud.rds.describe_db_parameter_groups(DBParameterGroupName=group)["DBParameterGroups"]
        assert found["DBParameterGroupFamily"] == "postgres18"

    def test_the_balancer_knows_two_hosts_and_redirects_http(self, stack: Stack) -> None:
        elb, arn = stack.cloud.elbv2, stack.physical("LoadBalancer")
        (balancer,) = elb.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"]
        assert balancer["DNSName"] == stack.out["LoadBalancerDNSName"]
        assert (balancer["Scheme"], balancer["Type"]) == ("internet-facing", "application")
        assert balancer["SecurityGroups"] == [stack.physical("ElbSecurityGroup")]
        listeners = {one["Port"]: one for one in elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]}
        assert set(listeners) == {80, 443}
        redirect = listeners[80]["DefaultActions"][0]["RedirectConfig"]
        assert (redirect["Protocol"], redirect["Port"], redirect["StatusCode"]) == ("HTTPS", "443", "HTTP_301")
        assert listeners[443]["Certificates"] == [{"CertificateArn": stack.cloud.certificate}]
        assert listeners[443]["DefaultActions"][0]["FixedResponseConfig"]["StatusCode"] == "404"
        rules = elb.describe_rules(ListenerArn=listeners[443]["ListenerArn"])["Rules"]
        (rule,) = [rule for rule in rules if not rule["IsDefault"]]
        assert rule["Conditions"][0]["HostHeaderConfig"]["Values"] == [
            "quilt.example.com",
            "quilt-registry.example.com",
        ]
        assert rule["Actions"][0]["TargetGroupArn"] == stack.out["TargetGroupArn"]

    def test_the_target_group_asks_for_health(self, stack: Stack) -> None:
        arn = stack.out["TargetGroupArn"]
        (group,) = stack.cloud.elbv2.describe_target_groups(TargetGroupArns=[arn])["TargetGroups"]
        expected = {
            "Port": 5000,
            "Protocol": "HTTP",
            "TargetType": "instance",
            "HealthCheckPath": "/healthcheck",
            "HealthCheckIntervalSeconds": 15,
            "HealthCheckTimeoutSeconds": 5,
            "HealthyThresholdCount": 2,
            "UnhealthyThresholdCount": 3,
            "Matcher": {"HttpCode": "200"},
        }
        assert {key: group[key] for key in expected} == expected

    def test_the_user_may_only_handle_objects_of_the_bucket(self, stack: Stack) -> None:
        user, uid = stack.out["RegistryUserName"], stack.found["StackId"].split("/")[2].split("-")[0]
        assert user == f"research-RegistryUser-{uid}"
        assert stack.cloud.iam.list_user_policies(UserName=user)["PolicyNames"] == ["quilt-registry-s3"]
        policy = stack.cloud.iam.get_user_policy(UserName=user, PolicyName="quilt-registry-s3")["PolicyDocument"]
        assert _allowed(policy) == {
            ("s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/*"),
            ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/*"),
            ("s3:PutObject", f"arn:aws:s3:::{BUCKET}/*"),
            ("s3:ListBucket", f"arn:aws:s3:::{BUCKET}"),
        }

    def test_the_secret_is_the_environment(self, stack: Stack) -> None:
        ((key, status),) = stack.keys().items()
        environment = stack.environment
        assert status == "Active"
        assert environment["AWS_SECRET_KEY"] == environment["AWS_SECRET_ACCESS_KEY"]
        assert environment == {
            "ALLOW_ANONYMOUS_ACCESS": "false",
            "ALLOW_TEAM_ACCESS": "true",
            "AWS_ACCESS_KEY_ID": key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_SECRET_ACCESS_KEY": environment["AWS_SECRET_KEY"],
            "AWS_SECRET_KEY": environment["AWS_SECRET_KEY"],
            "CATALOG_URL": "https://quilt.example.com",
            "DEPLOYMENT_ID": "registry",
            "ENABLE_USER_ENDPOINTS": "true",
            "FORWARDED_ALLOW_IPS": "10.77.0.0/16",
            "PACKAGE_BUCKET_NAME": BUCKET,
            "QUILT_DEFAULT_SENDER": "registry@example.com",
            "REGISTRY_URL": "https://quilt-registry.example.com",
            "S3_ENDPOINT": f"https://s3.{REGION}.amazonaws.com",
            "SIGNUP": "invited",
            "SIGNUP_DOMAINS": "",
            "SMTP_HOST": "email-smtp.us-east-1.amazonaws.com",
            "SMTP_PASSWORD": PASSWORDS["SmtpPassword"],
            "SMTP_PORT": "587",
            "SMTP_USERNAME": "AKIAIOSFODNN7EXAMPLE",
            "SMTP_USE_TLS": "true",
            "SQLALCHEMY_DATABASE_URI": f"postgresql://registry:{PASSWORDS['DBPassword']}@{stack.out['DatabaseEndpoint']}"
            ":5432/registry?sslmode=verify-full&sslrootcert=/etc/quilt-registry/rds-ca.pem",
            "TEAM_ID": "research",
            "TEAM_NAME": "Research",
        }

    def test_the_registry_understands_the_secret(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in stack.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("QUILT_SECRET_KEY", stack.secret("SigningSecretArn"))
        settings = Settings()
        assert (settings.team_id, settings.package_bucket_name) == ("research", BUCKET)
        assert settings.smtp_use_tls is True
        assert settings.signup == "invited"

    def test_the_signing_secret_is_generated(self, stack: Stack) -> None:
        secret = stack.secret("SigningSecretArn")
        assert (len(secret), secret.isalnum()) == (64, True)

    def test_the_bucket_is_private_versioned_encrypted_and_takes_signed_uploads(self, stack: Stack) -> None:
        s3 = stack.cloud.s3
        assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
        assert set(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values()) == {True}
        (rule,) = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        (cors,) = s3.get_bucket_cors(Bucket=BUCKET)["CORSRules"]
        assert (cors["AllowedOrigins"], cors["AllowedMethods"]) == (["*"], ["GET", "HEAD", "PUT"])


def test_another_prefix_moves_the_network(cloud: Cloud) -> None:
    assert set(cloud.create(VpcCidrPrefix="172.31").subnets()) == {f"172.31.{n}.0/24" for n in range(3)}


def test_zones_can_be_chosen(cloud: Cloud) -> None:
    first, second = f"{REGION}d", f"{REGION}b"
    stack = cloud.create(ZoneA=first, ZoneB=second, DBMultiAZ="true")
    found = {"10.77.0.0/24": first, "10.77.1.0/24": second, "10.77.2.0/24": first, "10.77.3.0/24": second}
    assert stack.subnets() == found


def test_security_groups_allow_only_the_intended_sources(cloud: Cloud) -> None:
    stack = cloud.create(WebInputCIDR="198.51.100.0/24")
    assert stack.ingress("ElbSecurityGroup") == {(443, "198.51.100.0/24"), (80, "198.51.100.0/24")}
    assert stack.ingress("SshSecurityGroup") == {(22, "203.0.113.0/24")}
    assert stack.ingress("RegistrySecurityGroup") == {(5000, stack.physical("ElbSecurityGroup"))}
    assert stack.ingress("DatabaseSecurityGroup") == {(5432, stack.out["RegistrySecurityGroupId"])}


def test_a_t2_database_is_a_t3(cloud: Cloud) -> None:
    stack = cloud.create(DBInstanceType="t2.small")
    assert stack.database()["DBInstanceClass"] == stack.out["DatabaseInstanceClass"] == "db.t3.small"


@pytest.mark.parametrize(
    ("url", "release"),
    [
        ("s3://releases/1/r.tar", {("s3:GetObject", "arn:aws:s3:::releases/1/r.tar")}),
        ("https://example.com/r.tar", {("s3:GetObject", "arn:aws:s3:::-/-")}),
    ],
)
def test_the_instance_may_only_read_its_two_secrets_and_its_release(
    cloud: Cloud, url: str, release: set[tuple[str, str]]
) -> None:
    stack = cloud.create(ReleaseUrl=url)
    iam, role = stack.cloud.iam, stack.physical("InstanceRole")
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    policies = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]
    assert set().union(*map(_allowed, policies)) == {
        ("secretsmanager:GetSecretValue", stack.out["RegistrySecretArn"]),
        ("secretsmanager:GetSecretValue", stack.out["SigningSecretArn"]),
        *release,
    }


def test_a_name_full_of_special_characters_arrives(cloud: Cloud) -> None:
    name = "Anna's `team` of $HOME; #1 {é, 数, \N{PARTY POPPER}}"
    assert cloud.create(TeamName=name).environment["TEAM_NAME"] == name


def test_an_existing_bucket_is_adopted_as_it_is(cloud: Cloud) -> None:
    cloud.s3.create_bucket(Bucket="kept-from-before")
    stack = cloud.create(PackageBucket="kept-from-before", CreatePackageBucket="false")
    assert stack.environment["PACKAGE_BUCKET_NAME"] == stack.out["PackageBucketName"] == "kept-from-before"
    assert "Status" not in cloud.s3.get_bucket_versioning(Bucket="kept-from-before")
    assert [bucket["Name"] for bucket in cloud.s3.list_buckets()["Buckets"]] == ["kept-from-before"]


def test_a_standby_brings_a_fourth_subnet_and_leaves_the_zone_to_aws(cloud: Cloud) -> None:
    stack = cloud.create(DBMultiAZ="true")
    assert stack.subnets()["10.77.3.0/24"] == f"{REGION}b"
    assert len(stack.subnets()) == 4
    database = stack.database()
    assert database["MultiAZ"] is True
    group = {subnet["SubnetIdentifier"] for subnet in database["DBSubnetGroup"]["Subnets"]}
    assert group == {stack.physical("PrivateSubnet"), stack.physical("PrivateSubnetB")}


@pytest.mark.parametrize("size", ["t2.small", "m7g.large"])
def test_each_instance_type_gets_an_image_of_its_architecture(cloud: Cloud, size: str) -> None:
    arch = "arm64" if "g." in size else "x86_64"
    image = cloud.ssm.get_parameter(Name=IMAGES + arch)["Parameter"]["Value"]
    instance = cloud.create(InstanceType=size).instance()
    assert (instance["InstanceType"], instance["ImageId"]) == (size, image)


def test_a_pinned_image_is_used(cloud: Cloud) -> None:
    image = cloud.ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    assert cloud.create(AmiOverride=image).instance()["ImageId"] == image


def test_from_a_snapshot_the_database_inherits_name_user_and_encryption(cloud: Cloud) -> None:
    first = cloud.create()
    cloud.rds.create_db_snapshot(DBInstanceIdentifier=first.out["DatabaseIdentifier"], DBSnapshotIdentifier="before")
    drill = cloud.create("drill", DBSnapshotIdentifier="before", VpcCidrPrefix="10.78", PackageBucket="drill-bucket")
    body = cloud.cloudformation.get_template(StackName="drill")["TemplateBody"]
    database = body["Resources"]["Database"]["Properties"]
    assert database["DBSnapshotIdentifier"] == {"Ref": "DBSnapshotIdentifier"}
    assert {"DBName", "MasterUsername", "StorageEncrypted"}.isdisjoint(database)
    assert drill.out["DatabaseIdentifier"] != first.out["DatabaseIdentifier"]
    assert drill.out["RegistryUserName"] != first.out["RegistryUserName"]


def test_a_key_is_rotated_without_a_gap(stack: Stack) -> None:
    signing, database = stack.secret("SigningSecretArn"), stack.out["DatabaseIdentifier"]
    a = stack.environment["AWS_ACCESS_KEY_ID"]
    stack.change(SigningKeySlot="B", RetiredKeyStatus="Active")
    b = stack.environment["AWS_ACCESS_KEY_ID"]
    assert b != a
    assert stack.keys() == {a: "Active", b: "Active"}
    stack.change(RetiredKeyStatus="Inactive")
    assert stack.keys() == {a: "Inactive", b: "Active"}
    stack.change(RetiredKeyStatus="Absent")
    assert stack.keys() == {b: "Active"}
    assert stack.environment["AWS_ACCESS_KEY_ID"] == b
    assert (stack.secret("SigningSecretArn"), stack.out["DatabaseIdentifier"]) == (signing, database)


def test_the_next_rotation_goes_back_to_the_first_slot(cloud: Cloud) -> None:
    stack = cloud.create(SigningKeySlot="B")
    b = stack.environment["AWS_ACCESS_KEY_ID"]
    assert stack.keys() == {b: "Active"}
    stack.change(SigningKeySlot="A", RetiredKeyStatus="Active")
    assert stack.environment["AWS_ACCESS_KEY_ID"] != b
    assert stack.keys() == {b: "Active", stack.environment["AWS_ACCESS_KEY_ID"]: "Active"}


@pytest.mark.filterwarnings("ignore:Tried to parse AWS")  # moto has none
def test_scaling_out_joins_the_same_balancer(stack: Stack) -> None:
    release = {key: stack.given[key] for key in ("ReleaseUrl", "ReleaseSha256")}
    more = stack.cloud.create("more", "scale-out.yaml", RegistryStackName="registry", KeyName="operators", **release)
    name = more.out["GroupName"]
    (group,) = stack.cloud.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    assert (group["MinSize"], group["MaxSize"], group["HealthCheckType"]) == (1, 4, "ELB")
    assert group["TargetGroupARNs"] == [stack.out["TargetGroupArn"]]
    assert group["VPCZoneIdentifier"] == stack.out["PublicSubnetIds"]
    health = stack.cloud.elbv2.describe_target_health(TargetGroupArn=stack.out["TargetGroupArn"])
    states = {one["Target"]["Id"]: one["TargetHealth"]["State"] for one in health["TargetHealthDescriptions"]}
    assert states == {group["Instances"][0]["InstanceId"]: "healthy"}


def test_the_signing_key_does_what_the_registry_needs(stack: Stack) -> None:
    s3 = stack.signing_client("s3")
    with enable_iam_authentication():
        s3.put_object(Bucket=BUCKET, Key="objs/anna/1", Body=b"rows")
        assert s3.get_object(Bucket=BUCKET, Key="objs/anna/1")["Body"].read() == b"rows"
        assert s3.head_object(Bucket=BUCKET, Key="objs/anna/1")["ContentLength"] == 4
        assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1
        assert s3.create_multipart_upload(Bucket=BUCKET, Key="objs/anna/2")["UploadId"]
        s3.delete_object(Bucket=BUCKET, Key="objs/anna/1")
        assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


DENIED: dict[str, Callable[[Any, Stack], Any]] = {
    "another bucket": lambda of, _: of("s3").get_object(Bucket="another-bucket", Key="theirs"),
    "writing to another bucket": lambda of, _: of("s3").put_object(Bucket="another-bucket", Key="mine", Body=b""),
    "listing another bucket": lambda of, _: of("s3").list_objects_v2(Bucket="another-bucket"),
    "a list of all buckets": lambda of, _: of("s3").list_buckets(),
    "reading the bucket's policy": lambda of, _: of("s3").get_bucket_policy(Bucket=BUCKET),
    "changing the bucket's policy": lambda of, _: of("s3").put_bucket_policy(Bucket=BUCKET, Policy="{}"),
    "deleting the bucket": lambda of, _: of("s3").delete_bucket(Bucket=BUCKET),
    "listing versions": lambda of, _: of("s3").list_object_versions(Bucket=BUCKET),
    "aborting an upload": lambda of, _: of("s3").abort_multipart_upload(Bucket=BUCKET, Key="objs/anna/2", UploadId="x"),
    "making a key": lambda of, stack: of("iam").create_access_key(UserName=stack.out["RegistryUserName"]),
    "reading a secret": lambda of, stack: of("secretsmanager").get_secret_value(
        SecretId=stack.out["RegistrySecretArn"]
    ),
}


def test_the_signing_key_does_nothing_else(stack: Stack) -> None:
    stack.cloud.s3.create_bucket(Bucket="another-bucket")
    stack.cloud.s3.put_object(Bucket="another-bucket", Key="theirs", Body=b"secret")
    clients = {name: stack.signing_client(name) for name in ("s3", "iam", "secretsmanager")}
    for what, act in DENIED.items():
        with enable_iam_authentication(), pytest.raises(ClientError) as refused:
            act(clients.__getitem__, stack)
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403, what


def _user_data(stack: Stack) -> str:
    found = stack.cloud.ec2.describe_instance_attribute(InstanceId=stack.out["InstanceId"], Attribute="userData")
    text = base64.b64decode(found["UserData"]["Value"]).decode()
    return text if text.startswith("#!") else base64.b64decode(text).decode()


def _allowed(policy: dict[str, Any]) -> set[tuple[str, str]]:
    """Return each pair of action and resource that the policy allows. Anything but plain permission is an error."""
    pairs = set()
    for statement in policy["Statement"]:
        assert set(statement) == {"Effect", "Action", "Resource"}
        assert statement["Effect"] == "Allow"
        actions, resources = statement["Action"], statement["Resource"]
        for action in [actions] if isinstance(actions, str) else actions:
            pairs |= {(action, one) for one in ([resources] if isinstance(resources, str) else resources)}
    return pairs
