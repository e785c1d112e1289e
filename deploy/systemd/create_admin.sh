#!/bin/sh
# Makes an admin: asks for user name, e-mail and password, or takes the options of `quilt-registry create-admin`.
set -e
REGISTRY_HOME=$(dirname "$(readlink -f "$0")")
export REGISTRY_HOME
exec /usr/local/bin/quilt-registry create-admin "$@"
