/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/* The way of a packet that may go. */
#ifndef PARTYWALL_FORWARD_H
#define PARTYWALL_FORWARD_H

#include "reply.h"

#define AF_INET 2
#define AF_INET6 10

/* Bytes of `struct bpf_tunnel_key` that every kernel from 5.15 on knows. */
#define TUNNEL_KEY 28

/* Ways of tenants lead by the destination, others to one place. */
#define WAY_TENANT 0x50000000u
#define WAY_KIND 0x70000000u

/* The largest segment that fits is announced, not a larger one. Options that stand behind ten others are left as they are. */
__noinline int pw_clamp(struct __sk_buff *skb, struct pkt *p, __u32 mtu)
{
	__u8 head[20], option[4];
	__u32 at, end, limit;

	if (!p)
		return 0;
	limit = mtu - (p->family ? 60 : 40);
	if (bpf_skb_load_bytes(skb, p->l4, head, 20) < 0)
		return 0;
	at = p->l4 + 20;
	end = p->l4 + (head[12] >> 4) * 4;
	for (int i = 0; i < 10; i++) {
		__u16 now, old, new;

		if (at + 4 > end || bpf_skb_load_bytes(skb, at, option, 4) < 0)
			return 0;
		if (option[0] == 1) {
			at++;
			continue;
		}
		if (option[0] == 0 || option[1] < 2)
			return 0;
		if (option[0] != 2 || option[1] != 4) {
			at += option[1];
			continue;
		}
		now = option[2] << 8 | option[3];
		if (now <= limit)
			return 0;
		/* A checksum takes words at even places. */
		old = (at - p->l4) & 1 ? now : bpf_htons(now);
		new = (at - p->l4) & 1 ? limit : bpf_htons(limit);
		if (bpf_l4_csum_replace(skb, p->l4 + 16, old, new, 2) < 0)
			return 1;
		new = bpf_htons(limit);
		return bpf_skb_store_bytes(skb, at + 2, &new, 2, 0) < 0;
	}
	return 0;
}

FORCE int hop(struct __sk_buff *skb, struct pkt *p)
{
	if (p->family == 0) {
		__u16 word[2];
		__u32 csum;

		if (bpf_skb_load_bytes(skb, ETH_LEN + 8, word, 4) < 0)
			return 1;
		csum = word[1] + bpf_htons(0x0100);
		word[1] = csum + (csum >= 0xffff);
		word[0] -= 1; /* its first byte */
		return bpf_skb_store_bytes(skb, ETH_LEN + 8, word, 4, 0) < 0;
	}
	__u8 left = p->ttl - 1;

	return bpf_skb_store_bytes(skb, ETH_LEN + 7, &left, 1, 0) < 0;
}

/* The route of `p->way` for a destination; a reason where there is none. */
__noinline int pw_route(struct pkt *p, const struct addr *to)
{
	struct route_key key = {};
	struct route *route;
	void *map;

	if (!p || !to)
		return DROP_NO_ROUTE;
	key.way = p->way | p->family;
	if ((p->way & WAY_KIND) == WAY_TENANT)
		key.a = *to;
	map = INNER(routes, p);
	route = map ? bpf_map_lookup_elem(map, &key) : NULL;
	if (!route)
		return DROP_NO_ROUTE;
	p->route = *route;
	return 0;
}

__noinline int pw_send(struct __sk_buff *skb, struct pkt *p)
{
	struct bpf_redir_neigh next = {};
	struct bpf_tunnel_key key = {};
	__u64 flags = BPF_F_DONT_FRAGMENT;
	__u32 port, *found;
	__u8 eth[12];
	void *map;

	if (!p)
		return drop(skb, DROP_NO_ROUTE);
	map = INNER(devices, p);
	port = p->route.kind == R_TUNNEL ? 0 : p->route.port;
	found = map ? bpf_map_lookup_elem(map, &port) : NULL;
	if (!found || !*found)
		return drop(skb, DROP_NO_ROUTE);
	if (hop(skb, p))
		return drop(skb, DROP_INVALID);
	skb->mark = 0;
	skb->cb[1] = *found;
	skb->cb[2] = p->route.vni;
	skb->cb[4] = p->route.to.w[0];
	if (p->route.kind == R_TUNNEL) {
		__builtin_memcpy(eth, p->route.mac, 6);
		__builtin_memcpy(eth + 6, p->mac, 6);
		if (bpf_skb_store_bytes(skb, 0, eth, sizeof(eth), 0) < 0)
			return drop(skb, DROP_INVALID);
		key.tunnel_id = p->route.vni;
		key.tunnel_ttl = 64;
		if (p->route.zero) {
			flags |= BPF_F_TUNINFO_IPV6;
			__builtin_memcpy(key.remote_ipv6, p->route.to.w, 16);
		} else {
			flags |= BPF_F_ZERO_CSUM_TX;
			/* This one is in the machine's order. */
			key.remote_ipv4 = bpf_ntohl(p->route.to.w[0]);
		}
		if (bpf_skb_set_tunnel_key(skb, &key, TUNNEL_KEY, flags) < 0)
			return drop(skb, DROP_NO_ROUTE);
		skb->cb[0] = SENT_TUNNEL;
		return bpf_redirect(*found, 0);
	}
	if (p->route.kind == R_DEVICE) {
		__builtin_memcpy(eth, p->route.mac, 6);
		__builtin_memcpy(eth + 6, p->mac, 6);
		if (eth[0] | eth[1] | eth[2] | eth[3] | eth[4] | eth[5]) {
			if (bpf_skb_store_bytes(skb, 0, eth, sizeof(eth), 0) < 0)
				return drop(skb, DROP_INVALID);
			skb->cb[0] = SENT_DEVICE;
			return bpf_redirect(*found, 0);
		}
	}
	next.nh_family = p->route.zero ? AF_INET6 : AF_INET;
	__builtin_memcpy(next.ipv6_nh, p->route.to.w, 16);
	skb->cb[0] = SENT_NEXT_HOP;
	return bpf_redirect_neigh(*found, &next, sizeof(next), 0);
}

#endif
