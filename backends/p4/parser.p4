parser PartywallParser(packet_in packet, out headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    state start {
        transition select(standard_metadata.ingress_port) {
            UNDERLAY_PORT: underlay;
            default: tenant;
        }
    }

    state underlay {
        packet.extract(hdr.outer_ethernet);
        transition select(hdr.outer_ethernet.ether_type) {
            TYPE_IPV4: outer_ipv4;
            TYPE_IPV6: outer_ipv6;
            default: accept;
        }
    }

    state outer_ipv4 {
        packet.extract(hdr.outer_ipv4);
        transition select(hdr.outer_ipv4.version, hdr.outer_ipv4.ihl, hdr.outer_ipv4.more_fragments, hdr.outer_ipv4.fragment_offset, hdr.outer_ipv4.protocol) {
            (4, 5, 0, 0, PROTOCOL_UDP): outer_udp;
            default: accept;
        }
    }

    state outer_ipv6 {
        packet.extract(hdr.outer_ipv6);
        transition select(hdr.outer_ipv6.version, hdr.outer_ipv6.next_header) {
            (6, PROTOCOL_UDP): outer_udp;
            default: accept;
        }
    }

    state outer_udp {
        packet.extract(hdr.outer_udp);
        transition select(hdr.outer_udp.destination_port) {
            VXLAN_PORT: vxlan;
            default: accept;
        }
    }

    state vxlan {
        packet.extract(hdr.vxlan);
        transition tenant;
    }

    state tenant {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ether_type) {
            TYPE_IPV4: ipv4;
            TYPE_IPV6: ipv6;
            TYPE_ARP: arp;
            default: accept;
        }
    }

    state arp {
        packet.extract(hdr.arp);
        transition accept;
    }

    state ipv4 {
        packet.extract(hdr.ipv4);
        transition select(hdr.ipv4.ihl, hdr.ipv4.more_fragments, hdr.ipv4.fragment_offset, hdr.ipv4.protocol) {
            (5, 0, 0, PROTOCOL_TCP): tcp;
            (5, 0, 0, PROTOCOL_UDP): udp;
            (5, 0, 0, PROTOCOL_SCTP): sctp;
            (5, 0, 0, PROTOCOL_ICMP): icmp;
            default: accept;
        }
    }

    state ipv6 {
        packet.extract(hdr.ipv6);
        transition select(hdr.ipv6.next_header) {
            PROTOCOL_TCP: tcp;
            PROTOCOL_UDP: udp;
            PROTOCOL_SCTP: sctp;
            PROTOCOL_ICMP6: icmp;
            default: accept;
        }
    }

    state tcp {
        packet.extract(hdr.tcp);
        transition accept;
    }

    state udp {
        packet.extract(hdr.udp);
        transition accept;
    }

    state sctp {
        packet.extract(hdr.sctp);
        transition accept;
    }

    state icmp {
        packet.extract(hdr.icmp);
        transition accept;
    }
}

control PartywallVerify(inout headers_t hdr, inout metadata_t meta) {
    apply {
        verify_checksum(hdr.outer_ipv4.isValid(), { hdr.outer_ipv4.version, hdr.outer_ipv4.ihl, hdr.outer_ipv4.traffic_class, hdr.outer_ipv4.total_length, hdr.outer_ipv4.identification, hdr.outer_ipv4.reserved, hdr.outer_ipv4.dont_fragment, hdr.outer_ipv4.more_fragments, hdr.outer_ipv4.fragment_offset, hdr.outer_ipv4.ttl, hdr.outer_ipv4.protocol, hdr.outer_ipv4.source, hdr.outer_ipv4.destination }, hdr.outer_ipv4.checksum, HashAlgorithm.csum16);
        verify_checksum(hdr.ipv4.isValid(), { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.traffic_class, hdr.ipv4.total_length, hdr.ipv4.identification, hdr.ipv4.reserved, hdr.ipv4.dont_fragment, hdr.ipv4.more_fragments, hdr.ipv4.fragment_offset, hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.source, hdr.ipv4.destination }, hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

