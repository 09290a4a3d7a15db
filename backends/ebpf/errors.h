/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/* What the sender of a packet that may go and cannot is told: that it expired, or what fits. It goes back the way that the packet
 * came, as from whom the packet was for; a node's own workloads hear it from their segment's router.
 */
#ifndef PARTYWALL_ERRORS_H
#define PARTYWALL_ERRORS_H

#include "forward.h"

/* The sender is a node with endpoints; others are gateways. `backends/src/linux/numbers.rs` */
#define ROLE_NODE 0x08000002u

/* Errors a second, to one address and to all behind a port. */
#define TELL_ONE 10
#define TELL_ALL 1000

FORCE int too_often(const struct pkt *p, struct told_key *key, __u64 most)
{
	struct log_bucket *bucket, none = {};
	__u64 second = p->now / SECOND;

	bucket = bpf_map_lookup_elem(&told, key);
	if (!bucket) {
		bpf_map_update_elem(&told, key, &none, BPF_NOEXIST);
		bucket = bpf_map_lookup_elem(&told, key);
		if (!bucket)
			return 1;
	}
	if (bucket->second != second) {
		bucket->second = second;
		bucket->used = 0;
	}
	return __sync_fetch_and_add(&bucket->used, 1) >= most;
}

/* Nonzero: nothing more is to be said in this second. */
__noinline int pw_told(struct pkt *p)
{
	struct told_key key = {};

	if (!p)
		return 1;
	key.port = p->port;
	key.a = p->t.src;
	if (too_often(p, &key, TELL_ONE))
		return 1;
	__builtin_memset(&key.a, 0, sizeof(key.a));
	return too_often(p, &key, TELL_ALL);
}

/* Whether a packet that is longer than the route's MTU stays so when its segments are cut. */
FORCE int segments_fit(const struct __sk_buff *skb, const struct pkt *p, __u32 mtu)
{
	return skb->gso_size && skb->gso_size + (p->l4 - ETH_LEN) + p->l4_head <= mtu;
}

/* The MTU that the packet does not fit into; 0: it fits. */
FORCE __u32 too_big(struct __sk_buff *skb, struct pkt *p)
{
	if (p->route.mtu)
		return p->l3_len > p->route.mtu && !segments_fit(skb, p, p->route.mtu) ? p->route.mtu : 0;
	/* No link has a smaller MTU (RFC 8200, 5; for IPv4 by custom). */
	if (p->l3_len > 1280) {
		__u32 mtu = 0, device = device_of(p, p->route.port);

		if (device && bpf_check_mtu(skb, device, &mtu, 0, skb->gso_size ? BPF_MTU_CHK_SEGS : 0) > 0)
			return mtu;
	}
	return 0;
}

/* The way back: `p->route`, which into_tunnel() takes. `p->way` is that of the connection's other direction. */
FORCE int way_back(struct __sk_buff *skb, struct pkt *p)
{
	struct bpf_tunnel_key key = {};
	struct config *config;
	__u32 zero = 0;
	void *map;

	if (!p->gateway && p->role == ROLE_NODE)
		return pw_route(p, &p->t.src) || p->route.kind != R_TUNNEL;
	map = INNER(settings, p);
	config = map ? bpf_map_lookup_elem(map, &zero) : NULL;
	if (!config || bpf_skb_get_tunnel_key(skb, &key, TUNNEL_KEY, config->family ? BPF_F_TUNINFO_IPV6 : 0) < 0)
		return 1;
	__builtin_memset(&p->route, 0, sizeof(p->route));
	p->route.kind = R_TUNNEL;
	p->route.zero = config->family;
	p->route.vni = key.tunnel_id;
	__builtin_memcpy(p->route.mac, p->eth_src, 6);
	if (config->family)
		__builtin_memcpy(p->route.to.w, key.remote_ipv6, 16);
	else
		p->route.to.w[0] = bpf_htonl(key.remote_ipv4);
	return 0;
}

/* Takes the transport header off and says whether the kernel leaves its checksum to the device: then it does not come off. */
FORCE int checksum_is_left(struct __sk_buff *skb, const struct pkt *p)
{
	return bpf_skb_change_tail(skb, p->l4, 0) < 0;
}

/* Refuses the packet, and says so to its sender: what fits, or that it expired, if `mtu` is 0. */
__noinline int pw_tell(struct __sk_buff *skb, struct pkt *p, __u32 mtu)
{
	__u32 zero = 0, quoted, device = skb->ifindex, left_sum = 0;
	union error_frame *e;
	struct addr from;
	__u64 sum;
	__u16 csum;
	int left;

	if (!p)
		return drop(skb, DROP_TTL);
	drop(skb, mtu ? DROP_TOO_BIG : DROP_TTL);
	/* RFC 1122, 3.2.2; RFC 4443, 2.4 (e). Groups were refused before. */
	if (p->is_error || p->frag_off)
		return ACT_SHOT;
	from = p->t.dst;
	if (p->port_kind == PORT_WORKLOAD) {
		struct end_key key = { .kind = K_OWNER << 1 | p->family, .number = p->port, .a = p->t.src };
		void *map = INNER(owners, p);
		struct owner *owner = map ? bpf_map_lookup_elem(map, &key) : NULL;

		if (!owner || !(owner->router.w[0] | owner->router.w[1] | owner->router.w[2] | owner->router.w[3]))
			return ACT_SHOT;
		from = owner->router;
	} else if (p->port_kind == PORT_FABRIC) {
		device = device_of(p, 0);
		if (!device || way_back(skb, p))
			return ACT_SHOT;
	}
	if (pw_told(p))
		return ACT_SHOT;
	e = bpf_map_lookup_elem(&error, &zero);
	if (!e)
		return ACT_SHOT;
	quoted = p->l3_len;
	for (int i = 0; i < (int)sizeof(e->w) / 8; i++)
		*(volatile __u64 *)&e->w[i] = 0;
	if (p->family) {
		if (quoted > QUOTE6)
			quoted = QUOTE6;
		if (quoted < 40 || bpf_skb_load_bytes(skb, ETH_LEN, e->b + 64, quoted) < 0)
			return ACT_SHOT;
	} else {
		if (quoted > QUOTE4)
			quoted = QUOTE4;
		if (quoted < 20 || bpf_skb_load_bytes(skb, ETH_LEN, e->b + 44, quoted) < 0)
			return ACT_SHOT;
	}
	left = checksum_is_left(skb, p);
	if (left) {
		/* What the device writes into the quoted packet makes all that it sums up come to zero; before and after it
		 * differ by the field, which holds a part of the sum until then. */
		__u16 field;

		if (p->is_frag || (p->protocol != P_TCP && p->protocol != P_UDP))
			return ACT_SHOT;
		if (bpf_skb_load_bytes(skb, p->l4 + (p->protocol == P_TCP ? 16 : 6), &field, 2) < 0)
			return ACT_SHOT;
		left_sum = (__u16)~field;
		if (bpf_skb_change_tail(skb, ETH_LEN + quoted, 0) < 0 ||
		    bpf_skb_adjust_room(skb, p->family ? 48 : 28, BPF_ADJ_ROOM_MAC, 0) < 0)
			return ACT_SHOT;
	}
	__builtin_memcpy(e->b + 2, p->eth_src, 6);
	__builtin_memcpy(e->b + 8, p->eth_dst, 6);
	__builtin_memcpy(e->b + 14, &p->eth_type, 2);
	if (p->family) {
		put16(e->b + 20, 8 + quoted);
		e->b[16] = 0x60;
		e->b[22] = P_ICMP6;
		e->b[23] = 64;
		__builtin_memcpy(e->b + 24, from.w, 16);
		__builtin_memcpy(e->b + 40, p->t.src.w, 16);
		e->b[56] = mtu ? 2 : 3;
		mtu = bpf_htonl(mtu);
		__builtin_memcpy(e->b + 60, &mtu, 4);
		/* The pseudo-header: addresses, length and protocol. */
		sum = (__u64)bpf_csum_diff(NULL, 0, (void *)(e->b + 24), 40, 0) + bpf_htons(8 + quoted) + bpf_htons(P_ICMP6);
		if (left)
			sum += (__u64)bpf_csum_diff(NULL, 0, (void *)(e->b + 64), 40, 0) + left_sum;
		else
			sum += (__u64)bpf_csum_diff(NULL, 0, (void *)(e->b + 64), 512, 0) +
			       (__u64)bpf_csum_diff(NULL, 0, (void *)(e->b + 576), 512, 0) +
			       (__u64)bpf_csum_diff(NULL, 0, (void *)(e->b + 1088), QUOTE6 - 1024, 0);
		csum = ~fold(sum);
		__builtin_memcpy(e->b + 58, &csum, 2);
		if (left ? bpf_skb_store_bytes(skb, 0, e->b + 2, 62, 0) < 0
			 : bpf_skb_change_tail(skb, 62 + quoted, 0) < 0 ||
				   bpf_skb_store_bytes(skb, 0, e->b + 2, 62 + quoted, 0) < 0)
			return ACT_SHOT;
	} else {
		e->b[16] = 0x45;
		e->b[17] = 0xc0; /* internetwork control */
		put16(e->b + 18, 28 + quoted);
		e->b[22] = 0x40;
		e->b[24] = 64;
		e->b[25] = P_ICMP;
		__builtin_memcpy(e->b + 28, from.w, 4);
		__builtin_memcpy(e->b + 32, p->t.src.w, 4);
		csum = ~fold(bpf_csum_diff(NULL, 0, (void *)(e->b + 16), 20, 0));
		__builtin_memcpy(e->b + 26, &csum, 2);
		e->b[36] = mtu ? 3 : 11;
		e->b[37] = mtu ? 4 : 0;
		put16(e->b + 42, mtu);
		sum = bpf_csum_diff(NULL, 0, (void *)(e->b + 36), 8, 0);
		if (left)
			sum += (__u64)bpf_csum_diff(NULL, 0, (void *)(e->b + 44), 20, 0) + left_sum;
		else
			sum += (__u64)bpf_csum_diff(NULL, 0, (void *)(e->b + 44), 512, 0) +
			       (__u64)bpf_csum_diff(NULL, 0, (void *)(e->b + 556), QUOTE4 - 512, 0);
		csum = ~fold(sum);
		__builtin_memcpy(e->b + 38, &csum, 2);
		if (left ? bpf_skb_store_bytes(skb, 0, e->b + 2, 42, 0) < 0
			 : bpf_skb_change_tail(skb, 42 + quoted, 0) < 0 ||
				   bpf_skb_store_bytes(skb, 0, e->b + 2, 42 + quoted, 0) < 0)
			return ACT_SHOT;
	}
	if (p->port_kind == PORT_FABRIC) {
		int action = into_tunnel(skb, p, device);

		if (action != ACT_SHOT)
			skb->cb[0] = ANSWERED;
		return action;
	}
	skb->cb[0] = ANSWERED;
	skb->cb[1] = device;
	return bpf_redirect(device, 0);
}

#endif
