#!/bin/sh
# Makes IMAGE, Debian 12 with Python, unless it is there: sh base.sh IMAGE
set -eu
podman image exists "$1" && exit 0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  bookworm "$folder/base.tar"
printf 'FROM scratch\nADD base.tar /\n' | buildah bud --isolation chroot --quiet --tag "$1" --file - "$folder"
