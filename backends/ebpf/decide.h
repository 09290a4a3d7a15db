/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/* The decision on a connection's original tuple: a handful of lookups, however long the policy is. What no map has is
 * dropped: "not in a map" never means allow.
 */
#ifndef PARTYWALL_DECIDE_H
#define PARTYWALL_DECIDE_H

#include "track.h"

FORCE __u32 *end_of(struct pkt *p, __u32 kind, __u32 number, const struct addr *a)
{
	struct end_key key = { .kind = kind << 1 | p->family, .number = number, .a = *a };
	void *map = INNER(ends, p);

	return map ? bpf_map_lookup_elem(map, &key) : NULL;
}

FORCE __u32 *range_of(struct pkt *p, __u32 kind, __u32 number, const struct addr *a)
{
	struct range_key key = {
		.prefixlen = 64 + (p->family ? 128 : 32),
		.end = { .kind = kind << 1 | p->family, .number = number, .a = *a },
	};
	void *map = INNER(ranges, p);

	return map ? bpf_map_lookup_elem(map, &key) : NULL;
}

__noinline __u32 pw_end(struct pkt *p, __u32 kind, __u32 number, const struct addr *a)
{
	__u32 *found;

	if (!p || !a)
		return 0;
	found = end_of(p, kind, number, a);
	if (!found)
		found = range_of(p, kind, number, a);
	return found ? *found : 0;
}

__noinline __u32 pw_range(struct pkt *p, __u32 kind, __u32 number, const struct addr *a)
{
	__u32 *found;

	if (!p || !a)
		return 0;
	found = range_of(p, kind, number, a);
	return found ? *found : 0;
}

FORCE __u32 service(struct pkt *p, void *map, __u32 pair, __u8 kind, __u8 protocol, __u16 dport)
{
	struct service_key key = { .pair = pair, .protocol = protocol, .kind = kind, .dport = dport };
	__u32 *found = bpf_map_lookup_elem(map, &key);

	return found ? *found : 0;
}

/* The verdict on a pair of classes and the service of the original tuple; 0: none. */
__noinline __u32 pw_service(struct pkt *p, __u32 pair)
{
	__u32 verdict;
	void *map;

	if (!p)
		return 0;
	map = INNER(services, p);
	if (!map)
		return 0;
	if (with_ports(p->protocol) || is_icmp(p->protocol)) {
		verdict = service(p, map, pair, S_EXACT, p->protocol, p->orig.dport);
		if (!verdict)
			verdict = service(p, map, pair, S_ANY, p->protocol, 0);
		if (verdict == SPLIT) {
			struct service_range_key key = {
				.prefixlen = 64,
				.pair = pair,
				.protocol = p->protocol,
				.dport = { p->orig.dport >> 8, p->orig.dport & 0xff },
			};
			void *ranges = INNER(service_ranges, p);
			__u32 *found = ranges ? bpf_map_lookup_elem(ranges, &key) : NULL;

			verdict = found ? *found : 0;
		}
		if ((verdict & KIND_MASK) == BY_SOURCE) {
			struct source_range_key key = {
				.prefixlen = 64,
				.list = verdict & ~KIND_MASK,
				.sport = { p->orig.sport >> 8, p->orig.sport & 0xff },
			};
			void *ranges = INNER(source_ranges, p);
			__u32 *found = ranges ? bpf_map_lookup_elem(ranges, &key) : NULL;

			verdict = found ? *found : 0;
		}
	} else {
		verdict = service(p, map, pair, S_EXACT, p->protocol, 0);
		if (!verdict)
			verdict = service(p, map, pair, S_OTHER, 0, 0);
	}
	if (!verdict)
		verdict = service(p, map, pair, S_REST, 0, 0);
	return verdict;
}

/* The context in which the original tuple is read; 0: this packet cannot have come in this way. */
__noinline __u32 pw_context(struct pkt *p)
{
	struct context_key key;
	__u32 *found;
	void *map;

	if (!p)
		return 0;
	key.port = p->port;
	key.role = p->role;
	key.zone = p->zone;
	key.direction = p->direction;
	map = INNER(contexts, p);
	found = map ? bpf_map_lookup_elem(map, &key) : NULL;
	return found ? *found : 0;
}

/* Decides the original tuple in a context: sets the verdict's number, or returns why there is none. */
__noinline int pw_decide(struct pkt *p)
{
	struct pair_key key;
	__u32 *found;
	void *map;

	if (!p)
		return DROP_DEFAULT;
	key.source = pw_end(p, K_SRC, p->context, &p->orig.src);
	if (!key.source)
		return DROP_UNKNOWN_SOURCE;
	key.destination = pw_end(p, K_DST, p->context, &p->orig.dst);
	if (!key.destination)
		return DROP_NO_ROUTE;
	map = INNER(pairs, p);
	found = map ? bpf_map_lookup_elem(map, &key) : NULL;
	if (!found)
		return DROP_NOT_EXPOSED;
	p->verdict = pw_service(p, *found) & ~KIND_MASK;
	return p->verdict ? 0 : DROP_DEFAULT;
}

/* Set in the context of what answers. */
#define ANSWERS 0x00800000u

/* Whoever opens a TCP connection sends SYN without ACK; whoever answers, ACK or RST. */
FORCE int may_answer(const struct pkt *p)
{
	__u32 flags = p->first_flags;

	return p->protocol != P_TCP || ((flags & (TCP_SYN | TCP_ACK)) != TCP_SYN && (flags & (TCP_ACK | TCP_RST)));
}

/* The same of a packet that is of no connection, by what it shows: first as one that answers, then as one that opens. */
__noinline int pw_decide_alone(struct pkt *p)
{
	if (!p)
		return DROP_DEFAULT;
	p->context = p->stateless;
	if (may_answer(p) && !pw_decide(p))
		return 0;
	p->context &= ~ANSWERS;
	return pw_decide(p);
}

/* ICMP about other packets, or about a link's own matters: where no connection is known it is about none. */
FORCE int speaks_of_others(const struct pkt *p)
{
	const __u64 v4 = 1ull << 3 | 1ull << 4 | 1ull << 5 | 1ull << 9 | 1ull << 10 | 1ull << 11 | 1ull << 12 | 1ull << 31;
	const __u64 v6 = 0xffull << 2 | 1ull << 15 | 3ull << 20 | 7ull << 23; /* from 128 on */
	__u32 type = p->icmp_type;

	if (p->protocol == P_ICMP)
		return type < 64 && (v4 >> type & 1);
	return p->protocol == P_ICMP6 && (type < 128 || (type < 192 && (v6 >> (type & 63) & 1)));
}

/* Linux' jhash (include/linux/jhash.h) of 4 or 16 bytes. */
FORCE __u32 rol(__u32 word, __u32 by)
{
	return word << by | word >> (32 - by);
}

FORCE __u32 jhash_final(__u32 a, __u32 b, __u32 c)
{
	c ^= b;
	c -= rol(b, 14);
	a ^= c;
	a -= rol(c, 11);
	b ^= a;
	b -= rol(a, 25);
	c ^= b;
	c -= rol(b, 16);
	a ^= c;
	a -= rol(c, 4);
	b ^= a;
	b -= rol(a, 14);
	c ^= b;
	c -= rol(b, 24);
	return c;
}

#define SEED 0x5057u
#define CELLS 64u

/* The cell of a real address, 0 to 63; of the address followed by its port and two zero bytes, where `flow` says so. */
__noinline __u32 pw_cell(__u32 family, const struct addr *at, __u32 flow, __u32 port)
{
	__u32 start, a, b, c;

	if (!at)
		return 0;
	start = 0xdeadbeefu + (family ? 16 : 4) + (flow ? 4 : 0) + SEED;
	a = b = c = start;
	port = bpf_htons(port);
	if (family) {
		a += at->w[0];
		b += at->w[1];
		c += at->w[2];
		a -= c; a ^= rol(c, 4); c += b;
		b -= a; b ^= rol(a, 6); a += c;
		c -= b; c ^= rol(b, 8); b += a;
		a -= c; a ^= rol(c, 16); c += b;
		b -= a; b ^= rol(a, 19); a += c;
		c -= b; c ^= rol(b, 4); b += a;
		a += at->w[3];
	} else {
		a += at->w[0];
	}
	if (flow)
		b += port;
	return (__u64)jhash_final(a, b, c) * CELLS >> 32;
}

/* The cell of one end of the original tuple. */
FORCE __u32 cell_of(struct pkt *p, const struct addr *at, __u32 flow, __u32 port)
{
	struct end_key key;
	struct addr *real;
	__u32 *found;
	void *map;

	if (!flow) {
		found = end_of(p, K_CELL, p->zone, at);
		return found ? *found - 1 : pw_cell(p->family, at, 0, 0);
	}
	key.kind = K_REAL << 1 | p->family;
	key.number = p->zone;
	key.a = *at;
	map = INNER(translations, p);
	real = map ? bpf_map_lookup_elem(map, &key) : NULL;
	if (real)
		key.a = *real;
	return pw_cell(p->family, &key.a, 1, with_ports(p->protocol) ? port : 0);
}

/* The instance of a gateway that this connection passes, or this packet, by the buckets of real ends; 0: none is alive. */
__noinline __u32 pw_instance(struct pkt *p, __u32 row, __u32 flow)
{
	__u32 here, there, index, *found;
	void *map;

	if (!p)
		return 0;
	if (flow == F_SENDER) {
		/* It lives here, and shows its real address. */
		here = there = pw_cell(p->family, &p->t.src, 0, 0);
	} else {
		here = cell_of(p, &p->orig.src, flow, p->orig.sport);
		there = cell_of(p, &p->orig.dst, flow, p->orig.dport);
	}
	index = row * (CELLS * CELLS) + (here & 63) * CELLS + (there & 63);
	map = INNER(buckets, p);
	found = map ? bpf_map_lookup_elem(map, &index) : NULL;
	return found ? *found : 0;
}

/* What the other side of a gateway sees of a new connection; `*masquerade` where its port may be changed. */
__noinline int pw_translate(struct pkt *p, __u32 *masquerade)
{
	struct end_key key = {};
	struct addr *found;
	void *map;

	if (!p || !masquerade)
		return DROP_NO_ROUTE;
	p->trans = p->orig;
	map = INNER(translations, p);
	if (!map)
		return DROP_NO_ROUTE;
	key.number = p->xlat;
	key.kind = K_KEEP_DST << 1;
	if (!bpf_map_lookup_elem(map, &key)) {
		key.kind = K_DNAT << 1 | p->family;
		key.a = p->orig.dst;
		found = bpf_map_lookup_elem(map, &key);
		if (!found)
			return DROP_NO_ROUTE;
		p->trans.dst = *found;
	}
	__builtin_memset(&key.a, 0, sizeof(key.a));
	key.kind = K_MASQ << 1 | p->family;
	found = bpf_map_lookup_elem(map, &key);
	if (found) {
		p->trans.src = *found;
		*masquerade = 1;
		return 0;
	}
	key.kind = K_KEEP_SRC << 1;
	if (!bpf_map_lookup_elem(map, &key)) {
		key.kind = K_SNAT << 1 | p->family;
		key.a = p->orig.src;
		found = bpf_map_lookup_elem(map, &key);
		if (found) {
			p->trans.src = *found;
			return 0;
		}
		/* An external's: hosts keep their bits behind the prefix. */
		key.kind = K_SNAT_NET << 1 | p->family;
		key.number = pw_range(p, K_SNAT, p->xlat, &p->orig.src);
		__builtin_memset(&key.a, 0, sizeof(key.a));
		found = key.number ? bpf_map_lookup_elem(map, &key) : NULL;
		if (!found)
			return DROP_NO_ROUTE;
		for (int i = 0; i < 4; i++)
			p->trans.src.w[i] = p->orig.src.w[i] ^ found->w[i];
	}
	return 0;
}

#endif
