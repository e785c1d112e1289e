#!/bin/bash
# Installs and runs the registry on this host: bootstrap.sh install | configure | start | rollback
# Commands can be repeated. If one fails, the running release stays.
# shellcheck disable=SC1090,SC1091
set -euo pipefail
export LC_ALL=C.UTF-8
umask 022

HOST_ENV=/etc/quilt-registry/host.env
BASE=/opt/quilt-registry
PYTHON=${PYTHON:-python3.12}
REGISTRY_HOME=${REGISTRY_HOME:-/home/ec2-user}
# Empty if the database's certificate is not Amazon's.
DB_CA_URL=${DB_CA_URL-https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem}
# Seconds, because S3 does not accept a new key at once.
CHECK_WAIT=${CHECK_WAIT:-120}
unfinished=

die() {
    echo "bootstrap.sh: $*" >&2
    exit 1
}

# Replaces a link atomically.
point() {
    ln -sfn "$2" "$BASE/$1.new"
    mv -T "$BASE/$1.new" "$BASE/$1"
}

prepared_release() {
    if [ -e "$BASE/next" ]; then
        readlink "$BASE/next"
    else
        readlink "$BASE/current" || die "No release is installed. Run: $0 install"
    fi
}

version_of() {
    cat "$BASE/$1/version" 2>/dev/null || true
}

with_settings() (
    [ -r "$REGISTRY_HOME/env/registry" ] || die "$REGISTRY_HOME/env/registry is missing. Run: $0 configure"
    set -a
    . "$REGISTRY_HOME/env/registry"
    "$@"
)

need_python() {
    if ! command -v "$PYTHON" >/dev/null; then
        command -v dnf >/dev/null || die "$PYTHON is missing. Set PYTHON to a Python 3.11 or newer."
        dnf install --quiet --assumeyes python3.12
    fi
}

# For backups. The pg_dump of a release cannot use TLS, as RDS requires.
need_pg_dump() {
    command -v pg_dump >/dev/null || ! command -v dnf >/dev/null || dnf install --quiet --assumeyes postgresql18 ||
        echo "bootstrap.sh: postgresql18 cannot be installed. Backups need PostgreSQL's client programs." >&2
}

need_account() {
    id quilt-registry >/dev/null 2>&1 ||
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin quilt-registry
}

# Verifies the SHA-256 before anything runs.
fetch_release() {
    local file=$1/release.tar name=${RELEASE_URL%%\?*} actual
    case $RELEASE_URL in
    s3://*) aws --region "${AWS_REGION:?is missing in $HOST_ENV}" s3 cp --only-show-errors "$RELEASE_URL" "$file" ;;
    https://*) curl --silent --show-error --fail --location --proto =https --retry 5 --output "$file" "$RELEASE_URL" ;;
    *) cp "$RELEASE_URL" "$file" ;;
    esac || die "Cannot fetch the release $name. Check RELEASE_URL in $HOST_ENV. Free space: $(free_space "$1")."
    actual=$(sha256sum <"$file" | cut -d ' ' -f 1)
    [ "$actual" = "$RELEASE_SHA256" ] ||
        die "The SHA-256 of $name is $actual, not that of RELEASE_SHA256 in $HOST_ENV. Nothing of it was run."
    tar -C "$1" --no-same-owner -xf "$file" || die "Cannot unpack $name. Free space: $(free_space "$1")."
    rm "$file"
}

free_space() {
    df -h --output=avail "$1" | tail -n 1
}

make_release() {
    local release
    release=$BASE/releases/$(date -u +%Y%m%dT%H%M%SZ)
    mkdir -p "$BASE/releases"
    mkdir "$release" || die "Another install started in this second. Try again."
    unfinished=$release
    trap '[ -z "$unfinished" ] || rm -rf "$unfinished"' EXIT
    fetch_release "$release"
    "$PYTHON" -m venv "$release" ||
        die "$PYTHON cannot create a virtual environment in $release. Free space: $(free_space "$release")."
    "$release/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-index \
        --find-links "$release/wheels" --only-binary=:all: --require-hashes --requirement "$release/requirements.txt" ||
        die "pip cannot install the release. Is it for $("$PYTHON" --version) on $(uname -m)?"
    rm -r "$release/wheels"
    "$release/bin/quilt-registry" --version | tee "$release/version" || die "The release does not run."
}

fetch_database_ca() {
    local target=/etc/quilt-registry/rds-ca.pem
    [ -n "$DB_CA_URL" ] || return 0
    curl --silent --show-error --fail --location --retry 5 --output "$target.new" "$DB_CA_URL" ||
        die "Cannot fetch the database's certificates from $DB_CA_URL."
    chmod 0644 "$target.new"
    mv -T "$target.new" "$target"
}

remove_old_releases() {
    local release link
    for release in "$BASE"/releases/*; do
        for link in current previous next; do
            [ "$(readlink "$BASE/$link")" != "$release" ] || continue 2
        done
        rm -rf "$release"
    done
}

watch_with_cloudwatch() {
    local agent=/opt/aws/amazon-cloudwatch-agent logs=/var/log/quilt-registry
    dnf install --quiet --assumeyes amazon-cloudwatch-agent
    mkdir -p "$logs"
    chmod 0700 "$logs"
    cat >/etc/systemd/system/quilt-registry-logs.service <<EOF
[Unit]
Description=Log of Quilt Registry for the CloudWatch agent

[Service]
ExecStart=/bin/sh -c 'exec journalctl --unit quilt-registry --follow --lines 0 --output cat >>$logs/registry.log'
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
EOF
    cat >/etc/logrotate.d/quilt-registry <<EOF
$logs/registry.log {
    daily
    rotate 7
    copytruncate
    missingok
    notifempty
}
EOF
    cat >"$agent/etc/quilt-registry.json" <<EOF
{
  "agent": {"run_as_user": "root"},
  "metrics": {
    "append_dimensions": {"InstanceId": "\${aws:InstanceId}"},
    "metrics_collected": {"mem": {"measurement": ["mem_used_percent"]},
      "disk": {"measurement": ["used_percent"], "resources": ["/"]}}
  },
  "logs": {"logs_collected": {"files": {"collect_list": [
    {"file_path": "/var/log/cfn-init*.log", "log_group_name": "quilt-registry", "log_stream_name": "{instance_id}/boot"},
    {"file_path": "$logs/registry.log", "log_group_name": "quilt-registry", "log_stream_name": "{instance_id}/registry"}
  ]}}}
}
EOF
    systemctl daemon-reload
    systemctl enable --now quilt-registry-logs.service
    "$agent/bin/amazon-cloudwatch-agent-ctl" -a fetch-config -m ec2 -s -c "file:$agent/etc/quilt-registry.json"
}

install_release() {
    : "${RELEASE_URL:?is missing in $HOST_ENV}" "${RELEASE_SHA256:?is missing in $HOST_ENV}"
    need_python
    need_pg_dump
    need_account
    fetch_database_ca
    make_release
    point next "$unfinished"
    unfinished=
    remove_old_releases
    [ "${CLOUDWATCH_AGENT:-false}" = false ] || watch_with_cloudwatch
}

get_secret() {
    aws --region "$AWS_REGION" secretsmanager get-secret-value --secret-id "$1" --query SecretString --output text ||
        die "Cannot read the secret $1. The instance's role must allow it, and port 443 must be open."
}

write_settings() {
    local command
    : "${AWS_REGION:?is missing in $HOST_ENV}" "${REGISTRY_SECRET_ARN:?is missing}" "${SIGNING_SECRET_ARN:?is missing}"
    command=$(prepared_release)/bin/quilt-registry
    secrets=$(mktemp -d)
    trap 'rm -rf "$secrets"' EXIT
    "$command" host install --home "$REGISTRY_HOME"
    get_secret "$REGISTRY_SECRET_ARN" >"$secrets/registry.json"
    get_secret "$SIGNING_SECRET_ARN" >"$secrets/signing"
    "$command" host env --out "$REGISTRY_HOME/env/registry" --owner "$(stat -c %U "$REGISTRY_HOME")" \
        "$secrets/registry.json" "$secrets/signing"
}

# Each release has its own units.
run_current() {
    local command=$BASE/current/bin/quilt-registry
    "$command" host install --home "$REGISTRY_HOME"
    systemctl daemon-reload
    systemctl enable --now quilt-registry.socket
    systemctl enable quilt-registry.service
    if ! systemctl restart quilt-registry.service; then
        journalctl --unit quilt-registry.service --lines 20 --no-pager --output cat >&2 || true
        die "The service does not start. The last lines of its log are above."
    fi
    with_settings "$command" check --wait "$CHECK_WAIT" || die "The registry does not work. The lines above say what to do."
}

start_release() {
    local release
    release=$(prepared_release)
    with_settings "$release/bin/quilt-registry" migrate || die "The migration of the database failed. The running release stays."
    if [ -e "$BASE/next" ]; then
        # Installing a release twice keeps the one before it.
        [ ! -e "$BASE/current" ] || [ "$(version_of current)" = "$(version_of next)" ] ||
            point previous "$(readlink "$BASE/current")"
        mv -T "$BASE/next" "$BASE/current"
    fi
    run_current
}

# The previous release runs on this schema, too.
roll_back() {
    [ -e "$BASE/previous" ] || die "There is no previous release."
    point current "$(readlink "$BASE/previous")"
    run_current
}

[ -r "$HOST_ENV" ] || die "$HOST_ENV is missing."
. "$HOST_ENV"
# One command at a time, because install deletes releases.
exec 9<"$HOST_ENV"
flock 9

case ${1-} in
install) install_release ;;
configure) write_settings ;;
start) start_release ;;
rollback) roll_back ;;
*) die "usage: bootstrap.sh install | configure | start | rollback" ;;
esac
