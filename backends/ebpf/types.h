/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/* What the maps hold. Numbers are in the machine's order, addresses in the network's. `backends/src/ebpf/schema.rs` writes the
 * same structures; a test compares the sizes with those of the object.
 *
 * INVARIANT: no structure has padding: a key with undefined bytes would look up nothing.
 */
#ifndef PARTYWALL_TYPES_H
#define PARTYWALL_TYPES_H

#include <linux/bpf.h>
#include <linux/types.h>

#define FORCE static __always_inline

/* An IPv4 address is the first word, the others are zero. */
struct addr {
	__u32 w[4];
};

/* Kinds of `struct end_key`, shifted left by one; the lowest bit is the family. */
enum kind {
	K_SRC = 1,      /* number: context; value: class */
	K_DST = 2,      /* likewise */
	K_LEGIT = 3,    /* number: sender and VNI; value: role */
	K_ZONE = 4,     /* number: space; value: zone */
	K_OUTSIDE = 5,  /* number: port; value: 1 */
	K_OPENER = 6,   /* number: opener by port; value: opener */
	K_ANSWER = 7,   /* number: port; value: 1: asked for by a workload */
	K_OWNER = 8,    /* number: port */
	K_HERE = 10,    /* number: port; value: 1 */
	K_UNDERLAY = 11,/* value: 1 */
	K_CELL = 12,    /* number: zone; value: cell of the real address, plus one */
	K_DNAT = 13,    /* number: translation */
	K_SNAT = 14,
	K_MASQ = 15,
	K_KEEP_DST = 16,
	K_KEEP_SRC = 17,
	K_REAL = 18,    /* number: zone; the real address of one that is presented */
	K_SNAT_NET = 19,/* number: what `ranges` has for K_SNAT; the bits in which two prefixes of one length differ */
	K_STATELESS = 20,/* number: space; of what passes without a connection: context of what answers */
};

struct end_key {
	__u32 kind;
	__u32 number;
	struct addr a;
};

struct range_key {
	__u32 prefixlen;
	struct end_key end;
};

enum port_kind { PORT_WORKLOAD = 1, PORT_FABRIC = 2, PORT_OUTSIDE = 3 };

/* A device, or a VNI of the one VXLAN device. */
struct port {
	__u8 kind;
	__u8 zero[3];
	__u32 zone;
	__u32 space;
	__u32 opener;
	__u32 vni;
	__u32 mtu;
};

struct config {
	__u8 mac[6];
	__u8 gateway;
	__u8 log_unknown_vni;
	__u32 bound;
	__u32 family; /* of the underlay: 0 IPv4, 1 IPv6 */
	__u32 udp_port;
	struct addr vtep;
};

struct sender_key {
	struct addr vtep;
	__u32 vni;
};

struct context_key {
	__u32 port;
	__u32 role;
	__u32 zone;
	__u32 direction;
};

struct pair_key {
	__u32 destination;
	__u32 source;
};

/* Which entry of a pair's services. */
enum service_kind {
	S_EXACT = 0,  /* one destination port, or type and code */
	S_ANY = 1,    /* all of a protocol, or SPLIT */
	S_OTHER = 2,  /* protocols without ports that are not named */
	S_REST = 3,   /* what nothing else says: a refusal */
};

struct service_key {
	__u32 pair;
	__u8 protocol;
	__u8 kind;
	__u16 dport;
};

/* Values of services that are no verdicts. */
#define SPLIT 0x0a000000u     /* ask service_ranges */
#define BY_SOURCE 0x0b000000u /* and a number: ask source_ranges */
#define KIND_MASK 0xff000000u

struct service_range_key {
	__u32 prefixlen;
	__u32 pair;
	__u8 protocol;
	__u8 zero;
	__u8 dport[2]; /* network order */
};

struct source_range_key {
	__u32 prefixlen;
	__u32 list;
	__u16 zero;
	__u8 sport[2];
};

enum action { A_DROP = 1, A_GO = 2, A_BUCKET = 3, A_ONLY = 4 };

/* What picks an instance: both real ends, both with their ports, or the sender alone. */
enum flow { F_ENDS = 0, F_PORTS = 1, F_SENDER = 2 };

struct verdict {
	__u8 action;
	__u8 reason;
	__u8 log;
	__u8 flow; /* A_BUCKET: F_ENDS and so on */
	__u32 way[2];
	__u32 xlat;
	__u32 gateway; /* A_BUCKET: row of buckets; A_ONLY: instance */
	__u32 rule[2]; /* that count it, 0: none */
	__u32 logged;  /* number of the rule that logs */
};

enum route_kind { R_DEVICE = 1, R_TUNNEL = 3, R_NEXT_HOP = 4 };

struct route_key {
	__u32 way; /* its lowest bit is the family */
	struct addr a;
};

struct route {
	__u8 kind;
	__u8 zero;
	__u16 mtu;
	__u32 port;
	__u32 vni;
	__u8 mac[6]; /* zero: ask the kernel */
	__u16 zero2;
	struct addr to;
};

struct owner {
	__u8 mac[6];
	__u8 any_mac;
	__u8 zero;
	struct addr router;
};

struct leg_key {
	__u32 port;
	__u32 instance;
};

struct count {
	__u64 packets;
	__u64 bytes;
};

#define PER_PAGE 64

struct counts {
	struct count of[PER_PAGE];
};

struct tuple {
	struct addr src, dst;
	__u16 sport, dport;
};

/* Both directions of a connection have one key: the smaller end first, for ICMP the one that asks. */
struct ct_key {
	__u32 zone;
	__u32 space;
	struct addr a, b;
	__u16 aport, bport;
	__u8 protocol, family;
	__u16 zero;
};

enum ct_state { CT_NEW = 0, CT_REPLIED = 1, CT_CLOSING = 2, CT_RESET = 3 };

/* What a packet of a connection was decided to, and what it was decided by beside its headers. */
struct decided {
	__u64 word;    /* generation, port, and a number that changes with every change; 0: nothing; 1: being written */
	__u64 arrival; /* who sent it */
	__u32 place[2]; /* where it counts */
	__u32 verdict;
	struct route route;
};

/* Beside the kernel's 48 bytes and the key, what most packets touch is three lines of a cache. */
struct ct {
	__u64 seen; /* ns since boot, of the last packet that was let through */
	__u32 xlat;
	__u8 state, swapped, has_alias, protocol;
	__u32 opener;
	__u32 detour; /* when a packet last came by the VXLAN device: `ticks` */
	struct decided decided[2]; /* by direction */
	struct ct_key key;  /* its own */
	struct tuple orig;  /* as the opener's side sees it */
	struct tuple trans; /* as the other side does */
	struct ct_key alias;
};

struct ct_alias {
	struct ct_key main;
	__u32 swapped;
};

struct frag_key {
	__u32 zone;
	__u32 space;
	struct addr src, dst;
	__u32 id;
	__u8 protocol, family;
	__u16 zero;
};

struct frag {
	__u32 next; /* offset that has to come next */
	__u16 sport, dport;
	__u8 tcp_flags;
	__u8 zero[3];
};

struct log_record {
	__u64 time; /* ns since boot */
	__u32 rule;
	__u32 verdict; /* 1: allowed; 0: refused */
	struct tuple tuple;
	__u8 protocol, family;
	__u16 zero;
};

struct log_bucket {
	__u64 second;
	__u64 used;
};

/* Who is told by ICMP errors; the address is zero for all behind a port. */
struct told_key {
	__u32 port;
	struct addr a;
};

/* Bytes that an ICMP error quotes at most: RFC 1812, 4.3.2.3; RFC 4443, 2.4. */
#define QUOTE4 548
#define QUOTE6 1232

/* An ICMP error while it is made: the frame begins two bytes in, so that words stand at multiples of four. */
union error_frame {
	__u8 b[2 + 14 + 40 + 8 + QUOTE6];
	__u64 w[(2 + 14 + 40 + 8 + QUOTE6) / 8];
};

enum reason {
	DROP_UNKNOWN_VNI = 1,
	DROP_BAD_VTEP,
	DROP_SPOOF,
	DROP_UNKNOWN_SOURCE,
	DROP_NO_ROUTE,
	DROP_NOT_EXPOSED,
	DROP_DEFAULT,
	DROP_RULE,
	DROP_INVALID,
	DROP_FRAGMENT,
	DROP_TTL,
	DROP_TOO_BIG,
	DROP_CT_FULL,
	DROP_TO_HOST,
	DROP_CLOSED, /* no generation, or a device that is not in it */
	REASONS,
};

/* What cb[0] says of a packet that was let go. */
enum outcome { SENT_DEVICE = 0x100, SENT_TUNNEL, SENT_NEXT_HOP, ANSWERED, LEFT_ALONE, SENT_WIRE };

/* A packet on its way through the program. */
struct pkt {
	/* arrival */
	__u32 slot, generation;
	__u32 port, port_kind, role, zone, space, opener;
	__u8 mac[6];
	__u8 gateway, log_unknown_vni;
	__u32 underlay; /* 0 IPv4, 1 IPv6 */
	__u32 bound;
	__u32 vtep, udp_port; /* the node's, where the underlay is IPv4 */
	__u32 ecn;
	/* headers */
	__u8 eth_dst[6], eth_src[6];
	__u16 eth_type;
	__u16 l4;     /* offset of the transport header from the frame's start */
	__u32 family; /* 0 IPv4, 1 IPv6 */
	struct tuple t;
	__u8 protocol, ttl, tcp_flags, icmp_type;
	__u16 l3_len; /* IP header and payload, bytes */
	__u16 frag_off;
	__u32 frag_id;
	__u8 more_frags, is_frag, is_error, icmp_query;
	/* an ICMP error: what it quotes */
	struct tuple quoted;
	__u8 quoted_protocol, quoted_icmp, known, direction;
	__u16 quoted_l4;
	__u16 l4_head; /* length of the transport header, bytes */
	__u32 first_flags; /* TCP's, of a fragment those of its first one */
	/* connection */
	struct ct_key key;
	__u32 swapped;
	struct tuple orig, trans;
	__u32 stateless; /* it is of no connection: the context in which it may answer one */
	__u32 xlat, verdict, context;
	__u32 place[2]; /* where the verdict's rules count */
	__u32 way;
	struct ct_alias alias;
	struct ct init;
	__u64 now;
	struct route route;
	__u32 device; /* what the map `devices` says of the route's */
	__u32 zero;
	__u64 arrival;
	struct decided decided;
};

#endif
