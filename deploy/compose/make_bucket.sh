#!/bin/sh
# Creates the bucket of compose.yaml in SeaweedFS, which syncs each object to disk before it acknowledges it.
set -eu
echo 's3.bucket.list' | weed shell | grep -q '^ *packages' || echo 's3.bucket.create -name packages' | weed shell
echo 'fs.configure -locationPrefix=/buckets/packages -fsync -apply' | weed shell
echo 's3.bucket.list' | weed shell | grep '^ *packages'
