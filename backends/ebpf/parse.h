/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/* From bytes to `struct pkt`. What cannot be classified is refused. */
#ifndef PARTYWALL_PARSE_H
#define PARTYWALL_PARSE_H

#include "maps.h"
#include <bpf/bpf_endian.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#define ETH_LEN 14

#define P_ICMP 1
#define P_TCP 6
#define P_UDP 17
#define P_ICMP6 58
#define P_SCTP 132

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_URG 0x20

FORCE int with_ports(__u8 protocol)
{
	return protocol == P_TCP || protocol == P_UDP || protocol == P_SCTP;
}

FORCE int is_icmp(__u8 protocol)
{
	return protocol == P_ICMP || protocol == P_ICMP6;
}

/* The type that asks, for a type that asks or answers; 0: neither. */
FORCE __u8 query_of(__u8 protocol, __u8 type)
{
	if (protocol == P_ICMP) {
		if (type == 8 || type == 0)
			return 8;
		if (type == 13 || type == 14)
			return 13;
		if (type == 15 || type == 16)
			return 15;
		if (type == 17 || type == 18)
			return 17;
		return 0;
	}
	if (type == 128 || type == 129)
		return 128;
	if (type == 139 || type == 140)
		return 139;
	return 0;
}

FORCE int icmp_error(__u8 protocol, __u8 type)
{
	if (protocol == P_ICMP)
		return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

/* The combinations of flags that TCP has; PSH, ECE and CWR go with any. */
FORCE int tcp_flags_valid(__u8 flags)
{
	switch (flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK | TCP_URG)) {
	case TCP_SYN:
	case TCP_SYN | TCP_URG:
	case TCP_SYN | TCP_ACK:
	case TCP_RST:
	case TCP_RST | TCP_ACK:
	case TCP_FIN | TCP_ACK:
	case TCP_FIN | TCP_ACK | TCP_URG:
	case TCP_ACK:
	case TCP_ACK | TCP_URG:
		return 1;
	}
	return 0;
}

/* Extension headers that are not looked into. */
FORCE int extension(__u8 next)
{
	return next == 0 || next == 43 || next == 44 || next == 60 || next == 135 || next == 139 || next == 140;
}

FORCE void addr4(struct addr *a, __u32 value)
{
	a->w[0] = value;
	a->w[1] = 0;
	a->w[2] = 0;
	a->w[3] = 0;
}

FORCE void addr6(struct addr *a, const struct in6_addr *value)
{
	__builtin_memcpy(a->w, value, sizeof(a->w));
}

FORCE int same(const struct addr *a, const struct addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

FORCE __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Whether the checksum of an IPv4 header without options is wrong. Routers drop such a packet (RFC 1812, 5.2.2), and what is redirected
 * passes nobody else who would.
 */
FORCE int bad_sum(const struct iphdr *h)
{
	const __u32 *w = (const void *)h;

	return fold((__u64)w[0] + w[1] + w[2] + w[3] + w[4]) != 0xffff;
}

/* The packet that an ICMP error quotes; `at` is where its IP header begins. Nonzero: it quotes none. */
__noinline int pw_quoted(struct __sk_buff *skb, struct pkt *p)
{
	__u8 l4[8];
	__u32 at;

	if (!p)
		return DROP_INVALID;
	at = p->l4 + 8;
	if (p->family == 0) {
		struct iphdr h;

		if (bpf_skb_load_bytes(skb, at, &h, sizeof(h)) < 0)
			return DROP_INVALID;
		if (h.version != 4 || h.ihl != 5 || (h.frag_off & bpf_htons(0x1fff)))
			return DROP_INVALID;
		addr4(&p->quoted.src, h.saddr);
		addr4(&p->quoted.dst, h.daddr);
		p->quoted_protocol = h.protocol;
		at += sizeof(h);
	} else {
		struct ipv6hdr h;

		if (bpf_skb_load_bytes(skb, at, &h, sizeof(h)) < 0)
			return DROP_INVALID;
		if (h.version != 6 || extension(h.nexthdr))
			return DROP_INVALID;
		addr6(&p->quoted.src, &h.saddr);
		addr6(&p->quoted.dst, &h.daddr);
		p->quoted_protocol = h.nexthdr;
		at += sizeof(h);
	}
	p->quoted_l4 = at;
	if (at + 8 > (__u32)p->l3_len + ETH_LEN || bpf_skb_load_bytes(skb, at, l4, sizeof(l4)) < 0)
		return DROP_INVALID;
	p->quoted.sport = 0;
	p->quoted.dport = 0;
	p->quoted_icmp = 0;
	if (with_ports(p->quoted_protocol)) {
		p->quoted.sport = l4[0] << 8 | l4[1];
		p->quoted.dport = l4[2] << 8 | l4[3];
	} else if (is_icmp(p->quoted_protocol)) {
		p->quoted_icmp = query_of(p->quoted_protocol, l4[0]);
		if (!p->quoted_icmp)
			return DROP_INVALID;
		p->quoted.sport = l4[4] << 8 | l4[5];
		p->quoted.dport = l4[0] << 8 | l4[1];
	}
	/* It goes to whoever sent what it quotes. */
	return same(&p->quoted.src, &p->t.dst) ? 0 : DROP_INVALID;
}

/* The transport header of a packet that has one. */
__noinline int pw_transport(struct __sk_buff *skb, struct pkt *p)
{
	__u8 l4[20];
	__u32 left;

	if (!p)
		return DROP_INVALID;
	left = p->l3_len + ETH_LEN - p->l4;
	if (p->protocol == P_TCP) {
		__u32 doff;

		if (left < 20 || bpf_skb_load_bytes(skb, p->l4, l4, 20) < 0)
			return DROP_INVALID;
		doff = (l4[12] >> 4) * 4;
		if (doff < 20 || doff > left || !tcp_flags_valid(l4[13]))
			return DROP_INVALID;
		p->tcp_flags = l4[13];
		p->l4_head = doff;
	} else if (p->protocol == P_UDP || is_icmp(p->protocol)) {
		if (left < 8 || bpf_skb_load_bytes(skb, p->l4, l4, 8) < 0)
			return DROP_INVALID;
	} else if (p->protocol == P_SCTP) {
		if (left < 12 || bpf_skb_load_bytes(skb, p->l4, l4, 12) < 0)
			return DROP_INVALID;
	} else {
		return 0;
	}
	if (is_icmp(p->protocol)) {
		if ((p->protocol == P_ICMP) != (p->family == 0))
			return DROP_INVALID;
		p->icmp_type = l4[0];
		p->icmp_query = query_of(p->protocol, l4[0]);
		p->is_error = icmp_error(p->protocol, l4[0]);
		p->t.sport = p->icmp_query ? (l4[4] << 8 | l4[5]) : 0;
		p->t.dport = l4[0] << 8 | l4[1];
		if (p->is_error)
			return p->is_frag ? DROP_FRAGMENT : pw_quoted(skb, p);
		return 0;
	}
	p->t.sport = l4[0] << 8 | l4[1];
	p->t.dport = l4[2] << 8 | l4[3];
	if (p->protocol == P_UDP)
		p->l4_head = 8;
	if (p->protocol == P_UDP && !p->is_frag && !skb->gso_size) {
		__u32 length = l4[4] << 8 | l4[5];

		if (length < 8 || length > left)
			return DROP_INVALID;
	}
	return 0;
}

/* Ethernet and IP. 0, a reason, or -1: neither IPv4 nor IPv6 (`eth_type` says what). */
__noinline int pw_parse(struct __sk_buff *skb, struct pkt *p)
{
	if (!p)
		return DROP_INVALID;
	p->t.sport = 0;
	p->t.dport = 0;
	p->tcp_flags = 0;
	p->icmp_type = 0;
	p->icmp_query = 0;
	p->is_error = 0;
	p->is_frag = 0;
	p->more_frags = 0;
	p->frag_off = 0;
	p->frag_id = 0;
	if (bpf_skb_load_bytes(skb, 0, p->eth_dst, ETH_LEN) < 0)
		return DROP_INVALID;
	if (p->eth_type == bpf_htons(ETH_P_IP)) {
		struct iphdr h;
		__u32 length;

		if (bpf_skb_load_bytes(skb, ETH_LEN, &h, sizeof(h)) < 0)
			return DROP_INVALID;
		length = bpf_ntohs(h.tot_len);
		addr4(&p->t.src, h.saddr);
		addr4(&p->t.dst, h.daddr);
		p->family = 0;
		p->protocol = h.protocol;
		p->ttl = h.ttl;
		p->l3_len = length;
		p->l4 = ETH_LEN + sizeof(h);
		p->frag_id = h.id;
		p->frag_off = (bpf_ntohs(h.frag_off) & 0x1fff) << 3;
		p->more_frags = !!(h.frag_off & bpf_htons(0x2000));
		if (h.version != 4 || h.ihl != 5 || length < sizeof(h) || length + ETH_LEN > skb->len || bad_sum(&h))
			return DROP_INVALID;
	} else if (p->eth_type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr h;
		__u32 length;

		if (bpf_skb_load_bytes(skb, ETH_LEN, &h, sizeof(h)) < 0)
			return DROP_INVALID;
		length = bpf_ntohs(h.payload_len) + sizeof(h);
		addr6(&p->t.src, &h.saddr);
		addr6(&p->t.dst, &h.daddr);
		p->family = 1;
		p->protocol = h.nexthdr;
		p->ttl = h.hop_limit;
		p->l3_len = length;
		p->l4 = ETH_LEN + sizeof(h);
		if (h.version != 6 || length + ETH_LEN > skb->len || length > 65535)
			return DROP_INVALID;
		if (h.nexthdr == 44) {
			__u8 f[8];

			if (length < sizeof(h) + 8 || bpf_skb_load_bytes(skb, p->l4, f, sizeof(f)) < 0)
				return DROP_INVALID;
			p->protocol = f[0];
			p->frag_off = f[2] << 8 | (f[3] & 0xf8);
			p->more_frags = f[3] & 1;
			__builtin_memcpy(&p->frag_id, f + 4, 4);
			p->l4 += 8;
			p->is_frag = 1;
		}
		if (extension(p->protocol))
			return DROP_INVALID;
	} else {
		return -1;
	}
	p->is_frag |= p->frag_off || p->more_frags;
	if (p->frag_off)
		return 0;
	return pw_transport(skb, p);
}

#endif
