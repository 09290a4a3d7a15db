    apply {
        generation.apply();

        // 1. Where it comes from.
        if (standard_metadata.parser_error != error.NoError || standard_metadata.checksum_error == 1) {
            meta.reason = INVALID;
        } else if (standard_metadata.ingress_port == UNDERLAY_PORT) {
            if (!hdr.vxlan.isValid()) {
                meta.reason = TO_HOST;
            } else if ((hdr.vxlan.flags & 8) == 0) {
                meta.reason = BAD_VTEP;
            } else {
                meta.vni = hdr.vxlan.vni;
                served_vni.apply();
                if (meta.reason == NONE) {
                    if (hdr.outer_ipv4.isValid()) {
                        peer4.apply();
                        meta.room = standard_metadata.packet_length - 64;
                    } else {
                        peer6.apply();
                        meta.room = standard_metadata.packet_length - 84;
                    }
                }
            }
        } else {
            workload_port.apply();
            meta.room = standard_metadata.packet_length - 14;
            if (meta.reason == NONE) {
                if (hdr.ipv4.isValid()) {
                    owner4.apply();
                } else if (hdr.ipv6.isValid()) {
                    owner6.apply();
                } else if (hdr.arp.isValid()) {
                    arp_owner.apply();
                }
            }
        }

        // 2. Whether it is a packet that can be classified.
        if (meta.reason == NONE && hdr.ipv4.isValid()) {
            meta.length = (bit<32>) hdr.ipv4.total_length;
            meta.protocol = hdr.ipv4.protocol;
            if (hdr.ipv4.version != 4 || hdr.ipv4.ihl != 5 || meta.length < 20 || meta.length > meta.room || meta.protocol == PROTOCOL_ICMP6) {
                meta.reason = INVALID;
            } else if (hdr.ipv4.more_fragments == 1 || hdr.ipv4.fragment_offset != 0) {
                meta.reason = FRAGMENT;
            } else if (hdr.ipv4.source == hdr.ipv4.destination) {
                meta.reason = INVALID;
            }
        } else if (meta.reason == NONE && hdr.ipv6.isValid()) {
            meta.length = (bit<32>) hdr.ipv6.payload_length + 40;
            meta.protocol = hdr.ipv6.next_header;
            if (hdr.ipv6.version != 6 || meta.length > meta.room || meta.protocol == PROTOCOL_ICMP) {
                meta.reason = INVALID;
            } else if (meta.protocol == 44) {
                meta.reason = FRAGMENT;
            } else if (meta.protocol == 0 || meta.protocol == 43 || meta.protocol == 51 || meta.protocol == 60 || meta.protocol == 135 || meta.protocol == 139 || meta.protocol == 140) {
                // An extension header: what it hides cannot be classified.
                meta.reason = INVALID;
            } else if (hdr.ipv6.source == hdr.ipv6.destination) {
                meta.reason = INVALID;
            }
        }
        if (meta.reason == NONE && hdr.ethernet.destination[40:40] == 1 && !hdr.arp.isValid()) {
            meta.reason = TO_HOST;
        }
        // An error quotes what it is about, and the quotation is not translated here.
        if (meta.reason == NONE && meta.transit == 1 && hdr.icmp.isValid()) {
            if (hdr.ipv6.isValid() && hdr.icmp.kind < 128) {
                meta.reason = INVALID;
            } else if (hdr.ipv4.isValid() && (hdr.icmp.kind == 3 || hdr.icmp.kind == 4 || hdr.icmp.kind == 5 || hdr.icmp.kind == 11 || hdr.icmp.kind == 12)) {
                meta.reason = INVALID;
            }
        }
        meta.answers = 1;
        if (hdr.tcp.isValid()) {
            meta.x = hdr.tcp.source_port;
            meta.y = hdr.tcp.destination_port;
            // A segment without ACK opens a connection, or resets one.
            if (hdr.tcp.ack == 0 && (hdr.tcp.rst == 0 || hdr.tcp.syn == 1)) {
                meta.answers = 0;
            }
        } else if (hdr.udp.isValid()) {
            meta.x = hdr.udp.source_port;
            meta.y = hdr.udp.destination_port;
        } else if (hdr.sctp.isValid()) {
            meta.x = hdr.sctp.source_port;
            meta.y = hdr.sctp.destination_port;
        } else if (hdr.icmp.isValid()) {
            meta.x = (bit<16>) hdr.icmp.kind;
            meta.y = (bit<16>) hdr.icmp.code;
        }
        meta.asked_x = meta.y;
        meta.asked_y = meta.x;
        if (hdr.icmp.isValid()) {
            // Only queries have answers: echo, timestamp, information and address mask, ICMPv6 node information.
            meta.asked_y = 0;
            if (hdr.ipv4.isValid() && meta.x == 0 && meta.y == 0) {
                meta.asked_x = 8;
            } else if (hdr.ipv4.isValid() && (meta.x == 14 || meta.x == 16 || meta.x == 18) && meta.y == 0) {
                meta.asked_x = meta.x - 1;
            } else if (hdr.ipv6.isValid() && meta.x == 129 && meta.y == 0) {
                meta.asked_x = 128;
            } else if (hdr.ipv6.isValid() && meta.x == 140 && meta.y < 3) {
                meta.asked_x = 139;
            } else {
                meta.answers = 0;
            }
        }

        if (meta.reason == NONE && hdr.arp.isValid()) {
            // ARP: Ethernet and IPv4, a request, no probe.
            if (standard_metadata.ingress_port == UNDERLAY_PORT || hdr.arp.hardware_type != 1 || hdr.arp.protocol_type != TYPE_IPV4 || hdr.arp.operation != 1) {
                meta.reason = INVALID;
            } else {
                arp.apply();
            }
        } else if (meta.reason == NONE && !hdr.ipv4.isValid() && !hdr.ipv6.isValid()) {
            meta.reason = INVALID;
        } else if (meta.reason == NONE) {
            // 3. Classes.
            if (hdr.ipv4.isValid()) {
                host4.apply();
                if (meta.reason == NONE) {
                    source4.apply();
                }
                if (meta.reason == NONE) {
                    destination4.apply();
                }
            } else {
                host6.apply();
                if (meta.reason == NONE) {
                    source6.apply();
                }
                if (meta.reason == NONE) {
                    destination6.apply();
                }
            }

            // 4. The decision: may it open a connection, and if not, may it answer one?
            if (meta.reason == NONE) {
                verdict.apply();
                if (meta.permitted == 0 && meta.answers == 1) {
                    reply.apply();
                }
                if (meta.permitted == 1) {
                    meta.reason = NONE;
                }
            }

            // 5. Whether it came the way that such a packet comes.
            if (meta.reason == NONE) {
                if (meta.source_vni != 0 && meta.source_vni != meta.vni) {
                    meta.reason = BAD_VTEP;
                } else if (meta.peer != 0 && meta.transit == 0 && (meta.way != TO_PORT || meta.out_vni != meta.vni)) {
                    meta.reason = BAD_VTEP;
                } else if (meta.gateway != 0 && meta.peer != 0) {
                    member.apply();
                } else if (meta.source_home != meta.peer) {
                    meta.reason = BAD_VTEP;
                }
            }

            // 6. The way on: through a gateway by the bucket of the two ends.
            if (meta.reason == NONE && meta.gateway != 0 && meta.peer == 0) {
                gateway.apply();
                if (meta.several == 1) {
                    if (meta.source_cell == COMPUTE) {
                        if (hdr.ipv4.isValid()) {
                            meta.key4 = hdr.ipv4.source;
                            hash4();
                        } else {
                            meta.key6 = hdr.ipv6.source;
                            hash6();
                        }
                        meta.source_cell = meta.cell;
                    }
                    if (meta.destination_cell == COMPUTE) {
                        if (hdr.ipv4.isValid()) {
                            meta.key4 = hdr.ipv4.destination;
                            hash4();
                        } else {
                            meta.key6 = hdr.ipv6.destination;
                            hash6();
                        }
                        meta.destination_cell = meta.cell;
                    }
                    if (meta.source_cell < meta.destination_cell) {
                        meta.low_cell = meta.source_cell;
                        meta.high_cell = meta.destination_cell;
                    } else {
                        meta.low_cell = meta.destination_cell;
                        meta.high_cell = meta.source_cell;
                    }
                    bucket.apply();
                }
            } else if (meta.reason == NONE && meta.way == TO_GATEWAY) {
                meta.reason = NO_ROUTE;
            }
            if (meta.reason == NONE && meta.length > (bit<32>) meta.out_mtu) {
                meta.reason = TOO_BIG;
            }

            // 7. Hop limit and translation.
            if (meta.reason == NONE && hdr.ipv4.isValid()) {
                if (hdr.ipv4.ttl < 2) {
                    meta.reason = TTL;
                } else {
                    hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
                    if (meta.translation != 0) {
                        rewrite4.apply();
                    }
                    if (meta.rewrite == 1) {
                        rewrite_destination4();
                    }
                }
            } else if (meta.reason == NONE) {
                if (hdr.ipv6.hop_limit < 2) {
                    meta.reason = TTL;
                } else {
                    hdr.ipv6.hop_limit = hdr.ipv6.hop_limit - 1;
                    if (meta.translation != 0) {
                        rewrite6.apply();
                    }
                    if (meta.rewrite == 1) {
                        rewrite_destination6();
                    }
                }
            }
            if (meta.reason == NONE && meta.difference != 0) {
                // RFC 1624, equation 3. A UDP checksum of zero means none and stays.
                meta.sum = meta.difference;
                if (hdr.tcp.isValid()) {
                    meta.sum = meta.sum + (bit<32>) (~hdr.tcp.checksum);
                } else if (hdr.udp.isValid()) {
                    meta.sum = meta.sum + (bit<32>) (~hdr.udp.checksum);
                } else if (hdr.icmp.isValid()) {
                    meta.sum = meta.sum + (bit<32>) (~hdr.icmp.checksum);
                }
                meta.sum = (bit<32>) meta.sum[31:16] + (bit<32>) meta.sum[15:0];
                meta.sum = (bit<32>) meta.sum[31:16] + (bit<32>) meta.sum[15:0];
                if (hdr.tcp.isValid()) {
                    hdr.tcp.checksum = ~meta.sum[15:0];
                } else if (hdr.udp.isValid()) {
                    if (hdr.udp.checksum != 0) {
                        hdr.udp.checksum = ~meta.sum[15:0];
                        if (hdr.udp.checksum == 0) {
                            hdr.udp.checksum = 0xffff;
                        }
                    }
                } else if (hdr.icmp.isValid() && hdr.ipv6.isValid()) {
                    hdr.icmp.checksum = ~meta.sum[15:0];
                }
            }

            // 8. Out.
            if (meta.reason == NONE && meta.way == TO_PORT) {
                hdr.outer_ethernet.setInvalid();
                hdr.outer_ipv4.setInvalid();
                hdr.outer_ipv6.setInvalid();
                hdr.outer_udp.setInvalid();
                hdr.vxlan.setInvalid();
                router.apply();
                standard_metadata.egress_spec = meta.out_port;
            } else if (meta.reason == NONE) {
                vtep.apply();
                if (hdr.ipv4.isValid()) {
                    meta.entropy = hdr.ipv4.source[15:0] ^ hdr.ipv4.source[31:16] ^ hdr.ipv4.destination[15:0] ^ hdr.ipv4.destination[31:16];
                } else {
                    meta.entropy = hdr.ipv6.source[15:0] ^ hdr.ipv6.source[79:64] ^ hdr.ipv6.destination[15:0] ^ hdr.ipv6.destination[79:64];
                }
                meta.entropy = meta.entropy ^ meta.x ^ meta.y;
                hdr.outer_udp.setValid();
                hdr.outer_udp.source_port = meta.entropy | 0xc000;
                hdr.outer_udp.destination_port = VXLAN_PORT;
                hdr.outer_udp.length = meta.length[15:0] + 30;
                hdr.outer_udp.checksum = 0;
                hdr.vxlan.setValid();
                hdr.vxlan.flags = 8;
                hdr.vxlan.reserved = 0;
                hdr.vxlan.vni = meta.out_vni;
                hdr.vxlan.reserved2 = 0;
                standard_metadata.egress_spec = UNDERLAY_PORT;
            }
        }

        if (meta.reason != NONE) {
            drops.count((bit<32>) meta.reason);
            mark_to_drop(standard_metadata);
        }
    }
}

control PartywallEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    apply {
    }
}

control PartywallUpdate(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum(hdr.outer_ipv4.isValid(), { hdr.outer_ipv4.version, hdr.outer_ipv4.ihl, hdr.outer_ipv4.traffic_class, hdr.outer_ipv4.total_length, hdr.outer_ipv4.identification, hdr.outer_ipv4.reserved, hdr.outer_ipv4.dont_fragment, hdr.outer_ipv4.more_fragments, hdr.outer_ipv4.fragment_offset, hdr.outer_ipv4.ttl, hdr.outer_ipv4.protocol, hdr.outer_ipv4.source, hdr.outer_ipv4.destination }, hdr.outer_ipv4.checksum, HashAlgorithm.csum16);
        update_checksum(hdr.ipv4.isValid(), { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.traffic_class, hdr.ipv4.total_length, hdr.ipv4.identification, hdr.ipv4.reserved, hdr.ipv4.dont_fragment, hdr.ipv4.more_fragments, hdr.ipv4.fragment_offset, hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.source, hdr.ipv4.destination }, hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control PartywallDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.outer_ethernet);
        packet.emit(hdr.outer_ipv4);
        packet.emit(hdr.outer_ipv6);
        packet.emit(hdr.outer_udp);
        packet.emit(hdr.vxlan);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.arp);
        packet.emit(hdr.ipv4);
        packet.emit(hdr.ipv6);
        packet.emit(hdr.tcp);
        packet.emit(hdr.udp);
        packet.emit(hdr.sctp);
        packet.emit(hdr.icmp);
    }
}

V1Switch(PartywallParser(), PartywallVerify(), PartywallIngress(), PartywallEgress(), PartywallUpdate(), PartywallDeparser()) main;
