#!/bin/sh
@HEAD@
#
# The program and this folder's maps into the kernel, with bpftool, ip and tc alone. Exit status 0: the generation runs; 2: a step
# was refused, standard error says which, and what ran before runs on. May be repeated.
#
# PARTYWALL_BPF names the folder for what stays, on a BPF file system, without a dot in its path; /sys/fs/bpf/partywall if it does not.
set -u

GENERATION=@GENERATION@
OBJECT=@OBJECT@
UNDERLAY=@UNDERLAY@
PORT=@PORT@
ROUTER_MAC=@ROUTER_MAC@
# number:name:kind
DEVICES='@DEVICES@'
# name:type:key:value:entries:flags:count
MAPS='@MAPS@'

dir=$(cd "$(dirname "$0")" && pwd)
pins=${PARTYWALL_BPF:-/sys/fs/bpf/partywall}
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT

say() { printf 'load.sh: %s\n' "$*" >&2; }
refused() {
  say "$*"
  exit 2
}

case $pins in
  *.*) refused "PARTYWALL_BPF names $pins, and the names of pinned programs have no dots: name a folder whose path has none" ;;
esac
for tool in bpftool ip tc od awk; do
  command -v "$tool" >/dev/null || refused "$tool is not here"
done
mkdir -p "$pins" 2>/dev/null || refused "$pins cannot be made: is a BPF file system mounted there?"

# The kernel's number of device $1; fails if it is not there.
index_of() {
  number_and_name=$(ip -o link show dev "$1" 2>/dev/null) || return 1
  printf '%s\n' "${number_and_name%%:*}"
}

# Four bytes of a number, lowest first, as bpftool reads them.
word() {
  printf '%d %d %d %d' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255))
}

# Whether device $1 is a workload's veth whose other end is in another network namespace: frames go there without a queue between.
beyond() {
  case $1 in
    *:workload) ;;
    *) return 1 ;;
  esac
  peer=${1#*:}
  case $(ip -o -d link show dev "${peer%:*}") in
    *' link-netnsid '*' veth '*) return 0 ;;
    *) return 1 ;;
  esac
}

# A generation runs with the program that it was built for. Another program gets maps of its own, and replaces the one before it
# device by device; what it knew of connections ends with it.
program=$pins/program-$OBJECT
maps=$pins/maps
# Cut short between the two.
[ -e "$maps" ] || [ ! -e "$pins/maps-new" ] || mv "$pins/maps-new" "$maps"

# Sets `running` to the number and slot in cell $1.
running() {
  running=''
  at=0
  for byte in $(bpftool -j map lookup pinned "$1" key 0 0 0 0 | sed -n 's/.*"value":\[\([^]]*\)\].*/\1/p' | tr -d '"' | tr ',' ' '); do
    # The two highest bytes are never reached.
    [ "$at" -lt 48 ] && running=$((${running:-0} + (byte << at)))
    at=$((at + 8))
  done
  [ -n "$running" ] || refused 'the map cell cannot be read'
}

running=0
[ ! -e "$maps/cell" ] || running "$maps/cell"
number=$((running / 2 + 1))
slot=$((1 - running % 2))
[ "$running" -ne 0 ] || slot=0

fresh=''
if ! [ -e "$program/pw_workload" ] || ! [ -e "$maps/cell" ]; then
  fresh=yes
  maps=$pins/maps-new
  program=$pins/program-new
  rm -rf "$maps" "$program"
  bpftool prog loadall "$dir/partywall.bpf.o" "$program" type classifier pinmaps "$maps" || refused 'the program was not loaded'
fi

# Nobody may still be in the slot that is filled: the kernel waits for that when an outer map changes.
wait_for_packets() {
  rm -f "$pins/grace"
  bpftool map create "$pins/grace" type array key 4 value 4 entries 1 name pw_grace flags 0x1000 &&
    bpftool map update pinned "$maps/grace" key 0 0 0 0 value pinned "$pins/grace" && rm -f "$pins/grace"
}
staged=$pins/slot$slot
rm -rf "$staged"
mkdir -p "$staged"
wait_for_packets || refused 'the map grace'

# One image as commands for bpftool: 36 bytes of head, then keys and values.
fill() {
  [ "$5" -gt 0 ] || return 0
  od -An -v -tx1 "-w$(($2 + $3))" -j36 "-N$((($2 + $3) * $5))" "$4" |
    awk -v pin="$1" -v k="$2" '{ s = "map update pinned " pin " key hex"
      for (i = 1; i <= k; i++) s = s " " $i
      s = s " value hex"
      for (i = k + 1; i <= NF; i++) s = s " " $i
      print s }' >"$work/batch"
  bpftool batch file "$work/batch" >/dev/null
}

missing=''
for map in $MAPS; do
  IFS=: read -r name type key value entries flags count <<EOF
$map
EOF
  short=$(printf 'pw_%s' "$name" | cut -c1-15)
  bpftool map create "$staged/$name" type "$type" key "$key" value "$value" entries "$entries" name "$short" flags "$flags" ||
    refused "the map $name was not made"
  case $name in
    ifindexes | devices)
      for device in $DEVICES; do
        at=${device%%:*}
        dev=${device#*:}
        dev=${dev%:*}
        index=$(index_of "$dev") || {
          [ "$name" = devices ] || missing="$missing $dev"
          continue
        }
        # shellcheck disable=SC2046 # bytes apart
        if [ "$name" = ifindexes ]; then
          bpftool map update pinned "$staged/$name" key $(word "$index") value $(word "$at")
        else
          ! beyond "$device" || index=$((index | 1 << 31))
          bpftool map update pinned "$staged/$name" key $(word "$at") value $(word "$index")
        fi || refused "the map $name was not filled"
      done
      ;;
    hosts)
      # Sixteen bytes each, an IPv4 address in the first four.
      {
        ip -4 -o address show | awk '{ split($4, a, "[./]"); print a[1], a[2], a[3], a[4], "0 0 0 0 0 0 0 0 0 0 0 0" }'
        [ ! -e /proc/net/if_inet6 ] || awk '{ s = ""; for (i = 1; i < 32; i += 2) s = s " 0x" substr($1, i, 2); print s }' /proc/net/if_inet6
      } | sort -u | awk -v pin="$staged/$name" '{ print "map update pinned " pin " key " $0 " value 1 0 0 0" }' >"$work/batch"
      bpftool batch file "$work/batch" >/dev/null || refused 'the map hosts was not filled'
      ;;
    *) fill "$staged/$name" "$key" "$value" "$dir/maps/$name.img" "$count" || refused "the map $name was not filled" ;;
  esac
done

# The VXLAN device before the maps that name it.
if ! index_of pwvx >/dev/null; then
  ip link add name pwvx address "$ROUTER_MAC" type vxlan external dstport "$PORT" srcport 32768 60999 nolearning || refused 'the device pwvx was not made'
fi
ip link set dev pwvx mtu 65000 addrgenmode none || refused 'the device pwvx was not set up'
ip link set dev pwvx up || refused 'the device pwvx is not up'
index=$(index_of pwvx) || refused 'the device pwvx is not there'
# shellcheck disable=SC2046
bpftool map update pinned "$staged/devices" key 0 0 0 0 value $(word "$index") || refused 'the map devices was not filled'
# shellcheck disable=SC2046
bpftool map update pinned "$staged/ifindexes" key $(word "$index") value 0 0 0 0 || refused 'the map ifindexes was not filled'
# Where nothing may want IPsec of packets, the program puts them into VXLAN itself: it is told the underlay's device.
if index=$(index_of "$UNDERLAY") && [ -z "$(ip xfrm policy 2>/dev/null)" ]; then
  # shellcheck disable=SC2046
  bpftool map update pinned "$staged/devices" key 1 0 0 0 value $(word "$index") || refused 'the map devices was not filled'
  # shellcheck disable=SC2046
  bpftool map update pinned "$staged/ifindexes" key $(word "$index") value 1 0 0 0 || refused 'the map ifindexes was not filled'
fi

for map in $MAPS; do
  name=${map%%:*}
  bpftool map update pinned "$maps/$name" key "$slot" 0 0 0 value pinned "$staged/$name" || refused "slot $slot of $name"
done
# What the slot holds, for those who ask later.
mkdir "$staged/generation-$GENERATION-$number" || refused "$staged cannot be written"

# One write, which each packet reads once.
flip() {
  value=$((number * 2 + slot))
  # shellcheck disable=SC2046
  bpftool map update pinned "$maps/cell" key 0 0 0 0 value $(word "$value") $(word $((value >> 32))) || refused 'the flip'
}

attach() {
  tc qdisc show dev "$1" | grep -q 'qdisc clsact' || tc qdisc add dev "$1" clsact || refused "clsact on $1"
  tc filter replace dev "$1" ingress pref 1 handle 1 protocol all bpf direct-action object-pinned "$program/$2" ||
    refused "the program on $1"
  # `partywall apply` attaches by links, which the filter stands for now.
  rm -f "$pins/links/$(index_of "$1")"-*
}
# A program that nothing leads to yet gets its generation first; where one runs, new devices are closed until the flip.
[ -z "$fresh" ] || flip
attach pwvx pw_fabric
index_of "$UNDERLAY" >/dev/null || refused "the underlay device $UNDERLAY is not there"
attach "$UNDERLAY" pw_underlay
for device in $DEVICES; do
  dev=${device#*:}
  kind=${dev##*:}
  dev=${dev%:*}
  index_of "$dev" >/dev/null || continue
  if [ "$kind" = workload ]; then
    attach "$dev" pw_workload
    ip link set dev "$dev" address "$ROUTER_MAC" addrgenmode none || refused "the device $dev"
    ip address replace 169.254.1.1/32 dev "$dev" scope link || refused "the address of $dev"
    ip address replace fe80::1/64 dev "$dev" nodad || refused "the address of $dev"
  else
    attach "$dev" pw_outside
    # So that the kernel tells the program which addresses are its own; it never gets to forward anything.
    for family in ipv4 ipv6; do
      [ ! -e "/proc/sys/net/$family/conf/$dev/forwarding" ] || printf '1' >"/proc/sys/net/$family/conf/$dev/forwarding" ||
        refused "forwarding of $dev"
    done
  fi
done

if [ -n "$fresh" ]; then
  rm -rf "$pins"/program-*[!w]
  rm -rf "$pins/maps"
  mv "$maps" "$pins/maps" || refused "$pins cannot be written"
  mv "$program" "$pins/program-$OBJECT" || refused "$pins cannot be written"
  maps=$pins/maps
else
  flip
fi

# The slot before.
old=$pins/slot$((1 - slot))
if [ -e "$old" ] && wait_for_packets; then
  for map in $MAPS; do
    bpftool map delete pinned "$maps/${map%%:*}" key "$((1 - slot))" 0 0 0 2>/dev/null || :
  done
  rm -rf "$old"
fi

# Devices that left. Those of workloads stay closed for as long as they are there.
kept=" pwvx $UNDERLAY "
for device in $DEVICES; do
  dev=${device#*:}
  kept="$kept${dev%:*} "
done
indexes=' '
listed=$(ip -o link show) || refused 'ip does not tell which devices there are'
while read -r index dev _; do
  index=${index%:}
  dev=${dev%:}
  # A link to another device is told as NAME@OTHER, and a name may hold an @ of its own.
  case $kept in
    *" $dev "*) ;;
    *) dev=${dev%@*} ;;
  esac
  case $kept in
    *" $dev "*) ;;
    *)
      indexes="$indexes$index "
      case $(tc filter show dev "$dev" ingress pref 1 2>/dev/null) in
        *pw_outside* | *pw_underlay*) tc filter delete dev "$dev" ingress pref 1 handle 1 bpf || say "the program stays on $dev" ;;
      esac
      ;;
  esac
done <<EOF
$listed
EOF
for link in "$pins"/links/*; do
  index=${link##*/}
  index=${index%%-*}
  case $link:$indexes in
    *-pw_workload:*" $index "*) ;;
    *) rm -f "$link" ;;
  esac
done
[ -z "$missing" ] || say "not there, and left out:$missing"
exit 0
