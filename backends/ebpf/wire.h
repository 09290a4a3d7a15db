/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/* VXLAN over IPv4 put on and taken off by the program itself: for packets of known connections, which then pass neither the VXLAN
 * device nor the machine's own IP layer. Everything else goes through the device, and both look alike on the wire.
 *
 * It is on where the map `devices` tells the underlay's device. Packets that the kernel would cut into segments go through the
 * device, which knows how.
 */
#ifndef PARTYWALL_WIRE_H
#define PARTYWALL_WIRE_H

#include "errors.h"

/* Numbers in the map `devices`. */
#define FABRIC 0
#define UNDERLAY 1

/* What is put before a frame: IPv4, UDP, VXLAN, and the frame's Ethernet header, since another one stands before these. */
#define WRAP (20 + 8 + 8 + ETH_LEN)

#define WRAP_FLAGS                                                                                                          \
	(BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |                            \
	 BPF_F_ADJ_ROOM_ENCAP_L2(ETH_LEN) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH)

/* Since Linux 6.3. Before, IPv6 is taken out by the device. */
#define DECAP_L3_IPV6 (1 << 8)

/* The I flag and no other; the bits that are reserved are zero. RFC 7348, 5. */
#define VXLAN_FLAGS 0x08000000u

/* As the VXLAN device is made: `srcport`. */
#define FIRST_PORT 32768u
#define LAST_PORT 60999u

#define CE 3
#define ECT_1 1

struct vxlan_udp {
	__u16 source, dest, length, check;
	__u32 flags, vni;
};

/* The UDP source port that the device would choose: the same flow has one. */
FORCE __u16 entropy(struct __sk_buff *skb)
{
	__u32 hash = bpf_get_hash_recalc(skb);

	hash ^= hash << 16;
	return ((__u64)hash * (LAST_PORT - FIRST_PORT) >> 32) + FIRST_PORT;
}

/* A frame whose MACs are written, into the tunnel: by the program itself if it can, or through `device`. */
FORCE int enclosed(struct __sk_buff *skb, struct pkt *p, const struct route *route, __u32 device)
{
	__u32 underlay = device_of(p, UNDERLAY), length = skb->len + WRAP - ETH_LEN;
	__u16 port, family = p->family ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	struct vxlan_udp *udp;
	struct ethhdr *eth;
	struct iphdr *ip;
	void *data, *end;
	__u32 *w;

	if (!underlay || p->underlay || route->zero || skb->gso_size || length > 0xffff)
		return encapsulated(skb, route, device);
	port = entropy(skb);
	if (bpf_skb_adjust_room(skb, WRAP, BPF_ADJ_ROOM_MAC, WRAP_FLAGS))
		return encapsulated(skb, route, device);
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + ETH_LEN + WRAP > end)
		return drop(skb, DROP_INVALID);
	eth = data;
	ip = data + ETH_LEN;
	udp = (void *)(ip + 1);
	/* The kernel writes its MACs. */
	eth->h_proto = bpf_htons(ETH_P_IP);
	/* RFC 6040: congestion is told outside as inside. */
	*(__u16 *)ip = bpf_htons(0x4500 | p->ecn);
	ip->tot_len = bpf_htons(length);
	ip->id = 0;
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = 64;
	ip->protocol = P_UDP;
	ip->check = 0;
	ip->saddr = p->vtep;
	ip->daddr = route->to.w[0];
	w = (void *)ip;
	ip->check = ~fold((__u64)w[0] + w[1] + w[2] + w[3] + w[4]);
	udp->source = bpf_htons(port);
	udp->dest = bpf_htons(p->udp_port);
	udp->length = bpf_htons(length - 20);
	udp->check = 0;
	udp->flags = bpf_htonl(VXLAN_FLAGS);
	udp->vni = bpf_htonl(route->vni << 8);
	eth = (void *)(udp + 1);
	__builtin_memcpy(eth->h_dest, route->mac, 6);
	__builtin_memcpy(eth->h_source, p->mac, 6);
	eth->h_proto = family;
	sent(skb, route, underlay, SENT_WIRE);
	return bpf_redirect_neigh(underlay, NULL, 0, 0);
}

/* Whether this is a VXLAN packet for this node that holds a plain one, and nothing about it is left for the kernel to judge. Sets
 * what is known of it, and `*vni`.
 */
FORCE int wrapped(struct __sk_buff *skb, struct pkt *p, __u32 *vni)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + ETH_LEN;
	struct vxlan_udp *udp = (void *)(ip + 1);
	__u32 length;

	if (p->underlay || p->gateway || skb->vlan_present || skb->pkt_type != 0 || device_of(p, UNDERLAY) != skb->ifindex)
		return 0;
	if (data + ETH_LEN + WRAP > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return 0;
	length = bpf_ntohs(ip->tot_len);
	if (*(__u8 *)ip != 0x45 || ip->protocol != P_UDP || (ip->frag_off & bpf_htons(0x3fff)) || ip->daddr != p->vtep ||
	    length + ETH_LEN != skb->len || bad_sum(ip))
		return 0;
	if (bpf_ntohs(udp->dest) != p->udp_port || udp->check || bpf_ntohs(udp->length) != length - 20 ||
	    udp->flags != bpf_htonl(VXLAN_FLAGS) || (udp->vni & bpf_htonl(0xff)))
		return 0;
	*vni = bpf_ntohl(udp->vni) >> 8;
	p->arrival = ip->saddr;
	p->ecn = ip->tos & 3;
	return 1;
}

/* Takes the frame out. Nonzero: the kernel would not, and nothing has changed. */
FORCE int unwrap(struct __sk_buff *skb, struct pkt *p)
{
	void *data, *end;

	if (bpf_skb_adjust_room(skb, -WRAP, BPF_ADJ_ROOM_MAC, p->family ? DECAP_L3_IPV6 : 0))
		return 1;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + ETH_LEN <= end)
		((struct ethhdr *)data)->h_proto = p->family ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	return 0;
}

#endif
