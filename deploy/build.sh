#!/bin/sh
# Builds hanse/coordinator, hanse/node and hanse/policy, with this release as their tag. docs/containers.md
#   BASE    the image that they are built on
#   BUILD   what builds, such as "docker build"
#   PYTHON  of the base's version, which collects the wheels
set -eu
cd "$(dirname "$0")/.."
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
release=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/hanse/__init__.py)
"${PYTHON:-python3}" -m pip wheel --quiet --disable-pip-version-check --constraint constraints.txt --wheel-dir "$wheels" \
  '.[coordinator,policy,oidc,postgres,node,images,xgboost]'
for target in coordinator node policy; do
  ${BUILD:-podman build} ${BASE:+--build-arg "BASE=$BASE"} --file deploy/Containerfile --target "$target" \
    --tag "hanse/$target:$release" "$wheels"
done
