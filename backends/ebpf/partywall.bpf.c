/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/* What a node does with packets: docs/dataplane-ebpf.md. The policy is in maps; nothing of it is in this program.
 *
 * Compiled ahead of time by `build.sh`. Needs Linux 5.15. Only `struct __sk_buff` of the kernel is touched, which is
 * the same on every kernel.
 */
#include "fast.h"

/* Set by `pw_underlay` on what is for the VXLAN device: by the right device, to the right address. */
#define FROM_UNDERLAY 0x50570001u

#define ICMP_PLAIN(p) (is_icmp((p)->protocol) && !(p)->icmp_query && !(p)->is_error)

FORCE struct pkt *begin(struct __sk_buff *skb)
{
	struct config *config;
	__u32 zero = 0;
	__u64 *running;
	struct pkt *p;
	void *map;

	p = bpf_map_lookup_elem(&scratch, &zero);
	/* The one place where a packet takes its generation. */
	running = bpf_map_lookup_elem(&cell, &zero);
	if (!p || !running)
		return NULL;
	__u64 value = *(volatile __u64 *)running;

	if (!value)
		return NULL;
	p->slot = value & 1;
	p->generation = (value >> 1) & 0xffffff;
	p->now = bpf_ktime_get_coarse_ns();
	p->role = 0;
	p->zone = 0;
	p->known = 0;
	p->direction = 0;
	p->stateless = 0;
	map = INNER(settings, p);
	config = map ? bpf_map_lookup_elem(map, &zero) : NULL;
	if (!config)
		return NULL;
	__builtin_memcpy(p->mac, config->mac, 6);
	p->gateway = config->gateway;
	p->underlay = config->family;
	p->log_unknown_vni = config->log_unknown_vni;
	p->bound = config->bound;
	p->vtep = config->vtep.w[0];
	p->udp_port = config->udp_port;
	return p;
}

FORCE int load_port(struct pkt *p, __u32 number)
{
	void *map = INNER(ports, p);
	struct port *port = map ? bpf_map_lookup_elem(map, &number) : NULL;

	if (!port || !port->kind)
		return -1;
	p->port = number;
	p->port_kind = port->kind;
	p->zone = port->zone;
	p->space = port->space;
	p->opener = port->opener;
	return 0;
}

FORCE int device_port(struct __sk_buff *skb, struct pkt *p)
{
	__u32 ifindex = skb->ifindex, *found;
	void *map = INNER(ifindexes, p);

	found = map ? bpf_map_lookup_elem(map, &ifindex) : NULL;
	return found ? load_port(p, *found) : -1;
}

/* Fragments after the first show no ports: they take those of the first, and must come one after the other. */
__noinline int pw_fragment(struct pkt *p)
{
	struct frag_key key = {};
	struct frag *first, value;
	__u32 payload;

	if (!p)
		return DROP_FRAGMENT;
	key.zone = p->zone;
	key.space = p->space;
	key.src = p->t.src;
	key.dst = p->t.dst;
	key.id = p->frag_id;
	key.protocol = p->protocol;
	key.family = p->family;
	payload = p->l3_len + ETH_LEN - p->l4;
	/* All but the last are multiples of eight bytes. */
	if (!payload || (p->more_frags && (payload & 7)) || p->frag_off + payload > 65535)
		return DROP_FRAGMENT;
	if (!p->frag_off) {
		value.next = payload;
		value.sport = p->t.sport;
		value.dport = p->t.dport;
		value.tcp_flags = p->tcp_flags;
		__builtin_memset(value.zero, 0, sizeof(value.zero));
		bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
		return 0;
	}
	first = bpf_map_lookup_elem(&fragments, &key);
	if (!first)
		return DROP_FRAGMENT;
	/* SOUNDNESS: only what follows on what was seen goes on, so that nothing overlaps the header that was decided. */
	if (__sync_val_compare_and_swap(&first->next, p->frag_off, p->frag_off + payload) != p->frag_off) {
		/* What overlaps spoils all that would follow. */
		if (p->frag_off < first->next)
			first->next = 0xffffffff;
		return DROP_FRAGMENT;
	}
	p->t.sport = first->sport;
	p->t.dport = first->dport;
	p->first_flags = first->tcp_flags;
	if (is_icmp(p->protocol)) {
		p->icmp_type = p->t.dport >> 8;
		p->icmp_query = query_of(p->protocol, p->icmp_type);
	}
	return 0;
}

/* Addresses that no router forwards: this network, loopback, multicast and reserved ones, link-local ones of IPv6. */
FORCE int unroutable(const struct addr *a, __u32 family)
{
	__u32 word = bpf_ntohl(a->w[0]), top = word >> 24;

	if (family)
		return top == 0 || top == 0xff || word >> 22 == 0x3fa;
	return top == 0 || top == 127 || top >= 224;
}

/* At most ten records a second of each rule. */
__noinline int pw_log(struct pkt *p, __u32 rule, __u32 allowed)
{
	struct log_bucket *bucket, fresh = {};
	struct log_record *record;
	__u64 now = p ? p->now : 0, second = now / SECOND;
	__u32 key = rule << 1 | allowed;

	if (!p)
		return 0;
	bucket = bpf_map_lookup_elem(&log_limits, &key);
	if (!bucket) {
		bpf_map_update_elem(&log_limits, &key, &fresh, BPF_NOEXIST);
		bucket = bpf_map_lookup_elem(&log_limits, &key);
		if (!bucket)
			return 0;
	}
	if (bucket->second != second) {
		bucket->second = second;
		bucket->used = 0;
	}
	if (__sync_fetch_and_add(&bucket->used, 1) >= 10)
		return 0;
	record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
	if (!record)
		return 0;
	record->time = now;
	record->rule = rule;
	record->verdict = allowed;
	record->tuple = p->orig;
	record->protocol = p->protocol;
	record->family = p->family;
	record->zero = 0;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* The number of the space that a way leads into. */
FORCE __u32 space_of(__u32 way)
{
	return way >= WAY_TENANT ? (way - WAY_TENANT) >> 1 : way;
}

/* A packet whose port, role and zone are known: decide, and send. `refused`: why its headers cannot be decided, or 0. `is_plain`:
 * the next one of its connection may go the short way.
 */
FORCE int process(struct __sk_buff *skb, struct pkt *p, int refused, int is_plain)
{
	__u32 masquerade = 0, has_alias = 0, other, *found;
	const struct ct_key *key;
	struct verdict *verdict;
	struct ct *e = NULL;
	int reason, invalid = 0;
	__u32 mtu, opened_under = 0;
	void *map;

	if (end_of(p, K_UNDERLAY, 0, &p->t.dst))
		return drop(skb, DROP_TO_HOST);
	if (refused)
		return drop(skb, refused);
	p->first_flags = p->tcp_flags;
	if (p->is_frag) {
		reason = pw_fragment(p);
		if (reason)
			return drop(skb, reason);
	}
	if (p->stateless) {
		if (p->is_error || speaks_of_others(p))
			return drop(skb, DROP_INVALID);
	} else if (!ICMP_PLAIN(p)) {
		if (p->is_error)
			p->swapped = make_key(&p->key, &p->quoted, p->zone, p->space, p->quoted_protocol, p->family,
					      p->quoted_icmp);
		else
			p->swapped = make_key(&p->key, &p->t, p->zone, p->space, p->protocol, p->family, p->icmp_query);
		e = known(p, &key, &invalid);
	}
	if (e) {
		p->orig = e->orig;
		p->trans = e->trans;
		opened_under = e->xlat;
		if (!still(e, key))
			e = NULL;
	}
	if (invalid)
		return drop(skb, DROP_INVALID);
	if (p->is_error) {
		if (!e)
			return drop(skb, DROP_INVALID);
		/* It goes against what it quotes. */
		p->direction = !p->direction;
		p->protocol = p->quoted_protocol;
	}
	if (e) {
		p->known = 1;
	} else {
		p->direction = 0;
		p->orig = p->t;
		p->trans = p->t;
	}
	if (p->stateless) {
		reason = pw_decide_alone(p);
	} else {
		p->context = pw_context(p);
		if (!p->context)
			return drop(skb, p->gateway ? DROP_NOT_EXPOSED : DROP_BAD_VTEP);
		reason = pw_decide(p);
	}
	if (reason)
		return drop(skb, reason);
	map = INNER(verdicts, p);
	verdict = map ? bpf_map_lookup_elem(map, &p->verdict) : NULL;
	if (!verdict || !verdict->action)
		return drop(skb, DROP_DEFAULT);
	skb->cb[3] = p->verdict;
	for (int i = 0; i < 2; i++) {
		p->place[i] = pw_place(verdict->rule[i]);
		count_rule(skb, p->place[i]);
	}
	if (verdict->log && !e)
		pw_log(p, verdict->logged, verdict->action != A_DROP);
	if (verdict->action == A_DROP)
		return drop(skb, verdict->reason);
	if (unroutable(&p->t.src, p->family) || unroutable(&p->t.dst, p->family))
		return drop(skb, DROP_NO_ROUTE);
	p->xlat = verdict->xlat;
	if (verdict->action == A_GO) {
		p->way = verdict->way[p->direction & 1];
	} else {
		struct leg_key leg;

		leg.port = p->port;
		leg.instance = verdict->action == A_ONLY ? verdict->gateway : pw_instance(p, verdict->gateway, verdict->flow);
		map = INNER(legs, p);
		found = map ? bpf_map_lookup_elem(map, &leg) : NULL;
		if (!found)
			return drop(skb, DROP_NO_ROUTE);
		p->way = *found;
	}
	if (e) {
		/* A connection that was opened under another translation is another one. */
		if (opened_under != p->xlat)
			return drop(skb, DROP_INVALID);
	} else if (p->xlat) {
		reason = pw_translate(p, &masquerade);
		if (reason)
			return drop(skb, reason);
	}
	if (p->is_error)
		p->protocol = p->family ? P_ICMP6 : P_ICMP;
	reason = pw_route(p, p->is_error || !p->xlat ? (p->xlat ? (p->direction ? &p->orig.src : &p->trans.dst) : &p->t.dst)
						     : (p->direction ? &p->orig.src : &p->trans.dst));
	if (reason || leaves(p))
		return drop(skb, reason ? reason : DROP_NO_ROUTE);
	mtu = p->ttl > 1 ? too_big(skb, p) : 0;
	if (p->ttl <= 1 || mtu) {
		p->way = verdict->way[!(p->direction & 1)];
		return pw_tell(skb, p, mtu);
	}
	if (!e && !p->stateless && !ICMP_PLAIN(p)) {
		/* What opens a connection, and what takes one up in its middle. */
		if (p->protocol == P_TCP && !((p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN ||
					      (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST)) == TCP_ACK))
			return drop(skb, DROP_INVALID);
		if (!(p->icmp_query && p->key.bport != p->icmp_type)) {
			reason = pw_count_in(p);
			if (reason)
				return drop(skb, reason);
			other = space_of(p->way);
			if (p->xlat && (other != p->space || !same(&p->orig.src, &p->trans.src) ||
					!same(&p->orig.dst, &p->trans.dst))) {
				has_alias = 1;
				reason = pw_reserve(p, other, masquerade);
			}
			if (!reason)
				reason = pw_open(p, has_alias);
			if (reason) {
				count_out(p->opener);
				return drop(skb, reason);
			}
		}
	} else if (e) {
		touch(e, p, 0);
		if (is_plain)
			remember(p, e);
	}
	if (p->protocol == P_TCP && (p->tcp_flags & TCP_SYN) && !p->frag_off && p->route.mtu &&
	    pw_clamp(skb, p, p->route.mtu))
		return drop(skb, DROP_INVALID);
	if (p->xlat && pw_rewrite(skb, p))
		return drop(skb, DROP_INVALID);
	return pw_send(skb, p);
}

SEC("tc")
int pw_workload(struct __sk_buff *skb)
{
	struct pkt *p = begin(skb);
	int reason, is_plain;

	if (!p || device_port(skb, p) || p->port_kind != PORT_WORKLOAD)
		return drop(skb, DROP_CLOSED);
	if (skb->vlan_present)
		return drop(skb, DROP_SPOOF);
	is_plain = plain(skb, p, 0);
	if (is_plain) {
		p->arrival = 0; /* and the MAC */
		__builtin_memcpy(&p->arrival, p->eth_src, 6);
		if (to_router(p)) {
			int done = fast(skb, p, 0);

			if (done >= 0)
				return done;
		}
	}
	reason = is_plain ? 0 : pw_parse(skb, p);
	if (reason < 0)
		return p->eth_type == bpf_htons(ETH_P_ARP) ? pw_arp(skb, p) : drop(skb, DROP_INVALID);
	if (!reason && p->family && p->protocol == P_ICMP6 && !p->is_frag && (p->icmp_type == 135 || p->icmp_type == 136))
		return pw_discovery(skb, p);
	if (!pw_owns(p, &p->t.src, 1)) {
		/* Router solicitations and group reports: nobody is asked. */
		if (p->family && multicast6(&p->t.dst) &&
		    (link_local(&p->t.src) || !(p->t.src.w[0] | p->t.src.w[1] | p->t.src.w[2] | p->t.src.w[3])))
			return drop(skb, DROP_TO_HOST);
		return drop(skb, DROP_SPOOF);
	}
	/* What only a network's own servers and routers send. */
	if (p->protocol == P_UDP && ((p->t.sport == 67 && p->t.dport == 68) || (p->t.sport == 547 && p->t.dport == 546)))
		return drop(skb, DROP_INVALID);
	if ((p->protocol == P_ICMP && p->icmp_type == 5) ||
	    (p->protocol == P_ICMP6 && (p->icmp_type == 134 || p->icmp_type == 137)))
		return drop(skb, DROP_INVALID);
	if (!to_router(p))
		return drop(skb, DROP_NO_ROUTE);
	return process(skb, p, reason, is_plain);
}

/* The zone of a gateway's packet: the pair of owners, by the space that it came in from and its destination there. */
FORCE void zone_of_pair(struct pkt *p)
{
	if (p->gateway)
		p->zone = pw_range(p, K_ZONE, p->space, &p->t.dst);
}

/* On a gateway, what has no zone may be of no connection. */
FORCE void without_state(struct pkt *p)
{
	if (p->gateway && !p->zone)
		p->stateless = pw_range(p, K_STATELESS, p->space, &p->t.dst);
}

/* The number of who sends with this VTEP and VNI; 0: nobody does. */
FORCE __u32 sender_of(struct pkt *p, struct sender_key *key)
{
	void *map = INNER(senders, p);
	__u32 *found = map ? bpf_map_lookup_elem(map, key) : NULL;

	return found ? *found : 0;
}

SEC("tc")
int pw_fabric(struct __sk_buff *skb)
{
	struct pkt *p = begin(skb);
	struct bpf_tunnel_key key = {};
	struct sender_key sender = {};
	__u32 *found, number = 0;
	int reason, is_plain;
	void *map;

	if (!p)
		return drop(skb, DROP_CLOSED);
	if (skb->mark != FROM_UNDERLAY)
		return drop(skb, DROP_BAD_VTEP);
	if (bpf_skb_get_tunnel_key(skb, &key, TUNNEL_KEY, p->underlay ? BPF_F_TUNINFO_IPV6 : 0) < 0)
		return drop(skb, DROP_BAD_VTEP);
	sender.vni = key.tunnel_id;
	map = INNER(vnis, p);
	found = map ? bpf_map_lookup_elem(map, &sender.vni) : NULL;
	if (!found || load_port(p, *found)) {
		if (p->log_unknown_vni) {
			__builtin_memset(&p->orig, 0, sizeof(p->orig));
			p->orig.src.w[0] = sender.vni;
			pw_log(p, 0, 0);
		}
		return drop(skb, DROP_UNKNOWN_VNI);
	}
	if (skb->vlan_present)
		return drop(skb, DROP_BAD_VTEP);
	/* The VNI is told by the port. */
	if (p->underlay) {
		__builtin_memcpy(sender.vtep.w, key.remote_ipv6, 16);
		number = sender_of(p, &sender);
		p->arrival = ARRIVED_SENDER | number;
	} else {
		sender.vtep.w[0] = bpf_htonl(key.remote_ipv4);
		p->arrival = ARRIVED_VTEP | sender.vtep.w[0];
	}
	is_plain = plain(skb, p, 0);
	if (is_plain && to_router(p)) {
		int done;

		zone_of_pair(p);
		done = fast(skb, p, 0);
		if (done >= 0)
			return done;
	}
	if (!p->underlay)
		number = sender_of(p, &sender);
	if (!number)
		return drop(skb, DROP_BAD_VTEP);
	reason = is_plain ? 0 : pw_parse(skb, p);
	if (reason < 0)
		return drop(skb, DROP_BAD_VTEP);
	p->role = pw_end(p, K_LEGIT, number, &p->t.src);
	if (!p->role)
		return drop(skb, DROP_BAD_VTEP);
	if (!to_router(p))
		return drop(skb, DROP_NO_ROUTE);
	zone_of_pair(p);
	if (p->role == ROLE_NODE)
		without_state(p);
	if (!p->gateway && !end_of(p, K_HERE, p->port, &p->t.dst))
		return drop(skb, DROP_NO_ROUTE);
	found = range_of(p, K_OPENER, p->opener, &p->t.src);
	if (found)
		p->opener = *found;
	return process(skb, p, reason, is_plain);
}

/* Whether it is for the machine itself, as far as its addresses were known when the maps were filled. */
FORCE int own_address(struct pkt *p)
{
	struct addr dst = p->t.dst;
	void *map = INNER(hosts, p);

	if (p->family ? multicast6(&dst) : (bpf_ntohl(dst.w[0]) >> 28) >= 14)
		return 1;
	return map && bpf_map_lookup_elem(map, &dst);
}

/* Whether the kernel would take the packet for its own, or has no way for it. */
FORCE int for_host(struct __sk_buff *skb, struct pkt *p)
{
	struct bpf_fib_lookup fib = {};
	int verdict;

	fib.ifindex = skb->ifindex;
	fib.family = p->family ? AF_INET6 : AF_INET;
	fib.l4_protocol = p->protocol;
	fib.tot_len = p->l3_len;
	__builtin_memcpy(fib.ipv6_src, p->t.src.w, 16);
	__builtin_memcpy(fib.ipv6_dst, p->t.dst.w, 16);
	verdict = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	return verdict == BPF_FIB_LKUP_RET_NOT_FWDED || verdict == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

SEC("tc")
int pw_outside(struct __sk_buff *skb)
{
	struct pkt *p = begin(skb);
	struct config *config;
	__u32 zero = 0;
	int reason, is_plain;
	void *map;

	if (!p || device_port(skb, p) || p->port_kind != PORT_OUTSIDE)
		return drop(skb, DROP_CLOSED);
	p->arrival = ARRIVED_OUTSIDE;
	is_plain = plain(skb, p, 0);
	reason = is_plain ? 0 : pw_parse(skb, p);
	if (reason < 0)
		return p->eth_type == bpf_htons(ETH_P_ARP) ? leave(skb) : drop(skb, DROP_INVALID);
	if (skb->vlan_present)
		return drop(skb, DROP_INVALID);
	if (p->family && p->protocol == P_ICMP6 && !p->is_frag && p->icmp_type >= 133 && p->icmp_type <= 137)
		return leave(skb);
	zone_of_pair(p);
	without_state(p);
	if (!p->zone && !p->stateless) {
		map = INNER(settings, p);
		config = map ? bpf_map_lookup_elem(map, &zero) : NULL;
		/* VXLAN comes by the underlay's device alone. */
		if (config && p->protocol == P_UDP && (p->frag_off || p->t.dport == config->udp_port))
			return drop(skb, DROP_BAD_VTEP);
		if (own_address(p))
			return leave(skb);
		reason = pw_range(p, K_OUTSIDE, p->port, &p->t.src) ? DROP_NO_ROUTE : DROP_UNKNOWN_SOURCE;
		/* An address that the machine has got since is still its own. */
		return for_host(skb, p) ? give_up(skb, reason) : drop(skb, reason);
	}
	if (skb->pkt_type != 0)
		return drop(skb, DROP_NO_ROUTE);
	if (is_plain) {
		int done = fast(skb, p, 0);

		if (done >= 0)
			return done;
	}
	return process(skb, p, reason, is_plain);
}

/* Takes a packet of a known connection out of VXLAN and delivers it. -1: it is for the VXLAN device, untouched.
 *
 * SOUNDNESS: what the kernel and `pw_fabric` ask of a packet before they look for its connection is asked here too, or told by what the
 * connection remembers: the sender's VTEP and VNI are what `pw_fabric` accepted for these addresses.
 */
FORCE int unwrapped(struct __sk_buff *skb, struct pkt *p)
{
	__u32 vni, outer, *found, same_mac = 1;
	void *map;

	if (!wrapped(skb, p, &vni))
		return -1;
	outer = p->ecn;
	p->arrival |= ARRIVED_VTEP;
	map = INNER(vnis, p);
	found = map ? bpf_map_lookup_elem(map, &vni) : NULL;
	if (!found || load_port(p, *found) || !plain(skb, p, WRAP) || !to_router(p))
		return -1;
	/* The kernel drops what shows the device's own MAC, and tells congestion onwards. */
	for (int i = 0; i < 6; i++)
		same_mac &= p->eth_src[i] == p->mac[i];
	if (same_mac || (outer != p->ecn && (outer == CE || outer == ECT_1)))
		return -1;
	return fast(skb, p, 1);
}

/* The underlay: VXLAN that is for this node and no other is let through to the VXLAN device. */
SEC("tc")
int pw_underlay(struct __sk_buff *skb)
{
	struct pkt *p = begin(skb);
	struct config *config;
	__u32 zero = 0;
	__u8 vxlan[8];
	int reason, done;
	void *map;

	skb->mark = skb->mark == FROM_UNDERLAY ? 0 : skb->mark;
	/* A tag's device is another than the underlay's; a priority alone is none. */
	if (!p || (skb->vlan_present && (skb->vlan_tci & 0xfff)))
		return leave(skb);
	done = unwrapped(skb, p);
	if (done >= 0)
		return done;
	map = INNER(settings, p);
	config = map ? bpf_map_lookup_elem(map, &zero) : NULL;
	if (!config)
		return leave(skb);
	reason = plain(skb, p, 0) ? 0 : pw_parse(skb, p);
	if (reason < 0 || p->protocol != P_UDP)
		return leave(skb);
	if (p->frag_off || reason)
		return leave(skb);
	if (p->t.dport != config->udp_port)
		return leave(skb);
	if (p->is_frag || p->family != config->family || !same(&p->t.dst, &config->vtep))
		return drop(skb, DROP_BAD_VTEP);
	/* The I flag. */
	if (bpf_skb_load_bytes(skb, p->l4 + 8, vxlan, sizeof(vxlan)) < 0 || !(vxlan[0] & 0x08))
		return drop(skb, DROP_BAD_VTEP);
	skb->mark = FROM_UNDERLAY;
	return leave(skb);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
