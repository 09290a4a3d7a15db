/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/* What a node answers itself: ARP and neighbour solicitations of its workloads. */
#ifndef PARTYWALL_REPLY_H
#define PARTYWALL_REPLY_H

#include "rewrite.h"

#define ACT_UNSPEC (-1) /* others' programs at the device go on */
#define ACT_SHOT 2

FORCE int drop(struct __sk_buff *skb, __u32 reason)
{
	struct count *count = bpf_map_lookup_elem(&reasons, &reason);

	if (count) {
		count->packets++;
		count->bytes += skb->len;
	}
	skb->cb[0] = reason;
	return ACT_SHOT;
}

/* For the kernel to refuse, which has no route for it: counted here. */
FORCE int give_up(struct __sk_buff *skb, __u32 reason)
{
	drop(skb, reason);
	return ACT_UNSPEC;
}

/* What is nobody's fault and asks for no counter. */
FORCE int ignore(struct __sk_buff *skb)
{
	skb->cb[0] = 0;
	return ACT_SHOT;
}

FORCE int leave(struct __sk_buff *skb)
{
	skb->cb[0] = LEFT_ALONE;
	return ACT_UNSPEC;
}

/* Whether an endpoint behind this port has the address and may show the frame's MAC. */
__noinline int pw_owns(struct pkt *p, const struct addr *a, __u32 check_mac)
{
	struct end_key key;
	struct owner *owner;
	void *map;

	if (!p || !a)
		return 0;
	key.kind = K_OWNER << 1 | p->family;
	key.number = p->port;
	key.a = *a;
	map = INNER(owners, p);
	owner = map ? bpf_map_lookup_elem(map, &key) : NULL;
	if (!owner)
		return 0;
	if (!check_mac)
		return 1 + owner->any_mac;
	if (owner->any_mac)
		return 2;
	for (int i = 0; i < 6; i++)
		if (owner->mac[i] != p->eth_src[i])
			return 0;
	return 1;
}

struct arp_packet {
	__u8 head[8];
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
};

__noinline int pw_arp(struct __sk_buff *skb, struct pkt *p)
{
	struct arp_packet arp;
	struct addr sender, target;
	__u8 eth[12];
	int owned;

	if (!p || bpf_skb_load_bytes(skb, ETH_LEN, &arp, sizeof(arp)) < 0)
		return drop(skb, DROP_INVALID);
	if (arp.head[0] || arp.head[1] != 1 || arp.head[2] != 8 || arp.head[3] || arp.head[4] != 6 || arp.head[5] != 4 ||
	    arp.head[6] || arp.head[7] < 1 || arp.head[7] > 2)
		return drop(skb, DROP_INVALID);
	p->family = 0;
	addr4(&sender, 0);
	addr4(&target, 0);
	__builtin_memcpy(&sender.w[0], arp.sender, 4);
	__builtin_memcpy(&target.w[0], arp.target, 4);
	/* A probe asks for an address that is free. */
	if (!sender.w[0])
		return ignore(skb);
	owned = pw_owns(p, &sender, 1);
	for (int i = 0; i < 6; i++)
		if (arp.sender_mac[i] != p->eth_src[i])
			owned = 0;
	if (!owned)
		return drop(skb, DROP_SPOOF);
	/* The kernel asks for MACs that are not written down, and hears the answers. */
	if (arp.head[7] == 2)
		return owned == 2 ? leave(skb) : ignore(skb);
	if (pw_owns(p, &target, 0) || !pw_range(p, K_ANSWER, p->port, &target))
		return ignore(skb);
	__builtin_memcpy(eth, p->eth_src, 6);
	__builtin_memcpy(eth + 6, p->mac, 6);
	arp.head[7] = 2;
	__builtin_memcpy(arp.target_mac, arp.sender_mac, 6);
	__builtin_memcpy(arp.target, arp.sender, 4);
	__builtin_memcpy(arp.sender_mac, p->mac, 6);
	__builtin_memcpy(arp.sender, &target.w[0], 4);
	if (bpf_skb_store_bytes(skb, 0, eth, sizeof(eth), 0) < 0 || bpf_skb_store_bytes(skb, ETH_LEN, &arp, sizeof(arp), 0) < 0)
		return drop(skb, DROP_INVALID);
	skb->cb[0] = ANSWERED;
	return bpf_redirect(skb->ifindex, 0);
}

struct advertisement {
	__u8 type, code;
	__u16 csum;
	__u32 flags;
	struct addr target;
	__u8 option, units;
	__u8 mac[6];
};

struct pseudo {
	struct addr src, dst;
	__u32 length;
	__u32 next;
};

FORCE int link_local(const struct addr *a)
{
	return (a->w[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

FORCE int multicast6(const struct addr *a)
{
	return (a->w[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* Neighbour discovery of a workload; the headers are parsed. */
__noinline int pw_discovery(struct __sk_buff *skb, struct pkt *p)
{
	struct advertisement na = {};
	struct pseudo pseudo = {};
	struct addr target, src;
	__u8 head[10], eth[12];
	__u16 csum;
	int owned;

	if (!p)
		return drop(skb, DROP_INVALID);
	src = p->t.src;
	/* Duplicate address detection: nobody else has the address. */
	if (!src.w[0] && !src.w[1] && !src.w[2] && !src.w[3])
		return p->icmp_type == 135 ? ignore(skb) : drop(skb, DROP_TO_HOST);
	owned = pw_owns(p, &src, 1);
	if (!owned && link_local(&src)) {
		struct addr mac = {};

		/* Any link-local address of an endpoint's MAC; of a device whose endpoint declares none. */
		owned = pw_end(p, K_HERE, p->port, &mac);
		__builtin_memcpy(mac.w, p->eth_src, 6);
		if (!owned)
			owned = pw_end(p, K_HERE, p->port, &mac);
	}
	if (!owned)
		return drop(skb, DROP_SPOOF);
	if (p->ttl != 255 || (p->t.dport & 0xff) || p->l3_len < 40 + 24)
		return drop(skb, DROP_INVALID);
	if (p->icmp_type == 136)
		return owned == 2 ? leave(skb) : ignore(skb);
	if (bpf_skb_load_bytes(skb, p->l4 + 8, &target, sizeof(target)) < 0)
		return drop(skb, DROP_INVALID);
	if (pw_owns(p, &target, 0) || !pw_range(p, K_ANSWER, p->port, &target))
		return ignore(skb);
	__builtin_memcpy(eth, p->eth_src, 6);
	__builtin_memcpy(eth + 6, p->mac, 6);
	na.type = 136;
	na.flags = bpf_htonl(0xe0000000);
	na.target = target;
	na.option = 2;
	na.units = 1;
	__builtin_memcpy(na.mac, p->mac, 6);
	pseudo.src = target;
	pseudo.dst = src;
	pseudo.length = bpf_htonl(sizeof(na));
	pseudo.next = bpf_htonl(P_ICMP6);
	csum = ~fold(bpf_csum_diff(NULL, 0, (void *)&pseudo, sizeof(pseudo), 0) +
		     (__u64)bpf_csum_diff(NULL, 0, (void *)&na, sizeof(na), 0));
	na.csum = csum;
	/* Version and flow label as they are; length, next header, hop limit. */
	head[0] = 0x60;
	head[1] = head[2] = head[3] = head[4] = 0;
	head[5] = sizeof(na);
	head[6] = P_ICMP6;
	head[7] = 255;
	if (bpf_skb_change_tail(skb, ETH_LEN + 40 + sizeof(na), 0) < 0)
		return drop(skb, DROP_INVALID);
	if (bpf_skb_store_bytes(skb, 0, eth, sizeof(eth), 0) < 0 || bpf_skb_store_bytes(skb, ETH_LEN, head, 8, 0) < 0 ||
	    bpf_skb_store_bytes(skb, IP6_SRC, &target, 16, 0) < 0 || bpf_skb_store_bytes(skb, IP6_DST, &src, 16, 0) < 0 ||
	    bpf_skb_store_bytes(skb, ETH_LEN + 40, &na, sizeof(na), 0) < 0)
		return drop(skb, DROP_INVALID);
	skb->cb[0] = ANSWERED;
	return bpf_redirect(skb->ifindex, 0);
}

#endif
