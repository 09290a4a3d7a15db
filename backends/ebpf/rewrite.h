/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/* Translation of headers, with checksums mended by what changed. */
#ifndef PARTYWALL_REWRITE_H
#define PARTYWALL_REWRITE_H

#include "decide.h"

#define IP4_CSUM (ETH_LEN + 10)
#define IP4_SRC (ETH_LEN + 12)
#define IP4_DST (ETH_LEN + 16)
#define IP6_SRC (ETH_LEN + 8)
#define IP6_DST (ETH_LEN + 24)

/* A checksum after a difference that `bpf_csum_diff` gave. */
FORCE __u16 mended(__u16 csum, __u32 diff)
{
	return ~fold((__u64)(__u16)~csum + diff);
}

/* Where the transport checksum stands and how it is mended; 0: there is none. */
FORCE __u32 csum_at(const struct pkt *p, __u64 *flags)
{
	if (p->frag_off)
		return 0;
	*flags = 0;
	if (p->protocol == P_TCP)
		return p->l4 + 16;
	if (p->protocol == P_UDP) {
		*flags = BPF_F_MARK_MANGLED_0;
		return p->l4 + 6;
	}
	if (is_icmp(p->protocol))
		return p->l4 + 2;
	return 0;
}

/* One address of the IP header. Nonzero: the kernel refused. */
__noinline int pw_set_addr(struct __sk_buff *skb, struct pkt *p, const struct addr *to, __u32 destination)
{
	struct addr old, new;
	__u64 flags = 0;
	__u32 csum;

	if (!p || !to)
		return 1;
	old = destination ? p->t.dst : p->t.src;
	new = *to;
	if (same(&old, &new))
		return 0;
	csum = csum_at(p, &flags);
	if (p->family == 0) {
		__u32 at = destination ? IP4_DST : IP4_SRC;

		/* The checksum of ICMP covers no addresses, that of ICMPv6 does. */
		if (csum && p->protocol != P_ICMP &&
		    bpf_l4_csum_replace(skb, csum, old.w[0], new.w[0], flags | BPF_F_PSEUDO_HDR | 4) < 0)
			return 1;
		if (bpf_l3_csum_replace(skb, IP4_CSUM, old.w[0], new.w[0], 4) < 0)
			return 1;
		if (bpf_skb_store_bytes(skb, at, new.w, 4, 0) < 0)
			return 1;
	} else {
		__s64 diff = bpf_csum_diff(old.w, 16, new.w, 16, 0);

		if (csum && bpf_l4_csum_replace(skb, csum, 0, diff, flags | BPF_F_PSEUDO_HDR) < 0)
			return 1;
		if (bpf_skb_store_bytes(skb, destination ? IP6_DST : IP6_SRC, new.w, 16, 0) < 0)
			return 1;
	}
	if (destination)
		p->t.dst = new;
	else
		p->t.src = new;
	return 0;
}

/* A port, or the id of an ICMP query, in the machine's order. */
__noinline int pw_set_port(struct __sk_buff *skb, struct pkt *p, __u16 to, __u32 destination)
{
	__u16 old, new = bpf_htons(to);
	__u64 flags = 0;
	__u32 csum, at;

	if (!p)
		return 1;
	old = bpf_htons(destination && !p->icmp_query ? p->t.dport : p->t.sport);
	if (old == new || p->frag_off)
		return 0;
	csum = csum_at(p, &flags);
	at = p->l4 + (p->icmp_query ? 4 : destination ? 2 : 0);
	if (!csum || bpf_l4_csum_replace(skb, csum, old, new, flags | 2) < 0)
		return 1;
	return bpf_skb_store_bytes(skb, at, &new, 2, 0) < 0;
}

FORCE void put16(__u8 *at, __u16 value)
{
	at[0] = value >> 8;
	at[1] = value & 0xff;
}

/* The packet that an ICMP error quotes, led back to how its sender sent it: `q` is what it has to show. */
__noinline int pw_set_quoted(struct __sk_buff *skb, struct pkt *p, const struct tuple *q)
{
	/* Addresses, then ports: what checksums of the quoted packet cover. */
	__u32 before[9], after[9];
	union error_frame *room;
	__u32 at, head, diff, zero = 0;
	__u8 *old, *new;
	__u16 csum;

	if (!p || !q)
		return 1;
	/* The stack is small. Nobody makes an error of this packet. */
	room = bpf_map_lookup_elem(&error, &zero);
	if (!room)
		return 1;
	old = room->b;
	new = room->b + 48;
	head = p->family ? 40 : 20;
	at = p->l4 + 8;
	if (p->family) {
		if (bpf_skb_load_bytes(skb, at, old, 48) < 0)
			return 1;
	} else {
		__builtin_memset(old, 0, 48);
		if (bpf_skb_load_bytes(skb, at, old, 28) < 0)
			return 1;
	}
	__builtin_memcpy(new, old, 48);
	__builtin_memset(before, 0, sizeof(before));
	__builtin_memset(after, 0, sizeof(after));
	__builtin_memcpy(before, &p->quoted.src, 32);
	__builtin_memcpy(after, &q->src, 32);
	if (p->family) {
		__builtin_memcpy(new + 8, &q->src, 16);
		__builtin_memcpy(new + 24, &q->dst, 16);
	} else {
		__builtin_memcpy(new + 12, q->src.w, 4);
		__builtin_memcpy(new + 16, q->dst.w, 4);
		__builtin_memcpy(&csum, old + 10, 2);
		csum = mended(csum, bpf_csum_diff(before, 32, after, 32, 0));
		__builtin_memcpy(new + 10, &csum, 2);
	}
	if (p->quoted_icmp) {
		before[8] = bpf_htons(p->quoted.sport);
		after[8] = bpf_htons(q->sport);
	} else if (with_ports(p->quoted_protocol)) {
		before[8] = bpf_htons(p->quoted.sport) | (__u32)bpf_htons(p->quoted.dport) << 16;
		after[8] = bpf_htons(q->sport) | (__u32)bpf_htons(q->dport) << 16;
	}
	diff = bpf_csum_diff(before, 36, after, 36, 0);
	if (p->family) {
		__u8 *l4 = new + 40;

		if (p->quoted_icmp) {
			put16(l4 + 4, q->sport);
			__builtin_memcpy(&csum, l4 + 2, 2);
			csum = mended(csum, diff);
			__builtin_memcpy(l4 + 2, &csum, 2);
		} else if (with_ports(p->quoted_protocol)) {
			put16(l4, q->sport);
			put16(l4 + 2, q->dport);
		}
		if (p->quoted_protocol == P_UDP) {
			__builtin_memcpy(&csum, l4 + 6, 2);
			csum = mended(csum, diff);
			__builtin_memcpy(l4 + 6, &csum, 2);
		}
	} else {
		__u8 *l4 = new + 20;

		if (p->quoted_icmp) {
			put16(l4 + 4, q->sport);
			__builtin_memcpy(&csum, l4 + 2, 2);
			csum = mended(csum, bpf_csum_diff(before + 8, 4, after + 8, 4, 0));
			__builtin_memcpy(l4 + 2, &csum, 2);
		} else if (with_ports(p->quoted_protocol)) {
			put16(l4, q->sport);
			put16(l4 + 2, q->dport);
		}
		if (p->quoted_protocol == P_UDP) {
			__builtin_memcpy(&csum, l4 + 6, 2);
			if (csum) {
				csum = mended(csum, diff);
				if (!csum)
					csum = 0xffff;
				__builtin_memcpy(l4 + 6, &csum, 2);
			}
		}
	}
	if (bpf_l4_csum_replace(skb, p->l4 + 2, 0, bpf_csum_diff((void *)old, 48, (void *)new, 48, 0), 0) < 0)
		return 1;
	if (p->family) {
		if (bpf_skb_store_bytes(skb, at, new, 48, 0) < 0)
			return 1;
	} else {
		if (bpf_skb_store_bytes(skb, at, new, 28, 0) < 0)
			return 1;
	}
	at += head + 16;
	if (p->quoted_protocol == P_TCP && at + 2 <= (__u32)p->l3_len + ETH_LEN) {
		__u32 was = 0, is = 0;

		if (bpf_skb_load_bytes(skb, at, &csum, 2) < 0)
			return 1;
		was = csum;
		csum = mended(csum, diff);
		is = csum;
		if (bpf_l4_csum_replace(skb, p->l4 + 2, was, is, 2) < 0 || bpf_skb_store_bytes(skb, at, &csum, 2, 0) < 0)
			return 1;
	}
	return 0;
}

/* A gateway's translation of a packet of a known or new connection. */
__noinline int pw_rewrite(struct __sk_buff *skb, struct pkt *p)
{
	struct addr src, dst;

	if (!p)
		return 1;
	if (p->is_error) {
		struct tuple q;

		if (p->direction) {
			q = p->orig;
			dst = p->orig.src;
			src = same(&p->orig.dst, &p->trans.dst) ? p->t.src : p->orig.dst;
			if (p->quoted_icmp)
				q.dport = p->quoted.dport;
		} else {
			q.src = p->trans.dst;
			q.dst = p->trans.src;
			q.sport = p->trans.dport;
			q.dport = p->trans.sport;
			if (p->quoted_icmp) {
				q.sport = p->trans.sport;
				q.dport = p->quoted.dport;
			}
			dst = p->trans.dst;
			src = same(&p->orig.src, &p->trans.src) ? p->t.src : p->trans.src;
		}
		if (pw_set_quoted(skb, p, &q))
			return 1;
		return pw_set_addr(skb, p, &src, 0) || pw_set_addr(skb, p, &dst, 1);
	}
	if (p->direction) {
		src = p->orig.dst;
		dst = p->orig.src;
		if (pw_set_port(skb, p, p->orig.sport, 1))
			return 1;
	} else {
		src = p->trans.src;
		dst = p->trans.dst;
		if (pw_set_port(skb, p, p->trans.sport, 0))
			return 1;
	}
	return pw_set_addr(skb, p, &src, 0) || pw_set_addr(skb, p, &dst, 1);
}

#endif
