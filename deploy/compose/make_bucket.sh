#!/bin/sh
# Makes the bucket of compose.yaml in SeaweedFS. Each object is written through to the disk before it counts.
set -eu
echo 's3.bucket.list' | weed shell | grep -q '^ *packages' || echo 's3.bucket.create -name packages' | weed shell
echo 'fs.configure -locationPrefix=/buckets/packages -fsync -apply' | weed shell
echo 's3.bucket.list' | weed shell | grep '^ *packages'
