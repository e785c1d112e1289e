"""CloudFormation resource types that the templates use and moto lacks.

This is a module of a package, with direct subclasses, as moto finds types by `CloudFormationModel.__subclasses__()`.
"""

from __future__ import annotations

import json
from typing import Any

from moto.core.common_models import CloudFormationModel
from moto.iam.models import AccessKey
from moto.moto_api._internal import mock_random
from moto.rds.models import DBParameterGroup
from moto.s3.models import FakeBucket, s3_backends
from moto.secretsmanager.models import secretsmanager_backends
from moto.utilities.utils import get_partition


class Secret(CloudFormationModel):
    """AWS::SecretsManager::Secret; Ref is the ARN."""

    def __init__(self, arn: str) -> None:
        self.physical_resource_id = arn

    @staticmethod
    def cloudformation_name_type() -> str:
        return "Name"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SecretsManager::Secret"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return False

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **_: Any
    ) -> Secret:
        backend = secretsmanager_backends[account_id][region_name]
        properties = cloudformation_json["Properties"]
        made = backend.create_secret(
            name=resource_name,
            secret_string=_secret_string(properties),
            secret_binary=None,
            description=properties.get("Description"),
            tags=None,
            kms_key_id=None,
            client_request_token=None,
            replica_regions=[],
            force_overwrite=False,
        )
        return cls(json.loads(made)["ARN"])

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Secret,
        new_resource_name: str,
        cloudformation_json: dict[str, Any],
        account_id: str,
        region_name: str,
    ) -> Secret:
        backend = secretsmanager_backends[account_id][region_name]
        text = _secret_string(cloudformation_json["Properties"])
        token = str(mock_random.uuid4())
        backend.put_secret_value(original_resource.physical_resource_id, text, None, token, ["AWSCURRENT"])
        return original_resource


def _secret_string(properties: dict[str, Any]) -> str:
    if "SecretString" in properties:
        return properties["SecretString"]
    wanted = properties["GenerateSecretString"]
    assert wanted["ExcludePunctuation"] is True
    return mock_random.get_random_string(length=wanted["PasswordLength"])


class BucketPolicy(CloudFormationModel):
    """AWS::S3::BucketPolicy. Not applied, because moto ignores its conditions and would deny everything."""

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::S3::BucketPolicy"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **_: Any
    ) -> BucketPolicy:
        policy = cls()
        policy.physical_resource_id = cloudformation_json["Properties"]["Bucket"]
        return policy


_create_bucket = FakeBucket.create_from_cloudformation_json


def _create_whole_bucket(
    resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **_: Any
) -> FakeBucket:
    bucket = _create_bucket(resource_name, cloudformation_json, account_id, region_name)
    backend, properties = s3_backends[account_id][get_partition(region_name)], cloudformation_json["Properties"]
    backend.put_bucket_versioning(resource_name, properties["VersioningConfiguration"]["Status"])
    backend.put_public_access_block(
        resource_name, {key: str(value).lower() for key, value in properties["PublicAccessBlockConfiguration"].items()}
    )
    backend.put_bucket_cors(resource_name, [_cors_rule(rule) for rule in properties["CorsConfiguration"]["CorsRules"]])
    return bucket


def _cors_rule(rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "ID": rule["Id"],
        "AllowedMethod": rule["AllowedMethods"],
        "AllowedOrigin": rule["AllowedOrigins"],
        "AllowedHeader": rule["AllowedHeaders"],
        "ExposeHeader": rule["ExposedHeaders"],
        "MaxAgeSeconds": str(rule["MaxAge"]),
    }


FakeBucket.create_from_cloudformation_json = staticmethod(_create_whole_bucket)  # type: ignore[method-assign]
# Without these, Ref of a parameter group is an object, and each change of a key replaces the group.
DBParameterGroup.physical_resource_id = DBParameterGroup.resource_id  # type: ignore[attr-defined]
AccessKey.is_replacement_update = staticmethod(lambda properties: "Serial" in properties)  # type: ignore[method-assign]
