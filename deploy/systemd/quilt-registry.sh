#!/bin/sh
# Runs the current release with this host's settings: quilt-registry COMMAND
set -e
settings=${REGISTRY_HOME:-/home/ec2-user}/env/registry
if ! [ -r "$settings" ]; then
    echo "quilt-registry: the settings in $settings are missing, or $(id -un) may not read them." >&2
    exit 1
fi
set -a
# shellcheck source=/dev/null
. "$settings"
set +a
exec /opt/quilt-registry/current/bin/quilt-registry "$@"
