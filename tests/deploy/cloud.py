"""An emulator of AWS."""

from __future__ import annotations

import datetime
import functools
import json
from typing import Any

import boto3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.deploy import moto_types  # noqa: F401  # adds the types that moto lacks
from tests.deploy.templates import example, load, resolve

REGION = "us-east-1"  # the region in which moto places all zones


SESSION = boto3.Session()


IMAGES = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-"


BUCKET = example()["PackageBucket"]


class Cloud:
    """An account in the emulator, with a certificate and a key pair."""

    def __init__(self) -> None:
        self.ec2.create_key_pair(KeyName="operators")
        self.certificate = self.acm.import_certificate(**_self_signed())["CertificateArn"]

    def __getattr__(self, service: str) -> Any:
        return _client(service)

    def create(self, name: str = "registry", template: str = "template.yaml", **changes: str) -> Stack:
        return Stack(self, name, load(template), changes)


class Stack:
    """A stack and its outputs. Parameters are those of the example, with changes."""

    def __init__(self, cloud: Cloud, name: str, template: dict[str, Any], changes: dict[str, str]) -> None:
        self.cloud, self.name, self.template = cloud, name, template
        self.given = example() | {"CertificateArn": cloud.certificate} if "TeamId" in template["Parameters"] else {}
        self.given |= changes
        cloud.cloudformation.create_stack(**self._request(), Capabilities=["CAPABILITY_NAMED_IAM"])
        self._read()

    def change(self, **changes: str) -> None:
        """Update the stack. All other parameters stay."""
        self.given |= changes
        self.cloud.cloudformation.update_stack(**self._request())
        self._read()

    def physical(self, resource: str) -> str:
        """Return the ID that AWS assigned to a resource of the template."""
        detail = self.cloud.cloudformation.describe_stack_resource(StackName=self.name, LogicalResourceId=resource)
        return detail["StackResourceDetail"]["PhysicalResourceId"]

    def secret(self, output: str = "RegistrySecretArn") -> str:
        return self.cloud.secretsmanager.get_secret_value(SecretId=self.out[output])["SecretString"]

    @property
    def environment(self) -> dict[str, str]:
        return json.loads(self.secret())

    def instance(self) -> dict[str, Any]:
        found = self.cloud.ec2.describe_instances(InstanceIds=[self.out["InstanceId"]])
        return found["Reservations"][0]["Instances"][0]

    def database(self) -> dict[str, Any]:
        found = self.cloud.rds.describe_db_instances(DBInstanceIdentifier=self.out["DatabaseIdentifier"])
        return found["DBInstances"][0]

    def subnets(self) -> dict[str, str]:
        """Return the zone of each CIDR block."""
        mine = [{"Name": "vpc-id", "Values": [self.out["VpcId"]]}]
        found = self.cloud.ec2.describe_subnets(Filters=mine)["Subnets"]
        return {subnet["CidrBlock"]: subnet["AvailabilityZone"] for subnet in found}

    def ingress(self, resource: str) -> set[tuple[int, str]]:
        """Return port and source of each rule of a security group."""
        group = self.cloud.ec2.describe_security_groups(GroupIds=[self.physical(resource)])["SecurityGroups"][0]
        return {
            (rule["FromPort"], source.get("CidrIp") or source["GroupId"])
            for rule in group["IpPermissions"]
            for source in rule["IpRanges"] + rule["UserIdGroupPairs"]
        }

    def signing_client(self, service: str) -> Any:
        """Return a client that uses the registry's signing key."""
        return _client(service, self.environment["AWS_ACCESS_KEY_ID"], self.environment["AWS_SECRET_KEY"])

    def keys(self) -> dict[str, str]:
        """Return the status of each of the user's keys."""
        found = self.cloud.iam.list_access_keys(UserName=self.out["RegistryUserName"])["AccessKeyMetadata"]
        return {key["AccessKeyId"]: key["Status"] for key in found}

    def _request(self) -> dict[str, Any]:
        parameters = [{"ParameterKey": key, "ParameterValue": value} for key, value in self.given.items()]
        body = json.dumps(resolve(self.template, self.given))
        return {"StackName": self.name, "TemplateBody": body, "Parameters": parameters}

    def _read(self) -> None:
        self.found = self.cloud.cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]
        self.out = {output["OutputKey"]: output["OutputValue"] for output in self.found.get("Outputs", [])}


@functools.cache
def _client(service: str, key: str = "testing", secret: str = "testing") -> Any:
    """Return a client. Clients are cached because parsing a service description takes longer than a call."""
    return SESSION.client(service, REGION, aws_access_key_id=key, aws_secret_access_key=secret)


def _self_signed() -> dict[str, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "quilt.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    return {"Certificate": certificate.public_bytes(pem), "PrivateKey": private}
