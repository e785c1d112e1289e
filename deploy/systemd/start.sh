#!/bin/sh
# Starts the registry, or restarts it with changed settings. Clients wait meanwhile.
set -e

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

responds() {
    [ "$(curl --silent --max-time 5 http://127.0.0.1:5000/healthcheck)" = ok ]
}

as_root systemctl start quilt-registry.socket
if ! as_root systemctl restart quilt-registry.service; then
    echo "start.sh: the registry does not start. See: journalctl --unit quilt-registry --lines 20" >&2
    exit 1
fi
left=30
until responds; do
    left=$((left - 1))
    if [ "$left" = 0 ]; then
        echo "start.sh: the registry runs but does not respond. See: quilt-registry check" >&2
        exit 1
    fi
    sleep 1
done
systemctl status --no-pager --lines 0 quilt-registry.service
