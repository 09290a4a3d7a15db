    @id(0x0100000e) action permit(bit<16> gateway, bit<16> translation, bit<16> egress, bit<16> ingress) {
        meta.permitted = 1;
        meta.gateway = gateway;
        meta.translation = translation;
        rules.count((bit<32>) egress);
        rules.count((bit<32>) ingress);
        verdict_counter.count();
    }

    @id(0x0100000f) action deny(bit<8> reason, bit<16> egress, bit<16> ingress) {
        meta.reason = reason;
        rules.count((bit<32>) egress);
        rules.count((bit<32>) ingress);
        verdict_counter.count();
    }

    @id(0x01000010) action unexposed() {
        meta.reason = NOT_EXPOSED;
        verdict_counter.count();
    }

    /// What both views say of a connection that this packet may open. Rule 0 is nobody's.
    @id(0x02000010) table verdict {
        key = {
            meta.generation: exact;
            meta.source_class: range;
            meta.destination_class: range;
            meta.protocol: range;
            meta.x: range;
            meta.y: range;
        }
        actions = {
            permit;
            deny;
            @defaultonly unexposed;
        }
        const default_action = unexposed();
        counters = verdict_counter;
        size = 65536;
    }

    @id(0x01000011) action admit(bit<16> gateway, bit<16> translation) {
        meta.permitted = 1;
        meta.gateway = gateway;
        meta.translation = translation;
        reply_counter.count();
    }

    @id(0x01000012) action unasked() {
        reply_counter.count();
    }

    /// Whether the connection that this packet would answer is allowed: its own sender, receiver and service.
    @id(0x02000011) table reply {
        key = {
            meta.generation: exact;
            meta.destination_class: range;
            meta.source_class: range;
            meta.protocol: range;
            meta.asked_x: range;
            meta.asked_y: range;
        }
        actions = {
            admit;
            unasked;
        }
        const default_action = unasked();
        counters = reply_counter;
        size = 65536;
    }

    /// The peers that are instances of a gateway.
    @id(0x02000012) table member {
        key = {
            meta.generation: exact;
            meta.gateway: exact;
            meta.peer: exact;
        }
        actions = {
            accept_as_is;
            @defaultonly refuse;
        }
        const default_action = refuse(BAD_VTEP);
        size = 1024;
    }

    @id(0x01000013) action to_instance(bit<16> peer) {
        meta.way = TO_NODE;
        meta.out_peer = peer;
        meta.out_vni = meta.vni;
        meta.out_mtu = meta.mtu;
    }

    @id(0x01000014) action to_bucket() {
        meta.several = 1;
    }

    /// A gateway's only instance, or that there are several.
    @id(0x02000013) table gateway {
        key = {
            meta.generation: exact;
            meta.gateway: exact;
        }
        actions = {
            to_instance;
            to_bucket;
            @defaultonly refuse;
        }
        const default_action = refuse(NO_ROUTE);
        size = 1024;
    }

    /// The instance of an unordered pair of cells.
    @id(0x02000014) table bucket {
        key = {
            meta.generation: exact;
            meta.gateway: exact;
            meta.low_cell: exact;
            meta.high_cell: exact;
        }
        actions = {
            to_instance;
            @defaultonly refuse;
        }
        const default_action = refuse(NO_ROUTE);
        size = 65536;
    }

    @id(0x01000015) action rewrite_source4(bit<32> prefix, bit<32> host) {
        meta.difference = meta.difference + (bit<32>) (~hdr.ipv4.source[31:16]) + (bit<32>) (~hdr.ipv4.source[15:0]);
        hdr.ipv4.source = prefix | (hdr.ipv4.source & host);
        meta.difference = meta.difference + (bit<32>) hdr.ipv4.source[31:16] + (bit<32>) hdr.ipv4.source[15:0];
    }

    /// A gateway's translation of the sender: the address under which the other side sees it.
    @id(0x02000015) table rewrite4 {
        key = {
            meta.generation: exact;
            meta.translation: exact;
            hdr.ipv4.source: lpm;
        }
        actions = {
            rewrite_source4;
            @defaultonly refuse;
        }
        const default_action = refuse(NOT_EXPOSED);
        size = 4096;
    }

    @id(0x01000016) action rewrite_source6(bit<128> prefix, bit<128> host) {
        meta.difference = meta.difference + (bit<32>) (~hdr.ipv6.source[127:112]) + (bit<32>) (~hdr.ipv6.source[111:96]) + (bit<32>) (~hdr.ipv6.source[95:80]) + (bit<32>) (~hdr.ipv6.source[79:64]) + (bit<32>) (~hdr.ipv6.source[63:48]) + (bit<32>) (~hdr.ipv6.source[47:32]) + (bit<32>) (~hdr.ipv6.source[31:16]) + (bit<32>) (~hdr.ipv6.source[15:0]);
        hdr.ipv6.source = prefix | (hdr.ipv6.source & host);
        meta.difference = meta.difference + (bit<32>) hdr.ipv6.source[127:112] + (bit<32>) hdr.ipv6.source[111:96] + (bit<32>) hdr.ipv6.source[95:80] + (bit<32>) hdr.ipv6.source[79:64] + (bit<32>) hdr.ipv6.source[63:48] + (bit<32>) hdr.ipv6.source[47:32] + (bit<32>) hdr.ipv6.source[31:16] + (bit<32>) hdr.ipv6.source[15:0];
    }

    @id(0x02000016) table rewrite6 {
        key = {
            meta.generation: exact;
            meta.translation: exact;
            hdr.ipv6.source: lpm;
        }
        actions = {
            rewrite_source6;
            @defaultonly refuse;
        }
        const default_action = refuse(NOT_EXPOSED);
        size = 4096;
    }

    /// The same for the receiver, whose real address table `destination4` or `destination6` has given.
    @id(0x01000017) action rewrite_destination4() {
        meta.difference = meta.difference + (bit<32>) (~hdr.ipv4.destination[31:16]) + (bit<32>) (~hdr.ipv4.destination[15:0]);
        hdr.ipv4.destination = meta.real4;
        meta.difference = meta.difference + (bit<32>) hdr.ipv4.destination[31:16] + (bit<32>) hdr.ipv4.destination[15:0];
    }

    @id(0x01000018) action rewrite_destination6() {
        meta.difference = meta.difference + (bit<32>) (~hdr.ipv6.destination[127:112]) + (bit<32>) (~hdr.ipv6.destination[111:96]) + (bit<32>) (~hdr.ipv6.destination[95:80]) + (bit<32>) (~hdr.ipv6.destination[79:64]) + (bit<32>) (~hdr.ipv6.destination[63:48]) + (bit<32>) (~hdr.ipv6.destination[47:32]) + (bit<32>) (~hdr.ipv6.destination[31:16]) + (bit<32>) (~hdr.ipv6.destination[15:0]);
        hdr.ipv6.destination = meta.real6;
        meta.difference = meta.difference + (bit<32>) hdr.ipv6.destination[127:112] + (bit<32>) hdr.ipv6.destination[111:96] + (bit<32>) hdr.ipv6.destination[95:80] + (bit<32>) hdr.ipv6.destination[79:64] + (bit<32>) hdr.ipv6.destination[63:48] + (bit<32>) hdr.ipv6.destination[47:32] + (bit<32>) hdr.ipv6.destination[31:16] + (bit<32>) hdr.ipv6.destination[15:0];
    }

    @id(0x01000019) action encapsulate4(bit<32> source, bit<32> destination, bit<48> mac, bit<48> peer_mac) {
        hdr.outer_ethernet.setValid();
        hdr.outer_ethernet.destination = peer_mac;
        hdr.outer_ethernet.source = mac;
        hdr.outer_ethernet.ether_type = TYPE_IPV4;
        hdr.outer_ipv6.setInvalid();
        hdr.outer_ipv4.setValid();
        hdr.outer_ipv4.version = 4;
        hdr.outer_ipv4.ihl = 5;
        hdr.outer_ipv4.traffic_class = 0;
        // 20 of IP, 8 of UDP, 8 of VXLAN, 14 of Ethernet
        hdr.outer_ipv4.total_length = meta.length[15:0] + 50;
        hdr.outer_ipv4.identification = 0;
        hdr.outer_ipv4.reserved = 0;
        hdr.outer_ipv4.dont_fragment = 1;
        hdr.outer_ipv4.more_fragments = 0;
        hdr.outer_ipv4.fragment_offset = 0;
        hdr.outer_ipv4.ttl = 64;
        hdr.outer_ipv4.protocol = PROTOCOL_UDP;
        hdr.outer_ipv4.source = source;
        hdr.outer_ipv4.destination = destination;
        hdr.ethernet.source = mac;
        hdr.ethernet.destination = peer_mac;
    }

    @id(0x0100001a) action encapsulate6(bit<128> source, bit<128> destination, bit<48> mac, bit<48> peer_mac) {
        hdr.outer_ethernet.setValid();
        hdr.outer_ethernet.destination = peer_mac;
        hdr.outer_ethernet.source = mac;
        hdr.outer_ethernet.ether_type = TYPE_IPV6;
        hdr.outer_ipv4.setInvalid();
        hdr.outer_ipv6.setValid();
        hdr.outer_ipv6.version = 6;
        hdr.outer_ipv6.traffic_class = 0;
        hdr.outer_ipv6.flow_label = 0;
        hdr.outer_ipv6.payload_length = meta.length[15:0] + 30;
        hdr.outer_ipv6.next_header = PROTOCOL_UDP;
        hdr.outer_ipv6.hop_limit = 64;
        hdr.outer_ipv6.source = source;
        hdr.outer_ipv6.destination = destination;
        hdr.ethernet.source = mac;
        hdr.ethernet.destination = peer_mac;
    }

    /// The VTEP of a peer, ours, and the router MACs of both nodes.
    @id(0x02000017) table vtep {
        key = {
            meta.generation: exact;
            meta.out_peer: exact;
        }
        actions = {
            encapsulate4;
            encapsulate6;
            @defaultonly refuse;
        }
        const default_action = refuse(NO_ROUTE);
        size = 4096;
    }

    @id(0x0100001b) action set_router(bit<48> mac) {
        hdr.ethernet.source = mac;
        hdr.ethernet.destination = meta.out_mac;
    }

    /// Our own router MAC, towards workloads.
    @id(0x02000018) table router {
        key = {
            meta.generation: exact;
        }
        actions = {
            set_router;
            @defaultonly refuse;
        }
        const default_action = refuse(NO_ROUTE);
        size = 2;
    }

    /// The cell of an IPv4 end: Linux' `jhash` (Bob Jenkins' lookup3) of its four bytes with the seed 0x5057, scaled to 64,
    /// which are its highest six bits. It begins with 0xdeadbeef + length + seed.
    @id(0x0100001c) action hash4() {
        hdr.hash.setValid();
        hdr.hash.a = 0xdeae0f4a + (meta.key4[7:0] ++ meta.key4[15:8] ++ meta.key4[23:16] ++ meta.key4[31:24]);
        hdr.hash.b = 0xdeae0f4a;
        hdr.hash.c = 0xdeae0f4a;
        hdr.hash.c = (hdr.hash.c ^ hdr.hash.b) - (hdr.hash.b[17:0] ++ hdr.hash.b[31:18]);
        hdr.hash.setValid();
        hdr.hash.a = (hdr.hash.a ^ hdr.hash.c) - (hdr.hash.c[20:0] ++ hdr.hash.c[31:21]);
        hdr.hash.setValid();
        hdr.hash.b = (hdr.hash.b ^ hdr.hash.a) - (hdr.hash.a[6:0] ++ hdr.hash.a[31:7]);
        hdr.hash.setValid();
        hdr.hash.c = (hdr.hash.c ^ hdr.hash.b) - (hdr.hash.b[15:0] ++ hdr.hash.b[31:16]);
        hdr.hash.setValid();
        hdr.hash.a = (hdr.hash.a ^ hdr.hash.c) - (hdr.hash.c[27:0] ++ hdr.hash.c[31:28]);
        hdr.hash.setValid();
        hdr.hash.b = (hdr.hash.b ^ hdr.hash.a) - (hdr.hash.a[17:0] ++ hdr.hash.a[31:18]);
        hdr.hash.setValid();
        hdr.hash.c = (hdr.hash.c ^ hdr.hash.b) - (hdr.hash.b[7:0] ++ hdr.hash.b[31:8]);
        hdr.hash.setValid();
        meta.cell = 1w0 ++ hdr.hash.c[31:26];
    }

    /// The cell of an IPv6 end: the same of its sixteen bytes.
    @id(0x0100001d) action hash6() {
        hdr.hash.setValid();
        hdr.hash.a = 0xdeae0f56 + (meta.key6[103:96] ++ meta.key6[111:104] ++ meta.key6[119:112] ++ meta.key6[127:120]);
        hdr.hash.b = 0xdeae0f56 + (meta.key6[71:64] ++ meta.key6[79:72] ++ meta.key6[87:80] ++ meta.key6[95:88]);
        hdr.hash.c = 0xdeae0f56 + (meta.key6[39:32] ++ meta.key6[47:40] ++ meta.key6[55:48] ++ meta.key6[63:56]);
        hdr.hash.a = (hdr.hash.a - hdr.hash.c) ^ (hdr.hash.c[27:0] ++ hdr.hash.c[31:28]);
        hdr.hash.setValid();
        hdr.hash.c = hdr.hash.c + hdr.hash.b;
        hdr.hash.setValid();
        hdr.hash.b = (hdr.hash.b - hdr.hash.a) ^ (hdr.hash.a[25:0] ++ hdr.hash.a[31:26]);
        hdr.hash.setValid();
        hdr.hash.a = hdr.hash.a + hdr.hash.c;
        hdr.hash.setValid();
        hdr.hash.c = (hdr.hash.c - hdr.hash.b) ^ (hdr.hash.b[23:0] ++ hdr.hash.b[31:24]);
        hdr.hash.setValid();
        hdr.hash.b = hdr.hash.b + hdr.hash.a;
        hdr.hash.setValid();
        hdr.hash.a = (hdr.hash.a - hdr.hash.c) ^ (hdr.hash.c[15:0] ++ hdr.hash.c[31:16]);
        hdr.hash.setValid();
        hdr.hash.c = hdr.hash.c + hdr.hash.b;
        hdr.hash.setValid();
        hdr.hash.b = (hdr.hash.b - hdr.hash.a) ^ (hdr.hash.a[12:0] ++ hdr.hash.a[31:13]);
        hdr.hash.setValid();
        hdr.hash.a = hdr.hash.a + hdr.hash.c;
        hdr.hash.setValid();
        hdr.hash.c = (hdr.hash.c - hdr.hash.b) ^ (hdr.hash.b[27:0] ++ hdr.hash.b[31:28]);
        hdr.hash.setValid();
        hdr.hash.b = hdr.hash.b + hdr.hash.a;
        hdr.hash.setValid();
        hdr.hash.a = hdr.hash.a + (meta.key6[7:0] ++ meta.key6[15:8] ++ meta.key6[23:16] ++ meta.key6[31:24]);
        hdr.hash.c = (hdr.hash.c ^ hdr.hash.b) - (hdr.hash.b[17:0] ++ hdr.hash.b[31:18]);
        hdr.hash.setValid();
        hdr.hash.a = (hdr.hash.a ^ hdr.hash.c) - (hdr.hash.c[20:0] ++ hdr.hash.c[31:21]);
        hdr.hash.setValid();
        hdr.hash.b = (hdr.hash.b ^ hdr.hash.a) - (hdr.hash.a[6:0] ++ hdr.hash.a[31:7]);
        hdr.hash.setValid();
        hdr.hash.c = (hdr.hash.c ^ hdr.hash.b) - (hdr.hash.b[15:0] ++ hdr.hash.b[31:16]);
        hdr.hash.setValid();
        hdr.hash.a = (hdr.hash.a ^ hdr.hash.c) - (hdr.hash.c[27:0] ++ hdr.hash.c[31:28]);
        hdr.hash.setValid();
        hdr.hash.b = (hdr.hash.b ^ hdr.hash.a) - (hdr.hash.a[17:0] ++ hdr.hash.a[31:18]);
        hdr.hash.setValid();
        hdr.hash.c = (hdr.hash.c ^ hdr.hash.b) - (hdr.hash.b[7:0] ++ hdr.hash.b[31:8]);
        hdr.hash.setValid();
        meta.cell = 1w0 ++ hdr.hash.c[31:26];
    }

