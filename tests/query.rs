//! `query`: what it prints, and what it refuses.

mod support;

use support::schema::{named, violations};
use support::{project, report, run};

const QUICKSTART: &str = "examples/01-quickstart";
const DATACENTER: &str = "examples/02-datacenter";

#[test]
fn boxes_are_lines() {
    let told = |project: &str, flows: &str| run(["query", project, flows]).expect(0).stdout;
    assert_eq!(
        told(QUICKSTART, "any -> any"),
        "payments 10.1.0.0/24 -> payments 10.1.0.0/24 : icmp/8\n\
         shop 10.1.0.0/24 -> payments 10.1.0.0/24 : tcp/443 via edge\n\
         shop 10.1.0.0/24 -> shop 10.1.1.0/24 : tcp/5432\n\
         shop 10.1.0.0/23 -> shop 10.1.0.0/23 : icmp/8\n"
    );
    // Real addresses, clipped to what was asked, in the words of a test.
    assert_eq!(
        told(
            DATACENTER,
            "shop.staging | shop.live & 10.1.0.128/25 -> payments.front-door | shop.caches : tcp"
        ),
        "shop 10.1.0.128/26 -> payments 10.1.0.16/28 : tcp/443 via core\n\
         shop 10.1.0.128/25 -> shop 10.1.1.32/28 : tcp/6379\n"
    );
    assert_eq!(told(QUICKSTART, "payments -> shop"), "no flow of these is allowed\n");
}

#[test]
fn tables_are_csv() {
    let told =
        run(["query", DATACENTER, "shop.web & 10.1.0.0/31 -> payments | shop.databases", "--format", "csv"]);
    assert_eq!(
        told.expect(0).stdout,
        "source_kind,source,source_addresses,destination_kind,destination,destination_addresses,family,service,via\r\n\
         tenant,shop,10.1.0.0/31,tenant,payments,10.1.0.16/28,IPv4,tcp/443,core\r\n\
         tenant,shop,10.1.0.0/31,tenant,shop,10.1.1.9,IPv4,icmp/8 | tcp/5432,\r\n"
    );
}

#[test]
fn documents_fit_their_schema() {
    let schema = named("query-1.schema.json");
    for (project, flows, some) in [
        (DATACENTER, "any -> any", true),
        (QUICKSTART, "any -> any", true),
        (QUICKSTART, "payments -> shop", false),
    ] {
        let document = run(["query", project, flows, "--format", "json"]).expect(0).json();
        report(&violations(&schema, &document));
        assert_eq!(document["query"], flows);
        assert_eq!(!document["flows"].as_array().unwrap().is_empty(), some, "{project} {flows}");
    }
}

#[test]
fn a_query_in_error_is_shown_where_it_is() {
    for (flows, code, place) in [
        ("shop -> shopp", "PW0101", "<query>:1:9"),
        ("shop -> payments : tcpp", "PW0101", "<query>:1:20"),
        ("shop -> https", "PW0103", "<query>:1:9"),
        ("10.0.0.0/8 -> shop", "PW0103", "<query>:1:1"),
        ("shop -> ", "PW0001", "<query>:1:"),
        ("shop -> shop } test \"x\" {", "PW0001", "<query>:1:"),
    ] {
        let told = run(["query", QUICKSTART, flows]).expect(2);
        assert!(told.stdout.is_empty(), "{flows}");
        assert!(told.stderr.contains(code) && told.stderr.contains(place), "{flows}: {}", told.stderr);
        assert!(told.stderr.contains("the query cannot be read"), "{flows}: {}", told.stderr);
    }
}

#[test]
fn a_project_without_a_meaning_is_refused() {
    let told = run(["query", "examples/03-broken", "any -> any"]).expect(1);
    assert!(told.stdout.is_empty() && told.stderr.contains("cannot tell what is allowed"), "{}", told.stderr);
    run(["query", "nowhere", "any -> any"]).expect(2);
    // What policies say of each other leaves no meaning open.
    let text = "fabric f { encap vxlan port 4789 underlay mtu 1500 family ipv4 precedence tenant delegate tenant }\n\
        tenant shop id 1 { segment a vni 10 { 10.1.0.0/24 } }\n\
        policy p for shop in tenant { allow shop -> shop : tcp/1 allow shop -> shop : tcp/1 }\n";
    let folder = project([("p.pw", text.as_bytes())]);
    let told = run(["query", folder.path().to_str().unwrap(), "any -> any"]).expect(0);
    assert_eq!(told.stdout, "shop 10.1.0.0/24 -> shop 10.1.0.0/24 : tcp/1\n");
}
