#!/bin/sh
@HEAD@
# Needs root, nft, ip and bridge. May be run again at any time, also in a network namespace: it finishes what a call that
# was cut short began, and puts back what is missing. Devices that are not there are left out and named; run it again
# when they are. Exit status 2: the kernel refused a step, and what ran before runs on.
set -euf

SUFFIX=@SUFFIX@
DEVICES='@DEVICES@'
WORKLOADS='@WORKLOADS@'
OUTSIDE='@OUTSIDE@'
# Whether connections go through this node that may go on through another.
GATEWAY=@GATEWAY@
# Connections that the bounds of all tenants here allow together.
CONNECTIONS=@CONNECTIONS@
# The counters of this generation's rules.
COUNTERS='@COUNTERS@'
newline='
'
blanks=$IFS

# A pipe's end in the place of one that is closed would be read or written by what it is not for.
[ -e /proc/self/fd/0 ] || exec </dev/null
[ -e /proc/self/fd/1 ] || exec >/dev/null
[ -e /proc/self/fd/2 ] || exec 2>/dev/null
# A caller's lock is our standard input, which those that read from a pipe do not have: so that it outlives a killed call as long as
# they do.
exec 3<&0

case $0 in
*/*) CDPATH='' cd -- "${0%/*}" ;;
esac

# Nobody need listen.
say() {
    printf '%s\n' "apply.sh: $1" >&2 || :
}

fail() {
    say "$1"
    exit 2
}

# Sets `listing` to what nft has, less the elements: asked for one table or chain, it fetches every element first; asked
# for the ruleset without them, it does not. Should it be unable to print what others have there, it is asked for ours alone.
listed() {
    if ! listing=$(nft -t list ruleset 2>/dev/null); then
        tables=$newline$(nft list tables)$newline || return 1
        listing=''
        for family in inet arp; do
            case $tables in
            *"${newline}table $family partywall$newline"*)
                listing=$listing$newline$(nft -t list table "$family" partywall) || return 1
                ;;
            esac
        done
    fi
    # Taken apart by lines: what a pattern takes off the front of a long text, the shell looks for from every place on.
    slot='' suffix='' objects='' leads='' table='' chain=''
    IFS=$newline
    for line in $listing; do
        case $table$line in
        'table inet partywall {') table=inet ;;
        'table arp partywall {') table=arp ;;
        inet'}' | arp'}') table='' ;;
        inet'	chain '* | arp'	chain '* | inet'	map '* | arp'	map '* | inet'	set '* | arp'	set '*)
            line=${line#?}
            kind=${line%% *}
            chain=${line#* }
            chain=${chain%% *}
            case $kind:$chain in
            *_[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f] | chain:flip*)
                objects="$objects $table:$kind:$chain"
                ;;
            map:slot_*) leads="$leads $table:$chain" ;;
            esac
            ;;
        inet'		meta mark set 0x0000000'[01]' goto raw_'*)
            if [ "$chain" = flip_raw ]; then
                suffix=${line##*_}
                slot=${line#*0x0000000}
                slot=${slot%% *}
            fi
            ;;
        esac
    done
    IFS=$blanks
}

# Whether there are objects of generations other than the one with suffix $1.
others() {
    for object in $objects; do
        case $object in
        *_"$1" | *:chain:flip*) ;;
        *) return 0 ;;
        esac
    done
    return 1
}

# Prints what deletes the objects of all generations but the one with suffix $1.
deletions() {
    for object in $objects; do
        name=${object##*:}
        table=${object%%:*}
        case $object in
        *:chain:flip*) [ "$1" != none ] || printf 'flush chain %s partywall %s\n' "$table" "$name" ;;
        *_"$1") ;;
        *:chain:*) printf 'flush chain %s partywall %s\n' "$table" "$name" ;;
        esac
    done
    for kind in map set chain; do
        for object in $objects; do
            case $object in
            *:chain:flip* | *_"$1") ;;
            *:"$kind":*) printf 'delete %s %s partywall %s\n' "$kind" "${object%%:*}" "${object##*:}" ;;
            esac
        done
    done
}

# Sets `kept` to the name of a variable for what ends as $1 does: a hundred thousand names in one text take minutes to look
# through.
kept() {
    kept=${1#"${1%???}"}
    case $kept in
    *[!0-9A-Za-z_]*) kept=kept_ ;;
    *) kept=kept_$kept ;;
    esac
}

# Prints what deletes the counters of rules that this generation does not have.
uncounted() {
    case $listing in
    *"	counter rule_"*) ;;
    *) return 0 ;;
    esac
    for name in $COUNTERS; do
        kept "$name"
        eval "$kept=\"\${$kept-} $name \""
    done
    table=''
    IFS=$newline
    for line in $listing; do
        case $table$line in
        'table inet partywall {') table=inet ;;
        inet'}') break ;;
        inet'	counter rule_'*)
            name=${line#?counter }
            name=${name%% *}
            kept "$name"
            eval "kept=\${$kept-}"
            case $kept in
            *" $name "*) ;;
            *) printf 'delete counter inet partywall %s\n' "$name" ;;
            esac
            ;;
        esac
    done
    IFS=$blanks
}

# Takes the objects that are listed of all generations but the one with suffix $1 away; nothing may lead to the slots $2. With
# `rules` as $3 also the counters of rules that this generation does not have. Sets `swept` to what that took.
sweep() {
    swept=''
    for lead in $leads; do
        held=$(nft list map "${lead%%:*}" partywall "${lead#*:}") || return 1
        for dead in $2; do
            case $held in
            *"0x0000000$dead : "*)
                swept="${swept}delete element ${lead%%:*} partywall ${lead#*:} { $dead }$newline"
                ;;
            esac
        done
    done
    swept=$swept$(
        deletions "$1"
        [ "$3" != rules ] || uncounted
    )
    [ -z "$swept" ] || printf '%s\n' "$swept" | nft -f -
}

# The same after the flip from slot $1, without asking: the generation there was whole, and is as it was listed.
sweep_whole() {
    {
        for lead in $leads; do
            printf 'delete element %s partywall %s { %s }\n' "${lead%%:*}" "${lead#*:}" "$1"
        done
        deletions "$SUFFIX"
        uncounted
    } | nft -f - 2>/dev/null
}

# Writes a setting of the kernel's, if it is there. Where none may be written it will do if it has the value.
setting() {
    file=/proc/sys/net/$1
    [ -e "$file" ] || return 0
    # A shell that reads byte by byte gets the first digit alone.
    { read -r now <"$file" && [ "$now" = "$2" ]; } ||
        { printf '%s\n' "$2" >"$file"; } 2>/dev/null || [ "$(cat "$file")" = "$2" ] && return 0
    now="$file cannot be written, and should be $2"
    [ -z "${next-}" ] || back "$now"
    fail "$now"
}

# Raises a setting of the kernel's to $2, where it is there, lower and may be written.
least() {
    file=/proc/sys/net/$1
    [ -w "$file" ] || return 0
    # A shell that reads byte by byte gets the first digit alone.
    now=$(cat "$file") || return 0
    [ "$now" -ge "$2" ] || { printf '%s\n' "$2" >"$file"; } 2>/dev/null || :
}

# What the kernel has for all tenants together must not be full before what each may have of it. Only the machine's first namespace
# may set the bound on connections.
room() {
    least netfilter/nf_conntrack_max "$CONNECTIONS"
    # Bytes of fragments that wait for others.
    least ipv4/ipfrag_high_thresh 67108864
    least netfilter/nf_conntrack_frag6_high_thresh 67108864
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
    # Seconds for which they wait, so that packets of which the rest never comes leave room. And nobody is told apart from another by the
    # address alone.
    setting ipv4/ipfrag_time 3
    setting ipv4/ipfrag_max_dist 0
    setting netfilter/nf_conntrack_frag6_timeout 3
    # An instance that comes back has missed a part of the connections it knows, and would hold their windows against them.
    [ "$GATEWAY" = no ] || setting netfilter/nf_conntrack_tcp_be_liberal 1
    setting ipv4/ip_forward 1
    setting ipv6/conf/all/forwarding 1
}

# Sets `seen4` and `seen6` to the rules there are and the routes of ours; of the devices there are `vxlans` to those of partywall's
# group, `states` to a line of name, group and MAC for each of the others that this generation names.
look() {
    seen4=$(ip -o -d -batch - <<EOF
link show
rule show
route show table all protocol 87
EOF
    ) && seen6=$(ip -6 -o -batch - <<EOF
rule show
route show table all protocol 87
EOF
    ) || return 1
    vxlans=' ' states=$newline up=' '
    IFS=$newline
    for line in $seen4; do
        case $line in
        [0-9]*': '*': <'*) ;;
        [0-9]*:'	'*) break ;;
        # Of a device's alias, which may have lines.
        *) continue ;;
        esac
        name=${line#*: }
        name=${name%%: <*}
        group=${line#* group }
        group=${group%% *}
        case $group:$line in
        20568:*' vxlan id '*) vxlans="$vxlans${name%%@*} " ;;
        esac
        # A link to another device is told as NAME@OTHER, and a name may hold an @ of its own.
        for name in "$name" "${name%@*}"; do
            case " $WORKLOADS $OUTSIDE " in
            *" $name "*)
                mac=${line#* link/ether }
                states="$states$name $group ${mac%% *}$newline"
                case $line in
                *[,\<]UP[,\>]*) up="$up$name " ;;
                esac
                ;;
            esac
        done
    done
    IFS=$blanks
}

# Sets `absent` to the devices that are not there, `down` to those that take no routes now, `bare` to those without IPv6.
devices() {
    absent='' down=''
    for dev in $WORKLOADS $OUTSIDE; do
        case $states in
        *"$newline$dev "*) ;;
        *)
            absent="$absent $dev" down="$down $dev"
            say "device $dev is not there: left out; run this again when it is"
            continue
            ;;
        esac
        case $up in
        *" $dev "*) ;;
        *)
            down="$down $dev"
            say "device $dev is down: its routes are left out; run this again when it is up"
            ;;
        esac
    done
    bare=''
    for dev in $DEVICES $WORKLOADS $OUTSIDE; do
        case "$absent " in
        *" $dev "*) continue ;;
        esac
        has6 "$dev" || bare="$bare $dev"
    done
    for dev in $bare; do
        wanted6 "$dev" || continue
        say "device $dev has no IPv6 (an MTU below 1280, or net.ipv6.conf.$dev.disable_ipv6): left out; run this again when it has"
    done
}

# Whether device $1 has IPv6, or will when it is made.
has6() {
    for place in "$1" default; do
        off=''
        if { read -r off <"/proc/sys/net/ipv6/conf/$place/disable_ipv6" || [ -n "$off" ]; } 2>/dev/null; then
            [ "$off" = 0 ]
            return
        fi
        case " $DEVICES " in
        *" $1 "*) ;;
        *) return 1 ;;
        esac
    done
    return 1
}

# Whether anything is routed to device $1 by IPv6.
wanted6() {
    while IFS= read -r line; do
        ! about "$line" "$1" || return 0
    done <routes6.batch
    return 1
}

# Whether line $1 gives a device an IPv6 address or neighbour.
six() {
    rest=${1#address replace }
    rest=${rest#neighbour replace }
    [ "$rest" != "$1" ] || return 1
    rest=${rest#proxy }
    case ${rest%% *} in
    *:*) return 0 ;;
    esac
    return 1
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

# The lines of links.batch for what is not yet so.
links() {
    while IFS= read -r line; do
        case $line in
        '#'*) continue ;;
        'link add name '*)
            name=${line#link add name }
            case $vxlans in
            *" ${name%% *} "*) continue ;;
            esac
            ;;
        'link set dev '*' address '*)
            # Setting the MAC that a device has would make the kernel forget its neighbours.
            name=${line#link set dev }
            group=${line#* group }
            case $states in
            *"$newline${name%% *} ${group%% *} ${line#* address }$newline"*) continue ;;
            esac
            ;;
        esac
        [ -z "$bare" ] || ! six "$line" || ! about "$line" "$bare" || continue
        about "$line" "$absent" || printf '%s\n' "$line"
    done <links.batch
}

# Sets `table` to the one that rule $1 leads to, and `mark` to what it asks for.
led() {
    table=${1##* lookup }
    table=${table%% *}
    mark=${1##* fwmark }
    mark=${mark%% *}
}

# The lines of file $1 with the numbers of slot $2, without the rules that are in $3 and the routes to devices $4.
slotted() {
    # Between spaces: tables to which rules of ours lead, and preferences of those that lead to other rules.
    tables=' ' ways=' '
    IFS=$newline
    for line in $3; do
        case $line in
        *:'	from all fwmark '*' lookup '*' proto 87')
            led "$line"
            [ $((${mark%%/*})) != "$table" ] || tables="$tables$table "
            ;;
        *' lookup '*) ;;
        *:'	from all '*' proto 87') ways="$ways${line%%:*} " ;;
        esac
    done
    IFS=$blanks
    while IFS= read -r line; do
        case $line in
        '#'*) continue ;;
        'rule add preference '*)
            rest=${line#rule add preference }
            case $ways in
            *" ${rest%% *} "*) ;;
            *) printf '%s\n' "$line" ;;
            esac
            continue
            ;;
        esac
        about "$line" "$4" && continue
        rest=${line#* table }
        number=$((${rest%% *} + $2))
        case $line in
        'rule '*)
            case $tables in
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

# Devices, neighbours, and the tables of slot $1.
ways() {
    { links && slotted routes.batch "$1" "$seen4" "$down"; } | ip -batch - &&
        slotted routes6.batch "$1" "$seen6" "$down $bare" | ip -6 -batch - &&
        bridge -batch fdb.batch
}

# Prints what takes away what $2 has of the rules and tables of slot $1; also a table to which no rule leads.
slot_of() {
    last=''
    IFS=$newline
    for line in $2; do
        case $line in
        *:'	from all fwmark '*' lookup '*' proto 87')
            led "$line"
            [ $((table & 1)) -ne "$1" ] ||
                printf 'rule delete preference %s fwmark %s table %s\n' "${line%%:*}" "$mark" "$table"
            ;;
        *:'	'*) ;;
        *' table '*)
            table=${line#*" table "}
            table=${table%% *}
            [ "$table" != "$last" ] || continue
            last=$table
            case $table in
            '' | *[!0-9]*) ;;
            *[13579]) [ "$1" -eq 0 ] || printf 'route flush table %s\n' "$table" ;;
            *) [ "$1" -eq 1 ] || printf 'route flush table %s\n' "$table" ;;
            esac
            ;;
        esac
    done
    IFS=$blanks
}

# Takes the rules and tables of slot $1 away that were seen. Sets `cleared` if there were some.
clear_slot() {
    cleared=''
    for family in 4 6; do
        case $family in
        4) dead=$(slot_of "$1" "$seen4") ;;
        *) dead=$(slot_of "$1" "$seen6") ;;
        esac
        [ -n "$dead" ] || continue
        cleared=yes
        printf '%s\n' "$dead" | ip "-$family" -force -batch - 2>/dev/null || :
    done
}

# Loads base.nft and stage.nft, in one transaction.
stage() {
    nft -D slot="$next" -f - <<EOF
include "./base.nft"
include "./stage.nft"
EOF
}

# Takes away what an attempt that was cut short may have left.
tidy() {
    case $suffix in
    '') sweep none '0 1' keep ;;
    *) sweep "$suffix" "$next" keep ;;
    esac || fail 'leftovers could not be taken away; the running generation goes on'
}

# Takes what was staged away again.
back() {
    nft -D slot="$next" -f sweep.nft || :
    ! look || clear_slot "$next"
    fail "$1; the running generation goes on"
}

for tool in nft ip bridge; do
    command -v "$tool" >/dev/null 2>&1 || fail "$tool is not installed"
done
look || fail 'ip does not tell what is there; nothing has changed'
devices
listed || fail 'nft does not tell what is there; nothing has changed'

if [ "$suffix" = "$SUFFIX" ]; then
    nft -f base.nft || fail 'base.nft was refused; nothing has changed'
    ways "$slot" || fail 'devices, neighbours or routes were refused'
    settings
    nft -D slot="$slot" -f commit.nft || fail 'commit.nft was refused; the running generation goes on'
    room
    if ! listed || ! sweep "$SUFFIX" "$((1 - slot))" rules; then
        fail 'leftovers could not be taken away'
    fi
    clear_slot "$((1 - slot))"
else
    case $slot in
    0) next=1 ;;
    *) next=0 ;;
    esac
    if others "$suffix"; then
        tidy
        listed || fail 'nft does not tell what is there; the running generation goes on'
    fi
    clear_slot "$next"
    [ -z "$cleared" ] || look || fail 'ip does not tell what is there; the running generation goes on'
    # Devices are closed by the base chains from when they are in their groups.
    if ! stage; then
        tidy
        if [ -z "$swept" ] || ! stage; then
            fail 'base.nft or stage.nft was refused; the running generation goes on'
        fi
    fi
    ways "$next" || back 'devices, neighbours or routes were refused'
    settings
    nft -D slot="$next" -f commit.nft || back 'commit.nft was refused'
    room
    if [ -z "$suffix" ] || ! sweep_whole "$((1 - next))"; then
        listed && sweep "$SUFFIX" "$((1 - next))" rules
    fi || fail 'the new generation runs; the old one could not be taken away'
    clear_slot "$((1 - next))"
fi

# Devices that no generation has any more.
for dev in $vxlans; do
    case " $DEVICES " in
    *" $dev "*) ;;
    *) ip link delete dev "$dev" ;;
    esac
done
