/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/* For tests: a run without a device cannot have a tunnel key, so this makes one of cb[] and goes on with the program proper.
 * cb[0..3]: the sender's VTEP in network order, IPv4 in the first word; cb[4]: VNI, its highest bit for IPv6.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

SEC("tc")
int pw_enter(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {};
	__u64 flags = 0;

	key.tunnel_id = skb->cb[4] & 0xffffff;
	if (skb->cb[4] >> 31) {
		flags = BPF_F_TUNINFO_IPV6;
		key.local_ipv6[0] = skb->cb[0];
		key.local_ipv6[1] = skb->cb[1];
		key.local_ipv6[2] = skb->cb[2];
		key.local_ipv6[3] = skb->cb[3];
	} else {
		key.local_ipv4 = bpf_ntohl(skb->cb[0]);
	}
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags) < 0)
		return 100;
	bpf_tail_call(skb, &next, 0);
	return 101;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
