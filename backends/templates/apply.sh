#!/bin/sh
@HEAD@
# Needs root, nft, ip and bridge. May be run again at any time, also in a network namespace: it finishes what a call that
# was cut short began, and puts back what is missing. Devices that are not there are left out and named; run it again
# when they are. Exit status 2: the kernel refused a step, and what ran before runs on.
set -eu

SUFFIX=@SUFFIX@
DEVICES='@DEVICES@'
WORKLOADS='@WORKLOADS@'
OUTSIDE='@OUTSIDE@'
# Connections that the bounds of all tenants here allow together.
CONNECTIONS=@CONNECTIONS@
newline='
'

case $0 in
*/*) cd "${0%/*}" ;;
esac

fail() {
    printf '%s\n' "apply.sh: $1" >&2
    exit 2
}

# Sets `listing` to what stands in table $1 partywall, less the elements; empty if there is no such table. Asked for one
# table or chain, nft fetches every element first; asked for the ruleset without them, it does not. Should it be unable to
# print what others have there, it is asked for ours alone.
listed() {
    if ! listing=$newline$(nft -t list ruleset "$1" 2>/dev/null); then
        listing=$newline$(nft list tables) || return 1
        case $listing$newline in
        *"${newline}table $1 partywall$newline"*) ;;
        *) listing='' && return 0 ;;
        esac
        listing=$newline$(nft -t list table "$1" partywall) || return 1
    fi
    case $listing in
    *"${newline}table $1 partywall {"*)
        listing=${listing#*"${newline}table $1 partywall {"}
        listing=${listing%%"$newline}"*}
        ;;
    *) listing='' ;;
    esac
}

# Sets `slot` and `suffix` to those of the running generation; empty before the first.
running() {
    slot='' suffix=''
    listed inet || fail 'nft does not tell what is there; nothing has changed'
    rule=${listing#*"$newline	chain flip_raw {"}
    rule=${rule%%\}*}
    case $rule in
    *'meta mark set 0x00000000'*) slot=0 ;;
    *'meta mark set 0x00000001'*) slot=1 ;;
    *) return 0 ;;
    esac
    rest=$(nft list map inet partywall slot_decide)
    rest=${rest#*"0x0000000$slot : goto decide_"}
    suffix=${rest%%[!0-9a-f]*}
}

# Writes a setting of the kernel's, if it is there and differs.
setting() {
    [ -e "/proc/sys/net/$1" ] || return 0
    read -r now <"/proc/sys/net/$1" || now=''
    [ "$now" = "$2" ] || printf '%s\n' "$2" >"/proc/sys/net/$1"
}

# The kernel's own bound on connections must not come before those of the tenants. Only the machine's first namespace may
# set it.
room() {
    file=/proc/sys/net/netfilter/nf_conntrack_max
    [ -w "$file" ] || return 0
    read -r now <"$file"
    [ "$now" -ge "$CONNECTIONS" ] || { printf '%s\n' "$CONNECTIONS" >"$file"; } 2>/dev/null || :
}

settings() {
    setting ipv4/conf/all/rp_filter 0
    setting ipv4/conf/all/send_redirects 0
    # A neighbour that is asked alone is answered for only then, and only where there is an entry for it.
    setting ipv6/conf/all/proxy_ndp 1
    # What the kernel answers to a tenant's packet goes by that tenant's table.
    setting ipv4/fwmark_reflect 1
    setting ipv6/fwmark_reflect 1
    for dev in $DEVICES $WORKLOADS $OUTSIDE; do
        setting "ipv4/conf/$dev/rp_filter" 0
        setting "ipv4/conf/$dev/send_redirects" 0
        setting "ipv6/conf/$dev/accept_ra" 0
    done
    # Whose source is whose is said in `decide`: the kernel need not look up the way back as well.
    for dev in $DEVICES $WORKLOADS; do
        setting "ipv4/conf/$dev/accept_local" 1
    done
    for dev in $WORKLOADS; do
        setting "ipv4/conf/$dev/proxy_arp" 1
        # No answers for the node's other addresses.
        setting "ipv4/conf/$dev/arp_ignore" 1
        setting "ipv4/neigh/$dev/proxy_delay" 0
        setting "ipv6/conf/$dev/proxy_ndp" 1
        setting "ipv6/neigh/$dev/proxy_delay" 0
    done
    setting ipv4/ip_forward 1
    setting ipv6/conf/all/forwarding 1
}

# Sets `state` to what `ip` says of device $1; fails if it is not there.
link() {
    case $known in
    *"$newline$1 "*) ;;
    *) return 1 ;;
    esac
    state=${known#*"$newline$1 "}
    state=${state%%"$newline"*}
}

# Sets `absent` to the devices that are not there, `down` to those that take no routes now.
devices() {
    known=$newline
    while read -r _ name rest; do
        name=${name%:}
        # A link to another device is told as NAME@OTHER, and a name may hold an @ of its own.
        known="$known$name $rest$newline${name%@*} $rest$newline"
    done <<EOF
$(ip -o link show)
EOF
    absent='' down=''
    for dev in $WORKLOADS $OUTSIDE; do
        if ! link "$dev"; then
            absent="$absent $dev" down="$down $dev"
            printf '%s\n' "apply.sh: device $dev is not there: left out; run this again when it is" >&2
            continue
        fi
        case $state in
        *[,\<]UP[,\>]*) ;;
        *)
            down="$down $dev"
            printf '%s\n' "apply.sh: device $dev is down: its routes are left out; run this again when it is up" >&2
            ;;
        esac
    done
}

# Whether line $1 is about one of the devices in $2.
about() {
    for dev in $2; do
        case "$1 " in
        *" dev $dev "*) return 0 ;;
        esac
    done
    return 1
}

# Names of the VXLAN devices of partywall's group, between spaces.
vxlans() {
    have=' '
    while read -r _ name _; do
        name=${name%:}
        have="$have${name%%@*} "
    done <<EOF
$(ip -o link show group 20568 type vxlan)
EOF
}

links() {
    vxlans
    while IFS= read -r line; do
        case $line in
        '#'*) continue ;;
        'link add name '*)
            name=${line#link add name }
            case $have in
            *" ${name%% *} "*) continue ;;
            esac
            ;;
        'link set dev '*' address '*)
            # Setting the MAC that a device has would make the kernel forget its neighbours.
            name=${line#link set dev }
            group=${line#* group }
            if link "${name%% *}"; then
                case $state in
                *" group ${group%% *} "*" link/ether ${line#* address } "*) continue ;;
                esac
            fi
            ;;
        esac
        about "$line" "$absent" || printf '%s\n' "$line"
    done <links.batch | ip -batch - && bridge -batch fdb.batch
}

# The lines of file $1 with the numbers of slot $2, without the rules for the tables in $3.
slotted() {
    while IFS= read -r line; do
        case $line in
        '#'*) continue ;;
        esac
        case $line in
        'rule add preference '*)
            rest=${line#rule add preference }
            case $ways in
            *" ${rest%% *} "*) ;;
            *) printf '%s\n' "$line" ;;
            esac
            continue
            ;;
        esac
        about "$line" "$down" && continue
        rest=${line#* table }
        number=$((${rest%% *} + $2))
        case $line in
        'rule '*)
            case $3 in
            *" $number "*) continue ;;
            esac
            ;;
        esac
        rest=${rest#* }
        case $rest in
        'fwmark '*) rest="fwmark $number/${rest#*/}" ;;
        esac
        printf '%s table %s %s\n' "${line%% table *}" "$number" "$rest"
    done <"$1"
}

# Sets `tables` to those to which rules of ours lead, `ways` to the preferences of those that lead to other rules; between spaces.
ruled() {
    tables=' ' ways=' '
    while read -r preference _ _ _ mark how table _ protocol _; do
        case $how in
        lookup)
            if [ "$protocol" = 87 ] && [ $((${mark%%/*})) = "$table" ]; then
                tables="$tables$table "
            fi
            ;;
        goto) ways="$ways${preference%:} " ;;
        esac
        [ "$mark $how" != 'proto 87' ] || ways="$ways${preference%:} "
    done <<EOF
$(ip "$1" rule show)
EOF
}

routes() {
    ruled -4
    slotted routes.batch "$1" "$tables" | ip -batch - || return 1
    ruled -6
    slotted routes6.batch "$1" "$tables" | ip -6 -batch -
}

# Takes the rules and tables of slot $1 away; also a table to which no rule leads.
clear_slot() {
    for family in -4 -6; do
        {
            ip "$family" rule show | while read -r preference _ _ _ mark how table _ protocol _; do
                if [ "$how $protocol" = 'lookup 87' ] && [ $((table & 1)) -eq "$1" ]; then
                    printf 'rule delete preference %s fwmark %s table %s\n' "${preference%:}" "$mark" "$table"
                fi
            done
            last=''
            ip "$family" route show table all protocol 87 | while read -r route; do
                table=${route#*" table "}
                table=${table%% *}
                [ "$table" != "$last" ] || continue
                last=$table
                case $table in
                '' | *[!0-9]*) ;;
                *[13579]) [ "$1" -eq 0 ] || printf 'route flush table %s\n' "$table" ;;
                *) [ "$1" -eq 1 ] || printf 'route flush table %s\n' "$table" ;;
                esac
            done
        } | ip "$family" -force -batch - 2>/dev/null || :
    done
}

# Takes the objects of all generations but the one with suffix $1 away; nothing may lead to the slots $2. With `rules` as $3
# also the counters of rules that this generation does not have.
sweep() {
    kept=' '
    while read -r _ kind _ _ name _; do
        [ "$kind" = counter ] || break
        kept="$kept$name "
    done <<EOF
$(while IFS= read -r line; do
        case $line in
        'add counter '*) printf '%s\n' "$line" ;;
        'table '*) break ;;
        esac
    done <stage.nft)
EOF
    flushes='' maps='' chains='' counters='' elements=''
    for family in inet arp; do
        listed "$family" || return 1
        while read -r kind name _; do
            case $kind:$name in
            map:slot_*)
                held=$(nft list map "$family" partywall "$name")
                for dead in $2; do
                    case $held in
                    *"0x0000000$dead : "*)
                        elements="${elements}delete element $family partywall $name { $dead }$newline"
                        ;;
                    esac
                done
                ;;
            chain:flip*)
                [ "$1" != none ] || flushes="${flushes}flush chain $family partywall $name$newline"
                ;;
            *:*_"$1") ;;
            chain:*_[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f])
                flushes="${flushes}flush chain $family partywall $name$newline"
                chains="${chains}delete chain $family partywall $name$newline"
                ;;
            map:*_[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f] | \
                set:*_[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f])
                maps="${maps}delete $kind $family partywall $name$newline"
                ;;
            counter:rule_*)
                case $3$kept in
                keep* | *" $name "*) ;;
                *) counters="${counters}delete counter $family partywall $name$newline" ;;
                esac
                ;;
            esac
        done <<EOF
$listing
EOF
    done
    [ -z "$elements$flushes$maps$chains$counters" ] ||
        printf '%s' "$elements$flushes$maps$chains$counters" | nft -f -
}

# Takes devices away that no generation has any more.
sweep_devices() {
    vxlans
    for dev in $have; do
        case " $DEVICES " in
        *" $dev "*) ;;
        *) ip link delete dev "$dev" ;;
        esac
    done
}

for tool in nft ip bridge; do
    command -v "$tool" >/dev/null 2>&1 || fail "$tool is not installed"
done
devices
running
nft -f base.nft || fail 'base.nft was refused; nothing has changed'
links || fail 'devices or neighbours were refused; the running generation goes on'
settings

if [ "$suffix" = "$SUFFIX" ]; then
    routes "$slot" || fail 'routes were refused'
    nft -D slot="$slot" -f commit.nft || fail 'commit.nft was refused; the running generation goes on'
else
    case $slot in
    0) next=1 ;;
    *) next=0 ;;
    esac

    # What an attempt that was cut short may have left.
    case $suffix in
    '') sweep none '0 1' keep ;;
    *) sweep "$suffix" "$next" keep ;;
    esac || fail 'leftovers could not be taken away; the running generation goes on'
    clear_slot "$next"

    if ! routes "$next"; then
        clear_slot "$next"
        fail 'routes were refused; the running generation goes on'
    fi
    if ! nft -D slot="$next" -f stage.nft; then
        clear_slot "$next"
        fail 'stage.nft was refused; the running generation goes on'
    fi
    if ! nft -D slot="$next" -f commit.nft; then
        nft -D slot="$next" -f sweep.nft || :
        clear_slot "$next"
        fail 'commit.nft was refused; the running generation goes on'
    fi
    slot=$next
fi

room

sweep "$SUFFIX" "$((1 - slot))" rules || fail 'the new generation runs; the old one could not be taken away'
clear_slot "$((1 - slot))"
sweep_devices
