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

/* Set in the number of a device that leads to another network namespace without a queue between: a workload's veth. */
#define PEER 0x80000000u

FORCE void sent(struct __sk_buff *skb, const struct route *route, __u32 device, __u32 outcome)
{
	skb->mark = 0;
	skb->cb[0] = outcome;
	skb->cb[1] = device & ~PEER;
	skb->cb[2] = route->vni;
	skb->cb[4] = route->to.w[0];
}

/* A frame whose MACs are written, into the tunnel. */
FORCE int encapsulated(struct __sk_buff *skb, const struct route *route, __u32 device)
{
	struct bpf_tunnel_key key = {};
	__u64 flags = BPF_F_DONT_FRAGMENT;

	key.tunnel_id = route->vni;
	key.tunnel_ttl = 64;
	if (route->zero) {
		flags |= BPF_F_TUNINFO_IPV6;
		__builtin_memcpy(key.remote_ipv6, route->to.w, 16);
	} else {
		flags |= BPF_F_ZERO_CSUM_TX;
		/* This one is in the machine's order. */
		key.remote_ipv4 = bpf_ntohl(route->to.w[0]);
	}
	if (bpf_skb_set_tunnel_key(skb, &key, TUNNEL_KEY, flags) < 0)
		return drop(skb, DROP_NO_ROUTE);
	sent(skb, route, device, SENT_TUNNEL);
	return bpf_redirect(device, 0);
}

/* A frame whose MACs are written, to a device. */
FORCE int delivered(struct __sk_buff *skb, const struct route *route, __u32 device)
{
	sent(skb, route, device, SENT_DEVICE);
	return device & PEER ? bpf_redirect_peer(device & ~PEER, 0) : bpf_redirect(device, 0);
}

FORCE int has_mac(const struct route *route)
{
	return !!(route->mac[0] | route->mac[1] | route->mac[2] | route->mac[3] | route->mac[4] | route->mac[5]);
}

FORCE int set_macs(struct __sk_buff *skb, const struct pkt *p)
{
	__u8 eth[12];

	__builtin_memcpy(eth, p->route.mac, 6);
	__builtin_memcpy(eth + 6, p->mac, 6);
	return bpf_skb_store_bytes(skb, 0, eth, sizeof(eth), 0) < 0;
}

/* To where `p->route` leads, in the tunnel. */
FORCE int into_tunnel(struct __sk_buff *skb, struct pkt *p, __u32 device)
{
	return set_macs(skb, p) ? drop(skb, DROP_INVALID) : encapsulated(skb, &p->route, device);
}

/* What the map `devices` has of a device of the generation; 0: it is not there. */
FORCE __u32 device_of(struct pkt *p, __u32 port)
{
	void *map = INNER(devices, p);
	__u32 *found = map ? bpf_map_lookup_elem(map, &port) : NULL;

	return found ? *found : 0;
}

/* Where the packet leaves: `p->device`. Nonzero: nowhere. */
FORCE int leaves(struct pkt *p)
{
	p->device = device_of(p, p->route.kind == R_TUNNEL ? 0 : p->route.port);
	return !p->device;
}

__noinline int pw_send(struct __sk_buff *skb, struct pkt *p)
{
	struct bpf_redir_neigh next = {};

	if (!p)
		return drop(skb, DROP_NO_ROUTE);
	if (hop(skb, p))
		return drop(skb, DROP_INVALID);
	if (p->route.kind == R_TUNNEL)
		return into_tunnel(skb, p, p->device);
	if (p->route.kind == R_DEVICE && has_mac(&p->route))
		return set_macs(skb, p) ? drop(skb, DROP_INVALID) : delivered(skb, &p->route, p->device);
	next.nh_family = p->route.zero ? AF_INET6 : AF_INET;
	__builtin_memcpy(next.ipv6_nh, p->route.to.w, 16);
	sent(skb, &p->route, p->device, SENT_NEXT_HOP);
	return bpf_redirect_neigh(p->device & ~PEER, &next, sizeof(next), 0);
}

#endif
