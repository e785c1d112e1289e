#!/bin/sh
# Creates the secrets of compose.yaml beside this script. Existing ones stay. Only you can open the directory. The files
# in it are world-readable, because the users of the containers, which do not exist on this host, must read them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

random() {
    od -An -N 32 -tx1 /dev/urandom | tr -d ' \n'
}

keep() {
    [ -e "$1" ] || { cat >"$1.new" && mv "$1.new" "$1"; }
}

mkdir -p "$here/secrets"
chmod 0700 "$here/secrets"
cd "$here/secrets"
umask 0022
random | keep database_password
random | keep store_secret
random | keep secret_key
printf '' | keep mail_password
echo "postgresql://registry:$(cat database_password)@db:5432/registry" | keep database_url
keep store_keys <<EOF
{"identities": [{"name": "registry", "actions": ["Admin", "Read", "Write", "List"],
  "credentials": [{"accessKey": "registry", "secretKey": "$(cat store_secret)"}]}]}
EOF
echo "The secrets are in $here/secrets. Keep a copy in a safe place."
