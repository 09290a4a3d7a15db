control PartywallIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    @id(0x12000001) counter(16, CounterType.packets_and_bytes) drops;
    @id(0x12000002) counter(65536, CounterType.packets_and_bytes) rules;
    @id(0x13000001) direct_counter(CounterType.packets_and_bytes) verdict_counter;
    @id(0x13000002) direct_counter(CounterType.packets_and_bytes) reply_counter;

    @id(0x01000001) action set_generation(bit<16> generation) {
        meta.generation = generation;
    }

    @id(0x01000002) action refuse(bit<8> reason) {
        meta.reason = reason;
    }

    @id(0x01000003) action accept_as_is() {
    }

    /// The running generation. Its default action is the only thing that a change of generation changes.
    @id(0x02000001) table generation {
        actions = {
            set_generation;
        }
        default_action = set_generation(0);
    }

    @id(0x01000004) action from_workload(bit<24> space, bit<24> vni, bit<16> mtu) {
        meta.space = space;
        meta.vni = vni;
        meta.mtu = mtu;
    }

    /// The tenant and segment of a workload's port.
    @id(0x02000002) table workload_port {
        key = {
            meta.generation: exact;
            standard_metadata.ingress_port: exact;
        }
        actions = {
            from_workload;
            @defaultonly refuse;
        }
        const default_action = refuse(SPOOF);
        size = 1024;
    }

    /// What a workload may send as.
    @id(0x02000003) table owner4 {
        key = {
            meta.generation: exact;
            standard_metadata.ingress_port: exact;
            hdr.ethernet.source: exact;
            hdr.ipv4.source: exact;
        }
        actions = {
            accept_as_is;
            @defaultonly refuse;
        }
        const default_action = refuse(SPOOF);
        size = 4096;
    }

    @id(0x02000004) table owner6 {
        key = {
            meta.generation: exact;
            standard_metadata.ingress_port: exact;
            hdr.ethernet.source: exact;
            hdr.ipv6.source: exact;
        }
        actions = {
            accept_as_is;
            @defaultonly refuse;
        }
        const default_action = refuse(SPOOF);
        size = 4096;
    }

    @id(0x01000005) action answer(bit<48> mac) {
        hdr.ethernet.destination = hdr.ethernet.source;
        hdr.ethernet.source = mac;
        hdr.arp.operation = 2;
        hdr.arp.target_mac = hdr.arp.sender_mac;
        hdr.arp.sender_mac = mac;
        meta.real4 = hdr.arp.sender;
        hdr.arp.sender = hdr.arp.target;
        hdr.arp.target = meta.real4;
        standard_metadata.egress_spec = standard_metadata.ingress_port;
    }

    /// Whom a workload may ask for: everyone in its segment but itself. `arp_owner` has looked at the asker.
    @id(0x02000005) table arp {
        key = {
            meta.generation: exact;
            standard_metadata.ingress_port: exact;
            hdr.arp.target: lpm;
        }
        actions = {
            answer;
            refuse;
        }
        const default_action = refuse(TO_HOST);
        size = 2048;
    }

    @id(0x02000006) table arp_owner {
        key = {
            meta.generation: exact;
            standard_metadata.ingress_port: exact;
            hdr.ethernet.source: exact;
            hdr.arp.sender_mac: exact;
            hdr.arp.sender: exact;
        }
        actions = {
            accept_as_is;
            @defaultonly refuse;
        }
        const default_action = refuse(SPOOF);
        size = 4096;
    }

    @id(0x01000006) action from_fabric(bit<24> space, bit<1> transit, bit<16> mtu) {
        meta.space = space;
        meta.transit = transit;
        meta.mtu = mtu;
    }

    /// The VNIs that are served here.
    @id(0x02000007) table served_vni {
        key = {
            meta.generation: exact;
            hdr.vxlan.vni: exact;
        }
        actions = {
            from_fabric;
            @defaultonly refuse;
        }
        const default_action = refuse(UNKNOWN_VNI);
        size = 4096;
    }

    @id(0x01000007) action set_peer(bit<16> peer) {
        meta.peer = peer;
    }

    /// Who may send to our VTEP.
    @id(0x02000008) table peer4 {
        key = {
            meta.generation: exact;
            hdr.outer_ipv4.source: exact;
            hdr.outer_ipv4.destination: exact;
        }
        actions = {
            set_peer;
            @defaultonly refuse;
        }
        const default_action = refuse(BAD_VTEP);
        size = 4096;
    }

    @id(0x02000009) table peer6 {
        key = {
            meta.generation: exact;
            hdr.outer_ipv6.source: exact;
            hdr.outer_ipv6.destination: exact;
        }
        actions = {
            set_peer;
            @defaultonly refuse;
        }
        const default_action = refuse(BAD_VTEP);
        size = 4096;
    }

    /// Addresses of the underlay, which are no tenant's.
    @id(0x0200000a) table host4 {
        key = {
            meta.generation: exact;
            hdr.ipv4.destination: exact;
        }
        actions = {
            refuse;
            @defaultonly accept_as_is;
        }
        const default_action = accept_as_is();
        size = 4096;
    }

    @id(0x0200000b) table host6 {
        key = {
            meta.generation: exact;
            hdr.ipv6.destination: exact;
        }
        actions = {
            refuse;
            @defaultonly accept_as_is;
        }
        const default_action = accept_as_is();
        size = 4096;
    }

    @id(0x01000008) action set_source(bit<16> class, bit<7> cell, bit<16> home, bit<24> vni) {
        meta.source_class = class;
        meta.source_cell = cell;
        meta.source_home = home;
        meta.source_vni = vni;
    }

    /// The class of the sender, the peer that it lives behind (0: here) and, at a gateway, its segment's VNI.
    @id(0x0200000c) table source4 {
        key = {
            meta.generation: exact;
            meta.space: exact;
            hdr.ipv4.source: lpm;
        }
        actions = {
            set_source;
            refuse;
        }
        const default_action = refuse(UNKNOWN_SOURCE);
        size = 16384;
    }

    @id(0x0200000d) table source6 {
        key = {
            meta.generation: exact;
            meta.space: exact;
            hdr.ipv6.source: lpm;
        }
        actions = {
            set_source;
            refuse;
        }
        const default_action = refuse(UNKNOWN_SOURCE);
        size = 16384;
    }

    @id(0x01000009) action to_port(bit<16> class, bit<7> cell, bit<9> port, bit<48> mac, bit<24> vni, bit<16> mtu) {
        meta.destination_class = class;
        meta.destination_cell = cell;
        meta.way = TO_PORT;
        meta.out_port = port;
        meta.out_mac = mac;
        meta.out_vni = vni;
        meta.out_mtu = mtu;
    }

    @id(0x0100000a) action to_node(bit<16> class, bit<7> cell, bit<16> peer, bit<24> vni, bit<16> mtu) {
        meta.destination_class = class;
        meta.destination_cell = cell;
        meta.way = TO_NODE;
        meta.out_peer = peer;
        meta.out_vni = vni;
        meta.out_mtu = mtu;
    }

    @id(0x0100000b) action to_node_as4(bit<16> class, bit<7> cell, bit<16> peer, bit<24> vni, bit<16> mtu, bit<32> address) {
        meta.destination_class = class;
        meta.destination_cell = cell;
        meta.way = TO_NODE;
        meta.out_peer = peer;
        meta.out_vni = vni;
        meta.out_mtu = mtu;
        meta.rewrite = 1;
        meta.real4 = address;
    }

    @id(0x0100000c) action to_node_as6(bit<16> class, bit<7> cell, bit<16> peer, bit<24> vni, bit<16> mtu, bit<128> address) {
        meta.destination_class = class;
        meta.destination_cell = cell;
        meta.way = TO_NODE;
        meta.out_peer = peer;
        meta.out_vni = vni;
        meta.out_mtu = mtu;
        meta.rewrite = 1;
        meta.real6 = address;
    }

    @id(0x0100000d) action to_gateway(bit<16> class, bit<7> cell) {
        meta.destination_class = class;
        meta.destination_cell = cell;
        meta.way = TO_GATEWAY;
    }

    /// The class of the receiver and the way there.
    @id(0x0200000e) table destination4 {
        key = {
            meta.generation: exact;
            meta.space: exact;
            hdr.ipv4.destination: lpm;
        }
        actions = {
            to_port;
            to_node;
            to_node_as4;
            to_gateway;
            refuse;
        }
        const default_action = refuse(NO_ROUTE);
        size = 16384;
    }

    @id(0x0200000f) table destination6 {
        key = {
            meta.generation: exact;
            meta.space: exact;
            hdr.ipv6.destination: lpm;
        }
        actions = {
            to_port;
            to_node;
            to_node_as6;
            to_gateway;
            refuse;
        }
        const default_action = refuse(NO_ROUTE);
        size = 16384;
    }

