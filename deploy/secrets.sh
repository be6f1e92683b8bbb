#!/bin/sh
# What the coordinator and the policy engine of compose.yaml know each other by: a token and a certificate, in FOLDER.
# What is there stays. The folder can be entered by its owner alone; in a container a secret is read by user 10001,
# to whom the files do not belong, so each file by itself may be read by all.
set -eu
folder=${1:-"$(dirname "$0")/secrets"}
mkdir -p -m 0700 "$folder"
cd "$folder"
[ -e policy-token ] || openssl rand -hex 32 >policy-token
[ -e policy-key ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 825 \
  -subj /CN=policy-engine -addext subjectAltName=DNS:policy-engine,DNS:localhost,IP:127.0.0.1 \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,digitalSignature,keyCertSign \
  -keyout policy-key -out policy-certificate 2>/dev/null
: >>client-1-join && : >>client-2-join # a compose file names them before there is a coordinator to make them
chmod 0644 ./*
