/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/* Connections. They tell a packet's direction and the tuple that opened it, and nothing else: what is allowed is decided
 * anew for every packet.
 *
 * An entry lives under the tuple as the opener's side sees it; where a gateway translates, an alias under the other side's
 * tuple leads to it. An entry whose time is over is none. It goes when it is met, and all of them go when somebody's bound
 * is reached, at most once a second: no daemon is needed, and nothing that could fail in between.
 */
#ifndef PARTYWALL_TRACK_H
#define PARTYWALL_TRACK_H

#include "parse.h"

#define SECOND 1000000000ull

FORCE int greater(const struct tuple *t)
{
	if (t->src.w[0] != t->dst.w[0])
		return t->src.w[0] > t->dst.w[0];
	if (t->src.w[1] != t->dst.w[1])
		return t->src.w[1] > t->dst.w[1];
	if (t->src.w[2] != t->dst.w[2])
		return t->src.w[2] > t->dst.w[2];
	if (t->src.w[3] != t->dst.w[3])
		return t->src.w[3] > t->dst.w[3];
	return t->sport > t->dport;
}

/* The key of a tuple, and whether its source is the key's second end. `query` is the type that asks, for ICMP. */
FORCE __u32 make_key(struct ct_key *key, const struct tuple *t, __u32 zone, __u32 space, __u8 protocol, __u8 family,
		     __u8 query)
{
	__u32 swapped = query ? (t->dport >> 8) != query : greater(t);

	key->zone = zone;
	key->space = space;
	key->protocol = protocol;
	key->family = family;
	key->zero = 0;
	if (swapped) {
		key->a = t->dst;
		key->b = t->src;
		key->aport = t->dport;
		key->bport = t->sport;
	} else {
		key->a = t->src;
		key->b = t->dst;
		key->aport = t->sport;
		key->bport = t->dport;
	}
	if (query) {
		key->aport = t->sport;
		key->bport = query;
	}
	return swapped;
}

/* Nanoseconds that an entry lives after its last packet. */
FORCE __u64 lifetime(__u8 protocol, __u8 state)
{
	if (protocol == P_TCP) {
		if (state == CT_REPLIED)
			return 432000 * SECOND;
		if (state == CT_RESET)
			return 10 * SECOND;
		return 120 * SECOND;
	}
	if (protocol == P_UDP)
		return (state == CT_NEW ? 30 : 120) * SECOND;
	if (is_icmp(protocol))
		return 30 * SECOND;
	return 600 * SECOND;
}

/* SOUNDNESS: a remembered verdict is told by 24 bits of its generation's number, so one that is older than this is not
 * believed. No node takes 2^24 generations in an hour. */
#define ROUND (3600 * SECOND)

/* About milliseconds. */
FORCE __u32 ticks(__u64 now)
{
	return now >> 20;
}

/* Loads before it are done before those after it: an atomic operation that returns something is ordered for all. */
FORCE void fence(void)
{
	__u64 nothing = 0;

	(void)__sync_fetch_and_add((volatile __u64 *)&nothing, 1);
	asm volatile("" : : "r"(&nothing) : "memory");
}

FORCE int same_key(const struct ct_key *a, const struct ct_key *b)
{
	return a->zone == b->zone && a->space == b->space && same(&a->a, &b->a) && same(&a->b, &b->b) && a->aport == b->aport &&
	       a->bport == b->bport && a->protocol == b->protocol && a->family == b->family;
}

/* Whether what was read of an entry is of the connection with this key, by which it was found.
 *
 * SOUNDNESS: the kernel gives the memory of an entry that is taken out to another one at once, while others still read it.
 */
FORCE int still(const struct ct *e, const struct ct_key *key)
{
	fence();
	return same_key(&e->key, key);
}

FORCE int ended(const struct ct *e, __u64 now)
{
	/* Another processor's clock may be ahead. */
	return e->seen + lifetime(e->protocol, e->state) < now;
}

FORCE void count_out(__u32 opener)
{
	__u64 *count = bpf_map_lookup_elem(&opened, &opener);

	if (count)
		__sync_fetch_and_add(count, -1);
}

FORCE void end(const struct ct_key *key, struct ct *e)
{
	struct ct_key alias = e->alias;
	__u32 opener = e->opener, has_alias = e->has_alias;

	if (!still(e, key))
		return;
	if (has_alias)
		bpf_map_delete_elem(&aliases, &alias);
	/* Whoever takes it out counts. */
	if (bpf_map_delete_elem(&connections, key) == 0)
		count_out(opener);
}

static long sweep_one(void *map, struct ct_key *key, struct ct *e, __u64 *now)
{
	struct ct_key own = *key;

	if (ended(e, *now))
		end(&own, e);
	return 0;
}

/* Takes out all that ended. Nonzero: somebody did in this second. */
__noinline int pw_sweep(struct pkt *p)
{
	__u32 zero = 0;
	__u64 *last, now, then;

	if (!p)
		return 1;
	now = p->now;
	last = bpf_map_lookup_elem(&swept, &zero);
	if (!last)
		return 1;
	then = *(volatile __u64 *)last;
	if (then == now / SECOND || __sync_val_compare_and_swap(last, then, now / SECOND) != then)
		return 1;
	bpf_for_each_map_elem(&connections, sweep_one, &now, 0);
	return 0;
}

/* The state after a packet in this direction. */
FORCE void advance(struct ct *e, const struct pkt *p)
{
	if (p->is_error)
		return;
	if (p->protocol == P_TCP) {
		if (p->tcp_flags & TCP_RST)
			e->state = CT_RESET;
		else if (p->tcp_flags & TCP_FIN)
			e->state = CT_CLOSING;
		else if ((p->tcp_flags & TCP_SYN) && !p->direction && e->state >= CT_CLOSING)
			e->state = CT_NEW;
		else if (p->direction && e->state == CT_NEW)
			e->state = CT_REPLIED;
	} else if (p->direction) {
		e->state = CT_REPLIED;
	}
}

/* One more connection of this opener; a reason where it has too many. */
FORCE int count_one(__u32 opener, __u32 bound)
{
	__u64 *count = bpf_map_lookup_elem(&opened, &opener), none = 0;

	if (!count) {
		bpf_map_update_elem(&opened, &opener, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&opened, &opener);
		if (!count)
			return DROP_CT_FULL;
	}
	if (__sync_fetch_and_add(count, 1) >= bound) {
		__sync_fetch_and_add(count, -1);
		return DROP_CT_FULL;
	}
	return 0;
}

__noinline int pw_count_in(struct pkt *p)
{
	if (!p)
		return DROP_CT_FULL;
	if (!count_one(p->opener, p->bound))
		return 0;
	return pw_sweep(p) ? DROP_CT_FULL : count_one(p->opener, p->bound);
}

/* Takes the tuple of the other side; for a masquerade the first port that is free of some. `p->alias.main` becomes the key
 * that was taken, and leads to `p->key`. */
#define TRIES 16

/* One try. 0: taken; 1: somebody else's; -1: no room. */
__noinline int pw_take(struct pkt *p, __u32 other_space)
{
	struct ct_alias value, *there;
	struct ct_key key, main;
	struct ct *e;

	if (!p)
		return -1;
	value.main = p->key;
	value.swapped = make_key(&key, &p->trans, p->zone, other_space, p->protocol, p->family, p->icmp_query);
	p->alias.main = key;
	if (bpf_map_update_elem(&aliases, &key, &value, BPF_NOEXIST) == 0)
		return 0;
	there = bpf_map_lookup_elem(&aliases, &key);
	if (!there)
		return -1;
	main = there->main;
	if (same_key(&main, &p->key))
		return 0;
	/* Whose time is over has nothing any more. Where there is no connection yet, somebody is about to open it. */
	e = bpf_map_lookup_elem(&connections, &main);
	if (!e || !ended(e, p->now))
		return 1;
	end(&main, e);
	return !!bpf_map_update_elem(&aliases, &key, &value, BPF_NOEXIST);
}

__noinline int pw_reserve(struct pkt *p, __u32 other_space, __u32 masquerade)
{
	if (!p)
		return DROP_INVALID;
	for (int i = 0; i < TRIES; i++) {
		int taken = pw_take(p, other_space);

		if (taken == 0)
			return 0;
		/* The checksum of SCTP covers its ports in a way that is not mended here. */
		if (taken < 0 || !masquerade || !(p->protocol == P_TCP || p->protocol == P_UDP || p->icmp_query))
			return DROP_CT_FULL;
		p->trans.sport = 1024 + bpf_get_prandom_u32() % 64512;
	}
	return DROP_CT_FULL;
}

/* Makes the entry of a new connection that is allowed. */
__noinline int pw_open(struct pkt *p, __u32 has_alias)
{
	struct ct *e;

	if (!p)
		return DROP_INVALID;
	__builtin_memset(&p->init, 0, sizeof(p->init));
	p->init.seen = p->now;
	p->init.detour = ticks(p->now);
	p->init.key = p->key;
	p->init.orig = p->orig;
	p->init.trans = p->trans;
	if (has_alias)
		p->init.alias = p->alias.main;
	p->init.xlat = p->xlat;
	p->init.opener = p->opener;
	p->init.swapped = p->swapped;
	p->init.has_alias = has_alias;
	p->init.protocol = p->protocol;
	if (p->protocol == P_TCP && (p->tcp_flags & TCP_ACK))
		p->init.state = CT_REPLIED; /* taken up in the middle */
	if (bpf_map_update_elem(&connections, &p->key, &p->init, BPF_NOEXIST) == 0)
		return 0;
	/* Another processor was first, or there is no room. */
	e = bpf_map_lookup_elem(&connections, &p->key);
	if (!e || !same(&e->trans.src, &p->trans.src) || e->trans.sport != p->trans.sport) {
		if (has_alias)
			bpf_map_delete_elem(&aliases, &p->alias.main);
		return DROP_CT_FULL;
	}
	count_out(p->opener);
	return 0;
}

#endif
