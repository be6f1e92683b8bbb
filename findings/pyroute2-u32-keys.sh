#!/usr/bin/env bash
# pyroute2 reads the keys of a u32 filter of Linux traffic control one word off: what a filter matches is not what it says.
#
# Versions: pyroute2 0.9.7 (a Linux kernel with cls_u32; root, for a network namespace of its own; iproute2 as the other reader).
# Behaviour: struct tc_u32_sel ends with `short hoff; __be32 hmask` before its keys; of what `tc filter show` prints as
#   `match 0a000001/ffffffff at 12`, get_filters() gives key_mask = hmask (0), key_val = the mask, key_off = the value and
#   key_offmask = the offset. Filters are written rightly, so what was written cannot be compared with what is read.
# Seen: for 10.0.0.1/32 as the source, key_val 0xffffffff, key_off 0x0100000a, key_offmask 12, while `tc` reads the same
#   filter rightly.
# Fails if any of this changes.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 2; }
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check pyroute2==0.9.7
space="u32-keys-$$"
ip netns add "$space"
trap 'ip netns del "$space"' EXIT
within() { ip netns exec "$space" "$@"; }
within ip link add v1 type veth peer name v2
within ip link set v1 up
within tc qdisc add dev v1 root handle 1: htb
within tc class add dev v1 parent 1: classid 1:10 htb rate 1mbit
within tc filter add dev v1 parent 1: protocol ip u32 match ip src 10.0.0.1/32 flowid 1:10
within tc filter show dev v1 | grep -q 'match 0a000001/ffffffff at 12' && echo "tc: match 0a000001/ffffffff at 12"
env/bin/python - "$space" <<'PYTHON'
import sys

from pyroute2 import NetNS

with NetNS(sys.argv[1]) as net:
    index = net.link_lookup(ifname="v1")[0]
    filters = net.get_filters(index=index, parent=0x10000)
key = dict(dict(filters[-1]["attrs"])["TCA_OPTIONS"]["attrs"])["TCA_U32_SEL"]["keys"][0]
told = {name: key[name] for name in ("key_mask", "key_val", "key_off", "key_offmask")}
print("pyroute2:", {name: hex(value & 0xFFFFFFFF) for name, value in told.items()})
assert told["key_mask"] == 0, told
assert told["key_val"] & 0xFFFFFFFF == 0xFFFFFFFF, told
assert told["key_off"] & 0xFFFFFFFF == 0x0100000A, told
assert told["key_offmask"] == 12, told
PYTHON
