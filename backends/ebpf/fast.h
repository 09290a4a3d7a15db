/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/* The short way of most packets: those of a known connection that have nothing unusual. What such a packet was decided to is
 * remembered in the connection's entry, by direction.
 *
 * SOUNDNESS: the long way is a function of the generation, of how a packet arrived (its port; the MAC that it shows, or the
 * sender's VTEP and VNI), of its addresses, protocol and ports, of its direction, and of the connection's original tuple. The
 * entry is found by all that is in the headers, and what is remembered is used only while generation, port and arrival are the
 * same: it is the decision that the long way would come to. What depends on more (hop limit, length, flags of TCP, tags,
 * fragments, ICMP) is asked of each packet, or goes the long way.
 */
#ifndef PARTYWALL_FAST_H
#define PARTYWALL_FAST_H

#include "wire.h"

/* The entry of a packet's connection, and the key that it has. What is read of it counts only if it is `still` that one. */
FORCE struct ct *known(struct pkt *p, const struct ct_key **key, int *invalid)
{
	struct ct *e = bpf_map_lookup_elem(&connections, &p->key);
	struct ct_alias *alias;

	*key = &p->key;
	if (e && ended(e, p->now)) {
		end(&p->key, e);
		return NULL;
	}
	if (e) {
		p->direction = p->swapped != e->swapped;
		/* The other side's packets come under the other tuple. An error quotes what came to its sender. */
		*invalid = e->has_alias && p->direction != p->is_error;
		return e;
	}
	if (!p->gateway)
		return NULL;
	alias = bpf_map_lookup_elem(&aliases, &p->key);
	if (!alias)
		return NULL;
	p->direction = !p->is_error;
	*invalid = (p->swapped == alias->swapped) != p->is_error;
	p->alias.main = alias->main;
	*key = &p->alias.main;
	e = bpf_map_lookup_elem(&connections, &p->alias.main);
	return e && !ended(e, p->now) ? e : NULL;
}

/* Where a rule counts; 0: nowhere. Its first packet gives it the next place. */
__noinline __u32 pw_place(__u32 rule)
{
	__u32 none = 0, place, *found, *last;

	if (!rule)
		return 0;
	found = bpf_map_lookup_elem(&rules, &rule);
	if (found)
		return *found;
	last = bpf_map_lookup_elem(&rules, &none);
	if (!last) {
		bpf_map_update_elem(&rules, &none, &none, BPF_NOEXIST);
		last = bpf_map_lookup_elem(&rules, &none);
	}
	/* No place is given twice. */
	if (!last || *last >= 0xffff0000)
		return 0;
	place = __sync_fetch_and_add(last, 1) + 1;
	/* If another processor was faster, its place holds. */
	bpf_map_update_elem(&rules, &rule, &place, BPF_NOEXIST);
	found = bpf_map_lookup_elem(&rules, &rule);
	return found ? *found : 0;
}

FORCE void count_rule(struct __sk_buff *skb, __u32 place)
{
	__u32 page = place / PER_PAGE, none = 0;
	struct counts *found;
	struct count *count;
	void *empty;

	if (!place)
		return;
	found = bpf_map_lookup_elem(&counts, &page);
	if (!found) {
		empty = bpf_map_lookup_elem(&blank, &none);
		if (!empty)
			return;
		bpf_map_update_elem(&counts, &page, empty, BPF_NOEXIST);
		found = bpf_map_lookup_elem(&counts, &page);
		if (!found)
			return;
	}
	count = &found->of[place % PER_PAGE];
	count->packets++;
	count->bytes += skb->len;
}

FORCE int to_router(const struct pkt *p)
{
	for (int i = 0; i < 6; i++)
		if (p->eth_dst[i] != p->mac[i])
			return 0;
	return 1;
}

/* Reads the headers where they stand, as `pw_parse` does, if they are IP without options, not a fragment, and UDP, or TCP in
 * the midst of a connection. 0: they are not, and nothing is said of them. The frame begins `at` bytes in; `p->l4` does not count
 * those.
 */
FORCE int plain(struct __sk_buff *skb, struct pkt *p, const __u32 at)
{
	void *data = (void *)(long)skb->data + at, *end = (void *)(long)skb->data_end;
	__u32 length, left;
	struct ethhdr *eth = data;
	__u8 *l4;

	if (data + ETH_LEN + sizeof(struct iphdr) + 8 > end)
		return 0;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *h = data + ETH_LEN;

		length = bpf_ntohs(h->tot_len);
		if (*(__u8 *)h != 0x45 || (h->frag_off & bpf_htons(0x3fff)) || length < sizeof(*h) + 8 || bad_sum(h))
			return 0;
		addr4(&p->t.src, h->saddr);
		addr4(&p->t.dst, h->daddr);
		p->family = 0;
		p->protocol = h->protocol;
		p->ttl = h->ttl;
		p->ecn = h->tos & 3;
		p->frag_id = h->id;
		p->l4 = ETH_LEN + sizeof(*h);
		l4 = (void *)(h + 1);
		left = length - sizeof(*h);
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *h = data + ETH_LEN;

		if ((void *)(h + 1) + 8 > end || h->version != 6)
			return 0;
		length = bpf_ntohs(h->payload_len) + sizeof(*h);
		if (length < sizeof(*h) + 8 || length > 65535)
			return 0;
		addr6(&p->t.src, &h->saddr);
		addr6(&p->t.dst, &h->daddr);
		p->family = 1;
		p->protocol = h->nexthdr;
		p->ttl = h->hop_limit;
		p->ecn = h->flow_lbl[0] >> 4 & 3;
		p->frag_id = 0;
		p->l4 = ETH_LEN + sizeof(*h);
		l4 = (void *)(h + 1);
		left = length - sizeof(*h);
	} else {
		return 0;
	}
	if (length + ETH_LEN + at > skb->len)
		return 0;
	p->tcp_flags = 0;
	if (p->protocol == P_UDP) {
		__u32 payload = bpf_ntohs(*(__u16 *)(l4 + 4));

		if (!skb->gso_size && (payload < 8 || payload > left))
			return 0;
		p->l4_head = 8;
	} else if (p->protocol == P_TCP) {
		__u32 doff;

		if ((void *)(l4 + 20) > end)
			return 0;
		doff = (l4[12] >> 4) * 4;
		p->tcp_flags = l4[13];
		if (doff < 20 || doff > left || (p->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK | TCP_URG)) != TCP_ACK)
			return 0;
		p->l4_head = doff;
	} else {
		return 0;
	}
	p->t.sport = bpf_ntohs(*(__u16 *)l4);
	p->t.dport = bpf_ntohs(*(__u16 *)(l4 + 2));
	__builtin_memcpy(p->eth_dst, data, ETH_LEN);
	p->l3_len = length;
	p->frag_off = 0;
	p->icmp_type = 0;
	p->icmp_query = 0;
	p->is_error = 0;
	p->is_frag = 0;
	p->more_frags = 0;
	return 1;
}

/* What `arrival` holds beside a workload's MAC. */
#define ARRIVED_VTEP (1ull << 63)   /* and its IPv4 address */
#define ARRIVED_SENDER (1ull << 62) /* and the number of (VTEP, VNI) */
#define ARRIVED_OUTSIDE (1ull << 61)

/* Remembered words: generation, port, and 16 bits that count changes. */
#define WRITING 1ull

FORCE __u64 word_of(const struct pkt *p)
{
	return (__u64)p->generation << 40 | (__u64)p->port << 16;
}

/* What a packet of this connection and direction was decided to. Nonzero: nothing that holds now. */
FORCE int recall(struct pkt *p, struct ct *e, const struct ct_key *key)
{
	struct decided *d = &e->decided[p->direction & 1];
	__u64 word = *(volatile __u64 *)&d->word;

	if ((word ^ word_of(p)) >> 16 || !(word & 0xfffe) || e->seen + ROUND < p->now)
		return 1;
	fence();
	p->decided = *d;
	if (!still(e, key))
		return 1;
	fence();
	/* Somebody else has written meanwhile. */
	if (*(volatile __u64 *)&d->word != word)
		return 1;
	return p->decided.arrival != p->arrival;
}

/* Remembers what a packet was decided to: `p->verdict`, `p->place`, `p->route`. */
FORCE void remember(struct pkt *p, struct ct *e)
{
	struct decided *d = &e->decided[p->direction & 1];
	__u64 word = *(volatile __u64 *)&d->word;

	if (p->port >> 24 || word == WRITING || __sync_val_compare_and_swap(&d->word, word, WRITING) != word)
		return;
	d->arrival = p->arrival;
	d->place[0] = p->place[0];
	d->place[1] = p->place[1];
	d->verdict = p->verdict;
	d->route = p->route;
	__sync_lock_test_and_set(&d->word, word_of(p) | ((word + 2) & 0xffff) | 2);
}

/* What a packet does to a connection's entry. */
FORCE void touch(struct ct *e, const struct pkt *p, const int in_vxlan)
{
	if (e->seen != p->now)
		e->seen = p->now;
	if (p->port_kind == PORT_FABRIC && !in_vxlan && e->detour != ticks(p->now))
		e->detour = ticks(p->now);
	advance(e, p);
}

/* Packets of a connection keep their order: while some may still be on their way through the VXLAN device, which has a queue,
 * none is taken past it.
 */
#define QUEUED 10

/* A packet whose headers are plain and whose port, zone and arrival are known; `in_vxlan`: it is still in VXLAN. -1: it goes the long
 * way, untouched.
 */
FORCE int fast(struct __sk_buff *skb, struct pkt *p, const int in_vxlan)
{
	struct route *route = &p->decided.route;
	const struct ct_key *key;
	__u32 device, local;
	int invalid = 0;
	struct ct *e;

	p->swapped = make_key(&p->key, &p->t, p->zone, p->space, p->protocol, p->family, 0);
	e = known(p, &key, &invalid);
	if (!e || invalid || recall(p, e, key))
		return -1;
	if (p->ttl <= 1 || (p->l3_len > (route->mtu ? route->mtu : 1280) && !segments_fit(skb, p, route->mtu)))
		return -1;
	local = route->kind == R_DEVICE && has_mac(route);
	if (in_vxlan) {
		if (!local || e->xlat)
			return -1;
		if (skb->gso_size) {
			e->detour = ticks(p->now);
			return -1;
		}
		if (ticks(p->now) - e->detour < QUEUED)
			return -1;
	}
	device = device_of(p, route->kind == R_TUNNEL ? FABRIC : route->port);
	if (!device)
		return -1;
	if (!in_vxlan && e->xlat) {
		p->xlat = e->xlat;
		p->orig = e->orig;
		p->trans = e->trans;
		if (!still(e, key))
			return -1;
	} else {
		p->xlat = 0;
	}
	if (in_vxlan && unwrap(skb, p))
		return -1;
	skb->cb[3] = p->decided.verdict;
	count_rule(skb, p->decided.place[0]);
	count_rule(skb, p->decided.place[1]);
	touch(e, p, in_vxlan);
	if (!in_vxlan && (p->xlat || (route->kind != R_TUNNEL && !local))) {
		p->known = 1;
		p->route = *route;
		p->device = device;
		if (p->xlat && pw_rewrite(skb, p))
			return drop(skb, DROP_INVALID);
		if (route->kind != R_TUNNEL)
			return pw_send(skb, p);
		if (hop(skb, p) || set_macs(skb, p))
			return drop(skb, DROP_INVALID);
	} else {
		void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

		if (data + ETH_LEN + sizeof(struct iphdr) > end)
			return drop(skb, DROP_INVALID);
		__builtin_memcpy(data, route->mac, 6);
		__builtin_memcpy(data + 6, p->mac, 6);
		if (p->family) {
			struct ipv6hdr *h = data + ETH_LEN;

			if ((void *)(h + 1) > end)
				return drop(skb, DROP_INVALID);
			h->hop_limit--;
		} else {
			struct iphdr *h = data + ETH_LEN;
			__u32 csum = h->check + bpf_htons(0x0100);

			h->check = csum + (csum >= 0xffff);
			h->ttl--;
		}
	}
	if (!in_vxlan && route->kind == R_TUNNEL)
		return enclosed(skb, p, route, device);
	return delivered(skb, route, device);
}

#endif
