// partywall.p4: a node of a multi-tenant overlay as a stateless switch (P4_16, v1model).
//
// A packet comes in by a workload's port, or in VXLAN by the underlay's. Its tenant gives the address space; both
// addresses become classes there; the two classes, the protocol and the ports give the verdict. Nothing that is not in
// a table is forwarded: every miss ends in a reason.
//
// There is no state. A packet that no policy lets open a connection may still answer one: it is asked whether the
// connection the other way round is allowed, and a TCP segment must then bear ACK or RST. Every table is keyed by the
// generation, and the one default action of table `generation` says which generation is running.
//
// Table kinds: `source*`, `destination*`, `rewrite*`, `arp` are longest-prefix matches (one LPM field each), `verdict`
// and `reply` are range matches over 16 + 16 + 8 + 16 + 16 bits, all others are exact. Classes are numbered along the
// addresses, so that a prefix of a policy is one range of classes. No table is looked up twice, nothing is recirculated.

#include <core.p4>
#include <v1model.p4>

/// UDP destination port of the encapsulation.
const bit<16> VXLAN_PORT = 4789;
/// The port to the underlay; workloads have the others.
const bit<9> UNDERLAY_PORT = 0;

const bit<16> TYPE_IPV4 = 0x0800;
const bit<16> TYPE_ARP = 0x0806;
const bit<16> TYPE_IPV6 = 0x86dd;
const bit<8> PROTOCOL_ICMP = 1;
const bit<8> PROTOCOL_TCP = 6;
const bit<8> PROTOCOL_UDP = 17;
const bit<8> PROTOCOL_ICMP6 = 58;
const bit<8> PROTOCOL_SCTP = 132;

// Why a packet is dropped, as the index of counter `drops`.
const bit<8> NONE = 0;
const bit<8> UNKNOWN_VNI = 1;
const bit<8> BAD_VTEP = 2;
const bit<8> SPOOF = 3;
const bit<8> UNKNOWN_SOURCE = 4;
const bit<8> NO_ROUTE = 5;
const bit<8> NOT_EXPOSED = 6;
// 7, default, and 8, rule, stand in entries only.
const bit<8> INVALID = 9;
const bit<8> FRAGMENT = 10;
const bit<8> TTL = 11;
const bit<8> TOO_BIG = 12;
const bit<8> TO_HOST = 13;

// Which way a destination lies; 0: nowhere.
const bit<2> TO_PORT = 1;
const bit<2> TO_NODE = 2;
const bit<2> TO_GATEWAY = 3;

/// A cell that is not known from a table and has to be computed from the address.
const bit<7> COMPUTE = 64;

header ethernet_t {
    bit<48> destination;
    bit<48> source;
    bit<16> ether_type;
}

header arp_t {
    bit<16> hardware_type;
    bit<16> protocol_type;
    bit<8> hardware_length;
    bit<8> protocol_length;
    bit<16> operation;
    bit<48> sender_mac;
    bit<32> sender;
    bit<48> target_mac;
    bit<32> target;
}

header ipv4_t {
    bit<4> version;
    bit<4> ihl;
    bit<8> traffic_class;
    bit<16> total_length;
    bit<16> identification;
    bit<1> reserved;
    bit<1> dont_fragment;
    bit<1> more_fragments;
    bit<13> fragment_offset;
    bit<8> ttl;
    bit<8> protocol;
    bit<16> checksum;
    bit<32> source;
    bit<32> destination;
}

header ipv6_t {
    bit<4> version;
    bit<8> traffic_class;
    bit<20> flow_label;
    bit<16> payload_length;
    bit<8> next_header;
    bit<8> hop_limit;
    bit<128> source;
    bit<128> destination;
}

header udp_t {
    bit<16> source_port;
    bit<16> destination_port;
    bit<16> length;
    bit<16> checksum;
}

header tcp_t {
    bit<16> source_port;
    bit<16> destination_port;
    bit<32> sequence;
    bit<32> acknowledgement;
    bit<4> data_offset;
    bit<6> reserved;
    bit<1> urg;
    bit<1> ack;
    bit<1> psh;
    bit<1> rst;
    bit<1> syn;
    bit<1> fin;
    bit<16> window;
    bit<16> checksum;
    bit<16> urgent_pointer;
}

// SCTP's checksum covers no addresses and is carried as payload.
header sctp_t {
    bit<16> source_port;
    bit<16> destination_port;
}

header icmp_t {
    bit<8> kind;
    bit<8> code;
    bit<16> checksum;
}

header vxlan_t {
    bit<8> flags;
    bit<24> reserved;
    bit<24> vni;
    bit<8> reserved2;
}

// The state of a hash. It is in no packet: a header, because its `setValid` keeps a compiler from writing every step of the
// hash into the next one, which would double it each time.
header hash_t {
    bit<32> a;
    bit<32> b;
    bit<32> c;
}

struct headers_t {
    ethernet_t outer_ethernet;
    ipv4_t outer_ipv4;
    ipv6_t outer_ipv6;
    udp_t outer_udp;
    vxlan_t vxlan;
    ethernet_t ethernet;
    arp_t arp;
    ipv4_t ipv4;
    ipv6_t ipv6;
    tcp_t tcp;
    udp_t udp;
    sctp_t sctp;
    icmp_t icmp;
    hash_t hash;
}

struct metadata_t {
    bit<16> generation;
    bit<8> reason;
    /// The tenant in whose space the addresses are read.
    bit<24> space;
    /// Who sent it over the underlay; 0: a workload here.
    bit<16> peer;
    /// Whether what the underlay brings may go back to it: on a node with gateway instances.
    bit<1> transit;
    /// VNI of the segment that it came by.
    bit<24> vni;
    bit<16> mtu;
    /// IP length of the packet, and what the frame has room for.
    bit<32> length;
    bit<32> room;
    bit<8> protocol;
    bit<16> x;
    bit<16> y;
    bit<16> source_class;
    bit<7> source_cell;
    bit<16> source_home;
    bit<24> source_vni;
    bit<16> destination_class;
    bit<7> destination_cell;
    bit<2> way;
    bit<9> out_port;
    bit<48> out_mac;
    bit<16> out_peer;
    bit<24> out_vni;
    bit<16> out_mtu;
    bit<1> permitted;
    /// Whether it may be an answer, and both fields of what it would answer.
    bit<1> answers;
    bit<16> asked_x;
    bit<16> asked_y;
    /// The gateway that carries it; 0: none.
    bit<16> gateway;
    bit<16> translation;
    bit<1> several;
    /// What is hashed, and the result.
    bit<32> key4;
    bit<128> key6;
    bit<7> cell;
    bit<7> low_cell;
    bit<7> high_cell;
    bit<32> real4;
    bit<128> real6;
    bit<1> rewrite;
    /// What the addresses' change adds to a checksum in one's complement.
    bit<32> difference;
    bit<32> sum;
    bit<16> entropy;
}

