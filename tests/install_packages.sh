#!/usr/bin/env bash
# Installs the system packages that the tests need, on Debian as root. What is missing otherwise is skipped by the tests.
set -euo pipefail

# The S3-compatible server; proxies; what boots a host and runs an image; PostgreSQL of the distribution; a
# browser.
packages=(radosgw ceph-mon ceph-osd ceph-common nginx-light caddy debootstrap systemd systemd-container podman crun
    iproute2 faketime openssl postgresql chromium fonts-liberation)
# It installs PostgreSQL 14. Packages of other sources contain it, and conflict with Debian's.
command -v npm >/dev/null || packages+=(npm)

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Only root on Debian can install these packages: ${packages[*]}" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# PostgreSQL's programs are needed, and no server that runs by itself.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] ||
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
install=(apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold install -y -qq --no-install-recommends)
"${install[@]}" "${packages[@]}" >/dev/null 2>&1 || { apt-get update -qq && "${install[@]}" "${packages[@]}" >/dev/null; }
