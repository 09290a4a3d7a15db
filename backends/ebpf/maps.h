/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/* Two kinds of maps: those of a generation, of which each outer map holds one per slot, and permanent ones. */
#ifndef PARTYWALL_MAPS_H
#define PARTYWALL_MAPS_H

#include "types.h"
#include <bpf/bpf_helpers.h>

#define OF_GENERATION(name, kind, flags, keytype, valuetype)                                                               \
	struct inner_##name {                                                                                              \
		__uint(type, kind);                                                                                        \
		__uint(map_flags, flags);                                                                                  \
		__uint(max_entries, 1);                                                                                    \
		__uint(key_size, sizeof(keytype));                                                                                      \
		__uint(value_size, sizeof(valuetype));                                                                                  \
	};                                                                                                                 \
	struct {                                                                                                           \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                                                  \
		__uint(max_entries, 2);                                                                                    \
		__type(key, __u32);                                                                                        \
		__array(values, struct inner_##name);                                                                      \
	} name SEC(".maps")

#define HASH(name, k, v) OF_GENERATION(name, BPF_MAP_TYPE_HASH, 0, k, v)
#define LPM(name, k, v) OF_GENERATION(name, BPF_MAP_TYPE_LPM_TRIE, BPF_F_NO_PREALLOC, k, v)
#define ARRAY(name, v) OF_GENERATION(name, BPF_MAP_TYPE_ARRAY, BPF_F_INNER_MAP, __u32, v)

ARRAY(settings, struct config);
HASH(ifindexes, __u32, __u32);             /* ifindex → port; filled where it is loaded */
ARRAY(devices, __u32);                     /* port → ifindex; likewise. 0: the VXLAN device; 1: the underlay's */
HASH(hosts, struct addr, __u32);           /* the machine's own addresses; likewise */
ARRAY(ports, struct port);
HASH(vnis, __u32, __u32);                  /* VNI → port */
HASH(senders, struct sender_key, __u32);
HASH(ends, struct end_key, __u32);
LPM(ranges, struct range_key, __u32);
HASH(owners, struct end_key, struct owner);
HASH(contexts, struct context_key, __u32);
HASH(pairs, struct pair_key, __u32);
HASH(services, struct service_key, __u32);
LPM(service_ranges, struct service_range_key, __u32);
LPM(source_ranges, struct source_range_key, __u32);
ARRAY(verdicts, struct verdict);
HASH(routes, struct route_key, struct route);
HASH(translations, struct end_key, struct addr);
ARRAY(buckets, __u32);                     /* row of a gateway · 4096 + cell · 64 + cell → instance */
HASH(legs, struct leg_key, __u32);         /* → way */

ARRAY(grace, __u32);                       /* holds nothing: a write to it waits for packets under way */

/* The generation that runs: its number shifted left by one, and its slot. 0: none, everything is closed. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} cell SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1048576);
	__type(key, struct ct_key);
	__type(value, struct ct);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1048576);
	__type(key, struct ct_key);
	__type(value, struct ct_alias);
} aliases SEC(".maps");

/* Open connections by opener. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u64);
} opened SEC(".maps");

/* The second in which ended connections were last swept. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} swept SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct frag_key);
	__type(value, struct frag);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 32);
	__type(key, __u32);
	__type(value, struct count);
} reasons SEC(".maps");

/* Rule → the place where it counts. Under 0, which no rule is: the last place that was given to one. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1048576);
	__type(key, __u32);
	__type(value, __u32);
} rules SEC(".maps");

/* Place / PER_PAGE → counters of rules, side by side: a hash of single ones would cost each packet three lines of the cache that no other
 * rule shares, and with thousands of rules in use they are not there.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, __u32);
	__type(value, struct counts);
} counts SEC(".maps");

/* A page on which nothing has been counted. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} blank SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 262144);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct log_bucket);
} log_limits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pkt);
} scratch SEC(".maps");

/* ICMP errors by whom they tell. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct told_key);
	__type(value, struct log_bucket);
} told SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, union error_frame);
} error SEC(".maps");

/* A map of the packet's generation. */
#define INNER(name, p) bpf_map_lookup_elem(&name, &(p)->slot)

#endif
