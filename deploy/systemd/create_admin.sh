#!/bin/sh
# Creates an admin. Prompts for username, email address and password, or takes the options of `quilt-registry create-admin`.
set -e
REGISTRY_HOME=$(dirname "$(readlink -f "$0")")
export REGISTRY_HOME
exec /usr/local/bin/quilt-registry create-admin "$@"
